"""The training loop of the small networks: AdamW, a warm-up and a cosine, averaged weights, and checkpoints.

Progress is counted in samples seen, and everything random is drawn from (seed, samples seen), so that a run that
was stopped and resumed repeats the uninterrupted one.
"""

import copy
import math
import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from storycli.errors import StoryError

Loss = Callable[[nn.Module, np.random.Generator], Tensor]


@dataclass(frozen=True, kw_only=True, slots=True)
class FitSettings:
    """How long and how fast to learn."""

    samples: int
    batch_size: int
    learning_rate: float = 1e-3
    weight_decay: float = 0.02
    warmup: int = 2000  # samples
    average_over: int = 4000  # samples; the result is an exponential average of the weights
    seed: int = 0


def fit(
    network: nn.Module,
    loss: Loss,
    settings: FitSettings,
    *,
    checkpoint: Path,
    every: float = 60,
    progress: Callable[[int, int, float], None] | None = None,
) -> nn.Module:
    """Trains a network and returns the average of its weights, in evaluation mode.

    ``loss(network, rng)`` makes a batch from the random generator and returns a scalar. Every ``every`` seconds the
    state goes to ``checkpoint``; when that file is there the run goes on from it. ``progress(seen, samples, loss)``
    is called after each step. Raises StoryError when the checkpoint belongs to other settings.
    """
    average = copy.deepcopy(network).eval().requires_grad_(False)
    optimizer = torch.optim.AdamW(network.parameters(), weight_decay=settings.weight_decay, betas=(0.9, 0.98))
    seen = resume(checkpoint, settings, network, average, optimizer) if checkpoint.exists() else 0
    network.train()
    saved = time.monotonic()
    while seen < settings.samples:
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(seen, settings)
        value = loss(network, np.random.default_rng((settings.seed, seen)))
        optimizer.zero_grad()
        value.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        seen += settings.batch_size
        follow(average, network, settings.batch_size / min(settings.average_over, seen + settings.batch_size))
        if progress:
            progress(seen, settings.samples, value.item())
        if time.monotonic() - saved > every:
            save(checkpoint, settings, seen, network, average, optimizer)
            saved = time.monotonic()
    return average


def learning_rate(seen: int, settings: FitSettings) -> float:
    """Linear warm-up, then half a cosine down to a hundredth."""
    warm = min(1.0, (seen + settings.batch_size) / settings.warmup)
    down = 0.505 + 0.495 * math.cos(math.pi * min(1.0, seen / settings.samples))
    return settings.learning_rate * warm * down


@torch.no_grad()
def follow(average: nn.Module, network: nn.Module, rate: float) -> None:
    for slow, fast in zip(average.parameters(), network.parameters(), strict=True):
        slow.lerp_(fast, rate)


def save(path: Path, settings: FitSettings, seen: int, network: nn.Module, average: nn.Module, optimizer) -> None:
    """A checkpoint that appears by renaming only."""
    state = {
        "settings": asdict(settings),
        "seen": seen,
        "network": network.state_dict(),
        "average": average.state_dict(),
        "optimizer": optimizer.state_dict(),
    }
    partial = path.with_name(f".{path.name}.part")
    torch.save(state, partial)
    os.replace(partial, path)


def resume(path: Path, settings: FitSettings, network: nn.Module, average: nn.Module, optimizer) -> int:
    """Puts the state of a checkpoint back and returns how many samples it had seen."""
    state = torch.load(path, weights_only=True)
    if state["settings"] != asdict(settings):
        raise StoryError(
            f"{path} was left by a training with other settings", "Delete it to start anew, or repeat those settings."
        )
    network.load_state_dict(state["network"])
    average.load_state_dict(state["average"])
    optimizer.load_state_dict(state["optimizer"])
    return state["seen"]
