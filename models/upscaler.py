"""The storybook model's last step: four times more pixels, with the edges of a clean drawing."""

from dataclasses import dataclass

import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn


@dataclass(frozen=True, kw_only=True, slots=True)
class UpscalerConfig:
    """``blocks`` residual blocks of ``channels`` at the low resolution, then one shuffle by ``factor``."""

    factor: int = 4
    channels: int = 48
    blocks: int = 4


class Upscaler(nn.Module):
    """Pixels in [-1, 1] to ``factor`` times the height and width: bicubic plus what a network adds.

    All work is done at the low resolution, so a frame of 128 x 128 costs some 6 GFLOP. Each frame is treated alone
    and without noise: steady input gives steady output.
    """

    def __init__(self, config: UpscalerConfig | None = None):
        super().__init__()
        self.config = config or UpscalerConfig()
        width, factor = self.config.channels, self.config.factor
        self.first = nn.Conv2d(3, width, 3, padding=1)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.Conv2d(width, width, 3, padding=1), nn.SiLU(), nn.Conv2d(width, width, 3, padding=1))
            for _ in range(self.config.blocks)
        )
        self.last = nn.Conv2d(width, 3 * factor**2, 3, padding=1)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)

    def forward(self, pixels: Tensor) -> Tensor:
        """Video (b, 3, f, H, W) or images (b, 3, H, W) -> the same rank at ``factor`` times H and W."""
        if pixels.ndim == 5:
            frames = self(rearrange(pixels, "b c f h w -> (b f) c h w"))
            return rearrange(frames, "(b f) c h w -> b c f h w", b=len(pixels))
        features = self.first(pixels)
        for block in self.blocks:
            features = features + block(features)
        detail = F.pixel_shuffle(self.last(F.silu(features)), self.config.factor)
        smooth = F.interpolate(pixels.float(), scale_factor=self.config.factor, mode="bicubic", align_corners=False)
        return smooth + detail
