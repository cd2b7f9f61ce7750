"""The network that puts clips and sentences into one space: the built-in one, Frozen in Time, CLIP or SigLIP.

Sentences go through numpy when they can: a search then needs no torch.
"""

import functools
import hashlib
import json
import os
import threading
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import safetensors

from storycli import catalogue
from storycli.errors import StoryError
from storycli.library.sentences import minilm

BUILT_IN = catalogue.BUILT_IN / "storybook-retrieval.safetensors"
PIECES, PIECE = 64, 2**18  # of a large file of weights that its digest looks at, and their bytes


class UnusableWeights(StoryError):
    """Retrieval weights that are damaged or none: with them no video can be looked at."""


class Encoder:
    """A network from a file of Frozen in Time, or from a folder of CLIP or SigLIP as transformers keeps them.

    ``digest`` says which embeddings belong together. Raises StoryError when there are no such weights.
    """

    def __init__(self, path: Path = BUILT_IN, device: str = "cpu"):
        self.path, self.device = path, device
        self._loading = threading.Lock()
        try:
            self.digest = weights_digest(path / "model.safetensors" if path.is_dir() else path)
        except OSError as error:
            raise StoryError(
                f"{path}: the retrieval weights cannot be read: {error.strerror}",
                "An index answers only to the weights that made it: bring them back, or index again.",
            ) from error

    def __reduce__(self):
        return shared, (self.path, self.device)  # another process makes one of its own, once

    @property
    def identity(self) -> dict[str, str]:
        """What an index remembers of the encoder that made it; the built-in one is wherever storycli is."""
        where = "" if self.path == BUILT_IN else os.path.abspath(self.path)
        name = self.path.name if self.path.is_dir() else self.path.stem
        return {"name": name, "digest": self.digest, "weights": where}

    @cached_property
    def _projection(self) -> tuple[np.ndarray, np.ndarray] | None:
        """The map from MiniLM's sentences, of a network that has no text tower of its own."""
        if self.path.suffix != ".safetensors":
            return None
        try:
            with safetensors.safe_open(self.path, "numpy") as file:
                config = json.loads((file.metadata() or {}).get("config", "{}"))
                if config.get("text_layers") != 0:
                    return None
                weight, bias = (file.get_tensor(f"txt_proj.1.{part}").astype(np.float32) for part in ("weight", "bias"))
        except safetensors.SafetensorError as error:
            raise UnusableWeights(
                f"{self.path}: the retrieval weights cannot be read: {error}", "It may be cut off: get it again."
            ) from error
        return weight, bias

    @property
    def network(self):
        """The torch module, for clips, on ``device``; several threads may ask for it."""
        with self._loading:
            return self._network

    @cached_property
    def _network(self):
        from models import weights
        from models.frozen_in_time import FrozenInTime, FrozenInTimeConfig
        from models.precision import pick_device

        self.device = str(pick_device(self.device))
        try:
            if self.path.is_dir():
                return weights.load_image_text(self.path).to(self.device)
            if self._projection is not None:
                return weights.load(self.path, FrozenInTime, FrozenInTimeConfig).to(self.device)
            return weights.load_frozen_in_time(self.path).to(self.device)
        except weights.WeightsError as error:
            raise UnusableWeights(error.message, error.hint) from error

    def embed_text(self, sentences: Sequence[str], meant: np.ndarray | None = None) -> np.ndarray:
        """(n, d) float32, of length 1; ``meant`` (n, 384) is what MiniLM says of the sentences, where it was asked."""
        if self._projection is not None:
            weight, bias = self._projection
            return unit((minilm().embed(sentences) if meant is None else meant) @ weight.T + bias)
        import torch

        network = self.network
        tokens = (part if part is None else part.to(self.device) for part in network.tokenize(sentences))
        with torch.inference_mode():
            return unit(network.encode_text(*tokens).float().cpu().numpy())

    def embed_clips(self, clips: Sequence[np.ndarray], at_once: int = 16) -> np.ndarray:
        """Clips of at most ``num_frames`` frames uint8 (f, h, w, 3), all of one size, -> (n, d) float32 of length 1."""
        import torch
        from einops import rearrange

        network, vectors = self.network, []

        def prepared(clip: np.ndarray):
            pixels = torch.from_numpy(clip).to(self.device).float() / 127.5 - 1
            return network.preprocess(rearrange(pixels, "f h w c -> 1 c f h w"))

        with torch.inference_mode():
            for start in range(0, len(clips), at_once):
                batch = torch.cat([prepared(clip) for clip in clips[start : start + at_once]])
                vectors.append(network.encode_video(batch).float().cpu().numpy())
        return unit(np.concatenate(vectors))

    def sample(self, start: int, end: int) -> list[int]:
        """The frames of [start, end) that the network looks at."""
        from models.frozen_in_time import frame_indices

        return [start + i for i in frame_indices(self.network.config.num_frames, end - start)]

    def frame_size(self, width: int, height: int) -> tuple[int, int]:
        """The size at which to decode frames of a video: its proportions, the shorter side as the network wants it."""
        scale = self.network.config.resize / min(width, height)
        return max(1, round(width * scale)), max(1, round(height * scale))


def weights_digest(path: Path) -> str:
    """The sha256 of a file; of a large one, of its size and of pieces spread over it, as every search asks for it."""
    size = path.stat().st_size
    with path.open("rb") as file:
        if size <= 2 * PIECES * PIECE:
            return hashlib.file_digest(file, "sha256").hexdigest()
        content = hashlib.sha256(str(size).encode())
        for number in range(PIECES):
            file.seek((size - PIECE) * number // (PIECES - 1))
            content.update(file.read(PIECE))
    return content.hexdigest()


def unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-8)


@functools.cache
def shared(path: Path, device: str) -> Encoder:
    """The encoder of these weights that all work of this process shares."""
    return Encoder(path, device)
