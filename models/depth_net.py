"""Published depth networks and what is done to their output: video in, inverse depth out.

All of them look at one frame at a time and give inverse depth of unknown scale and shift, larger = nearer. A
network offers ``prepare(frames)`` and ``inverse_depth(prepared)``; scaling is a separate choice
(``scale_clip``, ``scale_frames``).
"""

import re
from typing import Protocol

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn
from transformers import (
    DepthAnythingConfig,
    DepthAnythingForDepthEstimation,
    DPTConfig,
    DPTForDepthEstimation,
)

from models.frozen_in_time import IMAGENET_MEAN, IMAGENET_STD


class DepthNetwork(Protocol):
    def prepare(self, frames: Tensor) -> Tensor:
        """Pixels (n, 3, H, W) in [-1, 1] at the size and range that the network was trained on."""

    def inverse_depth(self, frames: Tensor) -> Tensor:
        """Prepared frames (n, 3, h, w) -> (n, h, w)."""


class DptHybrid(nn.Module):
    """MiDaS v3 dpt_hybrid (Ranftl et al. 2021): ResNet-50 and ViT-B, always at 384x384."""

    SIZE = (384, 384)

    def __init__(self) -> None:
        super().__init__()
        self.model = DPTForDepthEstimation(
            DPTConfig(
                is_hybrid=True,
                hidden_size=768,
                num_hidden_layers=12,
                num_attention_heads=12,
                intermediate_size=3072,
                backbone_out_indices=[2, 5, 8, 11],
                neck_hidden_sizes=[256, 512, 768, 768],
                reassemble_factors=[1, 1, 1, 0.5],
                readout_type="project",
                neck_ignore_stages=[0, 1],
                fusion_hidden_size=256,
                use_batch_norm_in_fusion_residual=False,
                layer_norm_eps=1e-6,
            )
        )

    def prepare(self, frames: Tensor) -> Tensor:
        """Pixels (n, 3, H, W) in [-1, 1] squashed to 384x384, bicubic, neither antialiased nor clamped."""
        return F.interpolate(frames, self.SIZE, mode="bicubic", align_corners=False)

    def inverse_depth(self, frames: Tensor) -> Tensor:
        """Frames (n, 3, 384, 384) -> (n, 384, 384), 0 or more. Raises ValueError for another size."""
        if frames.shape[2:] != self.SIZE:
            raise ValueError(f"dpt_hybrid sees 384x384 frames only, not {tuple(frames.shape)}")
        return self.model(frames).predicted_depth


class DepthAnything(nn.Module):
    """Depth Anything V2 (Yang et al. 2024); the Small one is Apache-2.0. Keeps the aspect ratio."""

    def __init__(self, config: DepthAnythingConfig, short_side: int = 518):
        super().__init__()
        self.model = DepthAnythingForDepthEstimation(config)
        self.short_side = short_side
        self.patch = config.backbone_config.patch_size

    def prepare(self, frames: Tensor) -> Tensor:
        """Pixels (n, 3, H, W) in [-1, 1]: shorter side to 518, both multiples of the patch, normalised."""
        h, w = frames.shape[2:]
        scale = self.short_side / min(h, w)
        size = [max(1, round(side * scale / self.patch)) * self.patch for side in (h, w)]
        x = F.interpolate(frames, size, mode="bicubic", align_corners=False, antialias=True)
        mean, std = (torch.tensor(v, device=x.device)[:, None, None] for v in (IMAGENET_MEAN, IMAGENET_STD))
        return ((x + 1) / 2 - mean) / std

    def inverse_depth(self, frames: Tensor) -> Tensor:
        """Prepared frames (n, 3, h, w) -> (n, h, w)."""
        return self.model(frames).predicted_depth


@torch.no_grad()
def estimate(network: DepthNetwork, video: Tensor) -> Tensor:
    """Inverse depth (b, 1, f, H, W), unscaled, of pixels (b, 3, f, H, W) in [-1, 1], frame by frame.

    The last step is a bicubic resize to the size of the video, as VideoCrafter's depth adapter was trained with.
    """
    depths = []
    for frame in rearrange(video, "b c f h w -> (b f) c h w").split(1):
        depth = network.inverse_depth(network.prepare(frame))[:, None]
        depths.append(F.interpolate(depth, video.shape[3:], mode="bicubic", align_corners=False))
    return rearrange(torch.cat(depths), "(b f) c h w -> b c f h w", b=len(video))


