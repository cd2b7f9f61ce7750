"""Who is it? A small network that tells characters of the storybook world apart, to measure identity with.

No generator learns from it, so what it says about generated pictures is evidence.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass(frozen=True, kw_only=True, slots=True)
class RecogniserConfig:
    """The sizes of the network, and whom it knows; they travel with its weights."""

    names: tuple[str, ...]
    channels: tuple[int, ...] = (16, 32, 64, 128)  # of the levels at 1/2, 1/4, 1/8 and 1/16
    width: int = 64  # of an embedding
    norm_width: int = 16  # channels of a GroupNorm group


class Recogniser(nn.Module):
    """Pictures (n, 3, 128, 128) in [-1, 1] to embeddings (n, width) of length 1, near each other for one character.

    Each character has a direction, and a picture shows the one whose direction is nearest (Wang et al. 2018, CosFace,
    without its margin).
    """

    def __init__(self, config: RecogniserConfig):
        super().__init__()
        self.config = config
        before = (3, *config.channels[:-1])
        self.levels = nn.Sequential(
            *(level(c_in, c_out, config.norm_width) for c_in, c_out in zip(before, config.channels, strict=True))
        )
        self.embedding = nn.Linear(2 * config.channels[-1], config.width)
        self.directions = nn.Parameter(torch.randn(len(config.names), config.width))

    def forward(self, pictures: Tensor) -> Tensor:
        x = self.levels(pictures)
        pooled = torch.cat([x.mean((2, 3)), x.amax((2, 3))], dim=1)
        return F.normalize(self.embedding(pooled).float(), dim=-1)

    def likeness(self, embeddings: Tensor) -> Tensor:
        """Cosines (n, characters) of embeddings to every character it knows, in the order of ``config.names``."""
        return embeddings @ F.normalize(self.directions, dim=-1).T


class ResBlock(nn.Module):
    def __init__(self, c: int, norm_width: int):
        super().__init__()
        self.norms = nn.ModuleList(nn.GroupNorm(c // norm_width, c) for _ in range(2))
        self.convs = nn.ModuleList(nn.Conv2d(c, c, 3, padding=1) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        h = x
        for norm, conv in zip(self.norms, self.convs, strict=True):
            h = conv(F.silu(norm(h)))
        return x + h


def level(c_in: int, c_out: int, norm_width: int) -> nn.Sequential:
    """Half the size, and a residual block."""
    return nn.Sequential(nn.Conv2d(c_in, c_out, 3, stride=2, padding=1), ResBlock(c_out, norm_width))
