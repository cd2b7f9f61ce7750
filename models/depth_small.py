"""A depth network of about a million weights: how near each pixel is, one frame at a time.

A residual encoder with self-attention over its coarsest level (whether something is near is a question
about the whole picture) and a decoder that fuses the levels from coarse to fine, as DPT does
(Ranftl et al. 2021, figure 1), at a size that a laptop runs in milliseconds.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn


@dataclass(frozen=True, kw_only=True, slots=True)
class DepthSmallConfig:
    """The sizes of the network; they travel with its weights."""

    channels: tuple[int, ...] = (32, 64, 96, 128)  # of the levels at 1/2, 1/4, 1/8 and 1/16
    blocks: tuple[int, ...] = (1, 1, 2, 2)  # residual blocks of each level
    fusion: tuple[int, ...] = (32, 48, 64, 64)  # channels of the decoder at the same levels
    heads: int = 4
    norm_width: int = 16  # channels of a GroupNorm group; fewer are slow in bf16


class DepthSmall(nn.Module):
    """RGB (n, 3, h, w) in [-1, 1], sides multiples of 16, to relative inverse depth (n, h, w) in (0, 1), 1 = near.

    It learns at 128 x 128; other sizes and shapes work, as convolutions and attention take any.
    """

    SHORT_SIDE, MULTIPLE = 128, 16

    def __init__(self, config: DepthSmallConfig = DepthSmallConfig()):
        super().__init__()
        self.config = config
        widths, fusion, norm_width = config.channels, config.fusion, config.norm_width
        inputs = (5, *widths[:-1])  # RGB and where in the picture: the ground is below
        self.levels = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(before, width, 3, stride=2, padding=1),
                *(ResBlock(width, norm_width) for _ in range(blocks)),
            )
            for before, width, blocks in zip(inputs, widths, config.blocks, strict=True)
        )
        self.attention = Attention(widths[-1], config.heads, norm_width)
        self.laterals = nn.ModuleList(nn.Conv2d(w, f, 1) for w, f in zip(widths, fusion, strict=True))
        self.fusions = nn.ModuleList(ResBlock(f, norm_width) for f in fusion)
        self.descents = nn.ModuleList(
            nn.Conv2d(coarse, fine, 1) for coarse, fine in zip(fusion[1:], fusion[:-1], strict=True)
        )
        self.head = nn.Sequential(nn.Conv2d(fusion[0], 4, 3, padding=1), nn.PixelShuffle(2))

    def prepare(self, frames: Tensor) -> Tensor:
        """Pixels (n, 3, H, W) in [-1, 1]: shorter side to 128, proportions kept but for rounding to multiples of 16."""
        scale = self.SHORT_SIDE / min(frames.shape[2:])
        size = [max(1, round(side * scale / self.MULTIPLE)) * self.MULTIPLE for side in frames.shape[2:]]
        return F.interpolate(frames, size, mode="bilinear", align_corners=False, antialias=True)

    def inverse_depth(self, frames: Tensor) -> Tensor:
        """Prepared frames (n, 3, h, w) -> (n, h, w)."""
        return self(frames)

    def forward(self, frames: Tensor) -> Tensor:
        # Encode
        x = torch.cat([frames, coordinates(frames)], dim=1)
        features = []
        for level in self.levels:
            x = level(x)
            features.append(x)
        features[-1] = self.attention(features[-1])

        # Decode
        x = self.fusions[-1](self.laterals[-1](features[-1]))
        for i in reversed(range(len(self.descents))):
            x = enlarge(self.descents[i](x)) + self.laterals[i](features[i])
            x = self.fusions[i](x)
        return self.head(x).float().sigmoid().squeeze(1)


class ResBlock(nn.Module):
    """Two normalised 3 x 3 convolutions beside the identity."""

    def __init__(self, width: int, norm_width: int):
        super().__init__()
        self.norm1, self.norm2 = nn.GroupNorm(width // norm_width, width), nn.GroupNorm(width // norm_width, width)
        self.conv1 = nn.Conv2d(width, width, 3, padding=1)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)
        nn.init.zeros_(self.conv2.weight)
        nn.init.zeros_(self.conv2.bias)

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv1(F.silu(self.norm1(x)))
        return x + self.conv2(F.silu(self.norm2(h)))


class Attention(nn.Module):
    """Every place of the coarsest level looks at every other."""

    def __init__(self, width: int, heads: int, norm_width: int):
        super().__init__()
        self.heads = heads
        self.norm = nn.GroupNorm(width // norm_width, width)
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        height = x.shape[2]
        tokens = rearrange(self.norm(x), "n c h w -> n (h w) c")
        q, k, v = rearrange(self.qkv(tokens), "n s (three m d) -> three n m s d", three=3, m=self.heads)
        h = rearrange(F.scaled_dot_product_attention(q, k, v), "n m s d -> n s (m d)")
        return x + rearrange(self.out(h), "n (h w) c -> n c h w", h=height)


def coordinates(frames: Tensor) -> Tensor:
    """(n, c, h, w) -> (n, 2, h, w): column and row of each pixel, from -1 (left, top) to 1."""
    n, _, height, width = frames.shape
    x = torch.linspace(-1, 1, width, device=frames.device, dtype=frames.dtype)
    y = torch.linspace(-1, 1, height, device=frames.device, dtype=frames.dtype)
    return torch.stack(torch.meshgrid(x, y, indexing="xy")).expand(n, -1, -1, -1)


def enlarge(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