def scale_frames(depth: Tensor) -> Tensor:
    """depth (b, 1, f, H, W) -> [0, 1] over every frame on its own, as VideoCrafter does; it flickers.

    A constant frame becomes 0. ``2 * scale_frames(d) - 1`` is the published adapter's input.
    """
    low, high = depth.amin((1, 3, 4), keepdim=True), depth.amax((1, 3, 4), keepdim=True)
    return (depth - low) / (high - low + 1e-7)


def scale_clip(depth: Tensor, cut: float = 0.0) -> Tensor:
    """depth (b, 1, f, H, W) -> [0, 1] over the whole clip, so that equal depth stays equal in all frames.

    ``cut`` is the share of pixels to clip at either end, so that a few outliers do not set the scale.
    """
    flat = depth.flatten(1).sort(dim=1).values
    n = flat.shape[1]
    first, last = int(cut * (n - 1)), n - 1 - int(cut * (n - 1))
    low, high = (flat[:, i].reshape(-1, 1, 1, 1, 1) for i in (first, last))
    return ((depth - low) / (high - low + 1e-7)).clamp(0, 1)


# MiDaS's names to transformers', applied in this order.
RENAMES = [
    (r"^pretrained\.model\.patch_embed\.backbone\.stem\.conv", "dpt.embeddings.backbone.bit.embedder.convolution"),
    (r"^pretrained\.model\.patch_embed\.backbone\.stem", "dpt.embeddings.backbone.bit.embedder"),
    (r"^pretrained\.model\.patch_embed\.backbone\.(.*)\.blocks", r"dpt.embeddings.backbone.bit.encoder.\1.layers"),
    (r"^pretrained\.model\.patch_embed\.proj", "dpt.embeddings.projection"),
    (r"^pretrained\.model\.cls_token", "dpt.embeddings.cls_token"),
    (r"^pretrained\.model\.pos_embed", "dpt.embeddings.position_embeddings"),
    (r"^pretrained\.model\.norm", "dpt.layernorm"),
    (r"^pretrained\.model\.blocks\.", "dpt.encoder.layer."),
    (r"(layer\.\d+)\.norm1", r"\1.layernorm_before"),
    (r"(layer\.\d+)\.norm2", r"\1.layernorm_after"),
    (r"\.mlp\.fc1", ".intermediate.dense"),
    (r"\.mlp\.fc2", ".output.dense"),
    (r"\.attn\.proj", ".attention.output.dense"),
    (r"\.attn\.qkv", ".attention.attention.qkv"),
    (r"^pretrained\.act_postprocess3\.0\.project", "neck.reassemble_stage.readout_projects.2"),
    (r"^pretrained\.act_postprocess4\.0\.project", "neck.reassemble_stage.readout_projects.3"),
    (r"^pretrained\.act_postprocess3\.3", "neck.reassemble_stage.layers.2.projection"),
    (r"^pretrained\.act_postprocess4\.3", "neck.reassemble_stage.layers.3.projection"),
    (r"^pretrained\.act_postprocess4\.4", "neck.reassemble_stage.layers.3.resize"),
    (r"^scratch\.layer(\d)_rn", lambda found: f"neck.convs.{int(found[1]) - 1}"),
    (r"^scratch\.refinenet(\d)", lambda found: f"neck.fusion_stage.layers.{4 - int(found[1])}"),
    (r"\.out_conv", ".projection"),
    (r"\.resConfUnit(\d)\.conv(\d)", r".residual_layer\1.convolution\2"),
    (r"^scratch\.output_conv", "head.head"),
]


def from_midas(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """MiDaS's dpt_hybrid state dict under transformers' names: q, k and v apart, the classifier left out."""
    renamed = {}
    for key, tensor in state.items():
        if key.startswith("pretrained.model.head."):
            continue
        for pattern, name in RENAMES:
            key = re.sub(pattern, name, key)
        if ".qkv." in key:
            for name, part in zip(("query", "key", "value"), tensor.chunk(3), strict=True):
                renamed[key.replace("qkv", name)] = part
        else:
            renamed[key] = tensor
    return renamed
