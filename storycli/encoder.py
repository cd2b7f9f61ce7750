"""The network that puts clips and sentences into one space: the built-in one, or Frozen in Time as published.

Sentences go through numpy when they can: a search then needs no torch.
"""

import hashlib
import json
import threading
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import safetensors

from storycli.errors import StoryError
from storycli.sentences import minilm

BUILT_IN = Path(__file__).parent.parent / "models" / "weights" / "storybook-retrieval.safetensors"


class Encoder:
    """A Frozen in Time network from a file of weights.

    ``digest`` (the sha256 of the file) says which embeddings belong together. Raises StoryError when there is no such
    file.
    """

    def __init__(self, path: Path = BUILT_IN, device: str = "cpu"):
        self.path, self.device = path, device
        self._loading = threading.Lock()
        try:
            with path.open("rb") as file:
                self.digest = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise StoryError(f"{path}: the retrieval weights cannot be read: {error.strerror}") from error

    @property
    def identity(self) -> dict[str, str]:
        """What an index remembers of the encoder that made it."""
        return {"name": self.path.stem, "digest": self.digest}

    @cached_property
    def _projection(self) -> tuple[np.ndarray, np.ndarray] | None:
        """The map from MiniLM's sentences, of a network that has no text tower of its own."""
        if self.path.suffix != ".safetensors":
            return None
        with safetensors.safe_open(self.path, "numpy") as file:
            config = json.loads((file.metadata() or {}).get("config", "{}"))
            if config.get("text_layers") != 0:
                return None
            weight, bias = (file.get_tensor(f"txt_proj.1.{part}").astype(np.float32) for part in ("weight", "bias"))
        return weight, bias

    @property
    def network(self):
        """The torch module, for clips; several threads may ask for it."""
        with self._loading:
            return self._network

    @cached_property
    def _network(self):
        from models import weights
        from models.frozen_in_time import FrozenInTime, FrozenInTimeConfig

        try:
            if self._projection is not None:
                return weights.load(self.path, FrozenInTime, FrozenInTimeConfig).to(self.device)
            return weights.load_frozen_in_time(self.path).to(self.device)
        except weights.WeightsError as error:
            raise StoryError(error.message, error.hint) from error

    def embed_text(self, sentences: Sequence[str]) -> np.ndarray:
        """(n, d) float32, of length 1."""
        if self._projection is not None:
            weight, bias = self._projection
            return unit(minilm().embed(sentences) @ weight.T + bias)
        import torch

        with torch.inference_mode():
            return unit(self.network.encode_text(*self.network.tokenize(sentences)).numpy())

    def embed_clips(self, clips: Sequence[np.ndarray], at_once: int = 16) -> np.ndarray:
        """Clips of at most ``num_frames`` frames uint8 (f, h, w, 3), all of one size, -> (n, d) float32 of length 1."""
        import torch
        from einops import rearrange

        from models.frozen_in_time import preprocess

        def prepared(clip: np.ndarray):
            pixels = torch.from_numpy(clip).to(self.device).float() / 127.5 - 1
            return preprocess(rearrange(pixels, "f h w c -> 1 c f h w"), self.network.config)

        vectors = []
        with torch.inference_mode():
            for start in range(0, len(clips), at_once):
                batch = torch.cat([prepared(clip) for clip in clips[start : start + at_once]])
                vectors.append(self.network.encode_video(batch).float().cpu().numpy())
        return unit(np.concatenate(vectors))

    def sample(self, start: int, end: int) -> list[int]:
        """The frames of [start, end) that the network looks at."""
        from models.frozen_in_time import frame_indices

        return [start + i for i in frame_indices(self.network.config.num_frames, end - start)]

    def frame_size(self, width: int, height: int) -> tuple[int, int]:
        """The size at which to decode frames of a video: its proportions, the shorter side as the network wants it."""
        scale = self.network.config.resize / min(width, height)
        return max(1, round(width * scale)), max(1, round(height * scale))


def unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-8)
