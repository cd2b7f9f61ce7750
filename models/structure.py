"""The structure encoder: depth in, features for the levels of the U-Net out (He et al. 2023, arXiv 2307.06940)."""

from dataclasses import dataclass

import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn


@dataclass(frozen=True, kw_only=True, slots=True)
class StructureConfig:
    channels: tuple[int, ...]
    blocks_per_level: int = 2
    patch: int = 8  # pixels per latent cell


LVDM = StructureConfig(channels=(320, 640, 1280, 1280))
STORYBOOK = StructureConfig(channels=(64, 128, 192), blocks_per_level=1)


class StructureBlock(nn.Module):
    """x + conv1x1(relu(conv3x3(x))), after pooling and widening where a level begins."""

    def __init__(self, c_in: int, c_out: int, down: bool):
        super().__init__()
        self.down = down
        self.in_conv = nn.Conv2d(c_in, c_out, 1) if c_in != c_out else None
        self.block1 = nn.Conv2d(c_out, c_out, 3, padding=1)
        self.block2 = nn.Conv2d(c_out, c_out, 1)

    def forward(self, x: Tensor) -> Tensor:
        if self.down:
            x = F.avg_pool2d(x, 2)
        if self.in_conv is not None:
            x = self.in_conv(x)
        return x + self.block2(F.relu(self.block1(x)))


class StructureEncoder(nn.Module):
    """A T2I-Adapter (Mou et al. 2023) applied to every depth frame on its own.

    depth (b, 1, f, H, W) in [-1, 1], 1 = near -> one tensor (b, c_i, f, h_i, w_i) per level of the U-Net.
    """

    def __init__(self, config: StructureConfig):
        super().__init__()
        self.config = config
        self.conv_in = nn.Conv2d(config.patch**2, config.channels[0], 3, padding=1)
        self.body = nn.ModuleList()
        c_in = config.channels[0]
        for level, c in enumerate(config.channels):
            for block in range(config.blocks_per_level):
                self.body.append(StructureBlock(c_in, c, down=level > 0 and block == 0))
                c_in = c

    def forward(self, depth: Tensor) -> list[Tensor]:
        f = depth.shape[2]
        x = F.pixel_unshuffle(rearrange(depth, "b c f h w -> (b f) c h w"), self.config.patch)
        x = self.conv_in(x)
        features = []
        for index, block in enumerate(self.body, start=1):
            x = block(x)
            if index % self.config.blocks_per_level == 0:
                features.append(rearrange(x, "(b f) c h w -> b c f h w", f=f))
        return features
