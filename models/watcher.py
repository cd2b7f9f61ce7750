"""Who does what, and where? A video classifier of the storybook world, in whose features sets of clips are compared.

FVD compares videos in the features of a network that learnt to tell the actions of people apart (I3D, Carreira and
Zisserman 2017). This is its like for a world that I3D has never seen. No generator learns from it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn


@dataclass(frozen=True, kw_only=True, slots=True)
class WatcherConfig:
    """What it tells apart, and the sizes of the network; they travel with its weights."""

    characters: tuple[str, ...]
    actions: tuple[str, ...]
    places: tuple[str, ...]
    cameras: tuple[str, ...]
    channels: tuple[int, ...] = (16, 32, 64, 128)  # of the levels at 1/2, 1/4, 1/8 and 1/16
    num_frames: int = 8  # evenly spread over a clip
    norm_width: int = 16  # channels of a GroupNorm group


COMPARED = 1  # the level whose features sets of clips are compared by
QUESTIONS = ("character", "action", "place", "camera")


class Watcher(nn.Module):
    """Clips (b, 3, f, H, W) in [-1, 1], of ``num_frames`` frames -> for each question the logits of its answers."""

    def __init__(self, config: WatcherConfig):
        super().__init__()
        self.config = config
        before = (3, *config.channels[:-1])
        self.levels = nn.ModuleList(
            Level(c_in, c_out, config.norm_width, temporal=i > 0)
            for i, (c_in, c_out) in enumerate(zip(before, config.channels, strict=True))
        )
        self.answers = nn.ModuleDict(
            {name: nn.Linear(config.channels[-1], len(getattr(config, f"{name}s"))) for name in QUESTIONS}
        )

    def forward(self, video: Tensor) -> dict[str, Tensor]:
        seen = self.states(video)[-1].mean((2, 3, 4))
        return {name: answer(seen) for name, answer in self.answers.items()}

    def states(self, video: Tensor) -> list[Tensor]:
        """Clips (b, 3, f, H, W) -> what each level sees, (b, c, f, h, w)."""
        b = len(video)
        x, states = rearrange(video, "b c f h w -> (b f) c h w").contiguous(memory_format=torch.channels_last), []
        for level in self.levels:
            x = level(x, b)
            states.append(rearrange(x, "(b f) c h w -> b c f h w", b=b))
        return states

    def features(self, video: Tensor) -> Tensor:
        """Clips (b, 3, f, H, W) of two frames or more -> (b, 3 c), to compare sets of clips by.

        Of each channel of the level at 1/4: the mean, and the logarithms of its spread and of its change from frame to
        frame. They see blur, noise, shimmer and broken motion; deeper levels, which learnt to say who is where, look
        past these.
        """
        x = self.states(video)[COMPARED].float()
        width, change = x.std((2, 3, 4)), x.diff(dim=2).abs().mean((2, 3, 4))
        return torch.cat([x.mean((2, 3, 4)), (width + 1e-3).log(), (change + 1e-3).log()], dim=1)


class Level(nn.Module):
    """Half the size in space, then a residual block that looks around and, if ``temporal``, ahead and back."""

    def __init__(self, c_in: int, c: int, norm_width: int, *, temporal: bool):
        super().__init__()
        self.down = nn.Conv2d(c_in, c, 4, stride=2, padding=1)
        self.norm = nn.GroupNorm(c // norm_width, c)
        self.over_space = nn.Conv2d(c, c, 3, padding=1, groups=1 if temporal else c)
        self.over_time = nn.Conv1d(c, c, 3, padding=1) if temporal else None

    def forward(self, x: Tensor, b: int) -> Tensor:
        x = self.down(x)
        h = self.over_space(F.silu(self.norm(x)))
        if self.over_time is not None:
            height = h.shape[2]
            lines = rearrange(F.silu(h), "(b f) c h w -> (b h w) c f", b=b)
            h = h + rearrange(self.over_time(lines), "(b h w) c f -> (b f) c h w", b=b, h=height)
        return x + h


def spread(frames: Sequence, count: int) -> list[int]:
    """The indices of ``count`` frames evenly spread over a clip, or of them all."""
    count = min(count, len(frames))
    return [i * len(frames) // count for i in range(count)]
