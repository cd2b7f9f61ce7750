"""CLIP and SigLIP (1 and 2) as retrieval networks: a clip is the mean of what they see in a few of its frames.

The calls are those of ``FrozenInTime``, so that either can stand behind a library of clips.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn
from transformers import AutoTokenizer, CLIPConfig, CLIPModel, PreTrainedTokenizerBase, SiglipConfig, SiglipModel

KINDS = {"clip": (CLIPConfig, CLIPModel), "siglip": (SiglipConfig, SiglipModel)}
SMOOTHNESS = {2: "bilinear", 3: "bicubic"}  # Pillow's numbers


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageTextConfig:
    """How frames are chosen and made ready."""

    num_frames: int = 4
    resize: int  # the shorter side of a frame, before ...
    image_size: int  # ... a square of this size
    crop: bool  # the square is cut from the centre, or else the frame is squeezed into it
    smoothness: str
    mean: tuple[float, float, float]
    std: tuple[float, float, float]


class ImageText(nn.Module):
    """A network of transformers with an image tower and a text tower, from a folder as its hub has it.

    The folder has ``config.json``, ``preprocessor_config.json``, a tokenizer and ``model.safetensors``; the weights are
    put in by ``weights.load_image_text``. Raises ValueError for another kind of network.
    """

    def __init__(self, folder: Path):
        super().__init__()
        self.folder = folder
        told = json.loads((folder / "config.json").read_text())
        kind = told.get("model_type")
        if kind not in KINDS:
            raise ValueError(f"networks of the kind {kind} are not known, only {' and '.join(KINDS)}")
        config, network = KINDS[kind]
        self.model = network(config.from_dict(told))
        self.config = image_config(json.loads((folder / "preprocessor_config.json").read_text()))

    @cached_property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        return AutoTokenizer.from_pretrained(self.folder, local_files_only=True)

    def preprocess(self, video: Tensor) -> Tensor:
        """Pixels (b, 3, f, H, W) in [-1, 1] -> (b, 3, num_frames, size, size), as its own pictures were prepared.

        The last frame of a video with fewer frames is repeated.
        """
        config, f = self.config, self.config.num_frames
        video = video[:, :, torch.arange(f).clamp(max=video.shape[2] - 1)]
        x = rearrange((video + 1) / 2, "b c f h w -> (b f) c h w")
        h, w = x.shape[2:]
        size = (config.image_size, config.image_size)
        if config.crop:
            scale = config.resize / min(h, w)
            size = (config.resize, int(w * scale)) if h <= w else (int(h * scale), config.resize)
        x = F.interpolate(x, size, mode=config.smoothness, antialias=True, align_corners=False).clamp(0, 1)
        top, left = ((side - config.image_size) // 2 for side in x.shape[2:])
        x = x[..., top : top + config.image_size, left : left + config.image_size]
        mean, std = (torch.tensor(value, device=x.device)[:, None, None] for value in (config.mean, config.std))
        return rearrange((x - mean) / std, "(b f) c h w -> b c f h w", f=f)

    def encode_video(self, frames: Tensor) -> Tensor:
        """frames (b, 3, f, size, size) as ``preprocess`` makes them -> (b, d): the mean of the frames' directions."""
        pictures = rearrange(frames, "b c f h w -> (b f) c h w")
        seen = F.normalize(features(self.model.get_image_features(pixel_values=pictures)), dim=-1)
        return rearrange(seen, "(b f) d -> b f d", f=frames.shape[2]).mean(1)

    def encode_text(self, input_ids: Tensor, attention_mask: Tensor | None) -> Tensor:
        """Token ids and mask (b, l) -> (b, d)."""
        return features(self.model.get_text_features(input_ids=input_ids, attention_mask=attention_mask))

    def tokenize(self, prompts: Sequence[str]) -> tuple[Tensor, Tensor | None]:
        """Token ids (b, l) and mask; SigLIP has read padded sentences only, and no mask."""
        length = self.model.config.text_config.max_position_embeddings
        siglip = self.model.config.model_type == "siglip"
        tokens = self.tokenizer(
            [prompt.lower() for prompt in prompts] if siglip else list(prompts),
            padding="max_length" if siglip else True,
            truncation=True,
            max_length=length,
            return_tensors="pt",
        )
        return tokens["input_ids"], None if siglip else tokens["attention_mask"]


def image_config(told: dict[str, Any]) -> ImageTextConfig:
    """What ``preprocessor_config.json`` says. Raises ValueError for what it cannot be."""
    size, crop = told["size"], bool(told.get("do_center_crop"))
    square = told["crop_size"] if crop else size
    sides = {square} if isinstance(square, int) else {square["height"], square["width"]}
    if len(sides) != 1 or told.get("resample") not in SMOOTHNESS:
        raise ValueError("its pictures are prepared in a way that is not known")
    (side,) = sides
    shorter = size if isinstance(size, int) else size.get("shortest_edge", side)
    return ImageTextConfig(
        resize=shorter,
        image_size=side,
        crop=crop,
        smoothness=SMOOTHNESS[told["resample"]],
        mean=tuple(told["image_mean"]),
        std=tuple(told["image_std"]),
    )


def features(said: Any) -> Tensor:
    """The embeddings (b, d), which some versions of transformers hand out among other things."""
    return said if isinstance(said, Tensor) else said.pooler_output
