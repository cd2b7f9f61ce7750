"""The training loop of all networks: a rate that rises and falls, averaged weights, and checkpoints.

Progress is counted in samples seen, and everything random is drawn from (seed, samples seen), so that a run that
was stopped and resumed repeats the uninterrupted one. Under ``torchrun`` every process takes its share of each batch
and gradients are averaged.
"""

import copy
import functools
import math
import os
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn

from models import precision
from storycli import processes
from storycli.errors import StoryError


@dataclass(frozen=True, kw_only=True, slots=True)
class FitSettings:
    """How long and how fast to learn."""

    samples: int
    batch_size: int  # over all processes
    learning_rate: float = 1e-3
    weight_decay: float = 0.02
    optimizer: str = "adamw"  # adamw | muon
    warmup: int = 2000  # samples
    cooldown: float = 1.0  # the last share of the run, over which the rate falls
    average_over: int = 4000  # samples; the result is an exponential average of the weights
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a run stands: samples seen of how many, the smoothed loss, samples a second."""

    seen: int
    samples: int
    loss: Tensor  # (), where the training runs: reading it waits for the device
    speed: float


def fit(
    network: nn.Module,
    loss: Callable[[nn.Module, np.random.Generator], Tensor],
    settings: FitSettings,
    *,
    checkpoint: Path,
    every: float = 60,
    progress: Callable[[int, int, Tensor], None] | None = None,
    belongs_to: Mapping[str, object] | None = None,
) -> nn.Module:
    """Trains a network and returns the average of its weights, in evaluation mode.

    ``loss(network, rng)`` makes a batch from the random generator and returns a scalar. ``progress(seen, samples,
    loss)`` is called after each step. Otherwise as ``steps``.
    """
    average = averaged(network)

    def drawn(network: nn.Module, seen: int) -> Tensor:
        return loss(network, np.random.default_rng((settings.seed, seen)))

    for now in steps(network, average, drawn, settings, checkpoint=checkpoint, every=every, belongs_to=belongs_to):
        if progress:
            progress(now.seen, now.samples, now.loss)
    return average


def steps(
    network: nn.Module,
    average: nn.Module,
    loss: Callable[[nn.Module, int], Tensor],
    settings: FitSettings,
    *,
    checkpoint: Path,
    every: float = 60,
    on_checkpoint: Callable[[int], None] | None = None,
    belongs_to: Mapping[str, object] | None = None,
) -> Iterator[Progress]:
    """Trains what ``network`` does not have frozen, a step at a time; ``average`` follows it.

    ``loss(network, seen)`` makes this process's share of the batch that comes after ``seen`` samples, and returns the
    mean over it. Every ``every`` seconds, and at the end, the first process calls ``on_checkpoint(seen)`` and the state
    goes to ``checkpoint``; when that file is there the run goes on from it. Raises StoryError when the
    checkpoint belongs to other settings, or to a run that ``belongs_to`` tells apart.
    """
    told = asdict(settings) | dict(belongs_to or {})
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    optimizer = optimizer_for(trained, settings)
    seen = resume(checkpoint, told, network, average, optimizer) if checkpoint.exists() else 0
    rank, _ = processes.place()
    network.train()
    started, start, saved, smooth = time.monotonic(), seen, time.monotonic(), None
    while seen < settings.samples:
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(seen, settings)
        value = loss(network, seen)
        value.backward()
        average_gradients(trained)
        nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        seen += settings.batch_size
        follow(average, network, seen, settings)
        value = value.detach()
        smooth = value if smooth is None else torch.lerp(smooth, value, 0.02)
        if rank == 0 and (time.monotonic() - saved > every or seen >= settings.samples):
            if on_checkpoint:
                on_checkpoint(seen)
            save(checkpoint, told, seen, network, average, optimizer)
            saved = time.monotonic()
        yield Progress(seen, settings.samples, smooth, (seen - start) / (time.monotonic() - started))


def random_source(*key: int) -> torch.Generator:
    """A generator whose numbers hang on the whole of ``key``, of numbers that are not negative.

    Of a seed that is given to torch itself only the last 32 bits count.
    """
    return torch.Generator().manual_seed(int(np.random.SeedSequence(key).generate_state(1)[0]))


def optimizer_for(parameters: list[nn.Parameter], settings: FitSettings) -> torch.optim.Optimizer:
    """AdamW; or Muon (Jordan 2024), which takes a step of the same length in all directions of a matrix.

    Muon leaves what is not a matrix, biases and norms, to AdamW, and its rates mean what those of AdamW do.
    """
    how = {"weight_decay": settings.weight_decay, "betas": (0.9, 0.99)}
    if settings.optimizer == "muon":
        from timm.optim import Muon

        if not precision.quick_in_bf16(parameters[0].device):
            orthogonalise_in_fp32()
        return Muon(parameters, nesterov=True, **how)
    return torch.optim.AdamW(parameters, fused=True, **how)


@functools.cache
def orthogonalise_in_fp32() -> None:
    """Have timm's Muon multiply matrices in fp32; it knows no setting for that.

    Processors that do not multiply in bf16 imitate it: a step of the built-in model then takes 22 s in place of 1.
    """
    from timm.optim import muon

    muon.zeropower_via_newtonschulz = functools.partial(muon.zeropower_via_newtonschulz, dtype=torch.float32)


def learning_rate(seen: int, settings: FitSettings) -> float:
    """Linear warm-up; over the last ``cooldown`` of the run half a cosine down to a hundredth."""
    warm = min(1.0, (seen + settings.batch_size) / settings.warmup)
    left = min(1.0, (1 - seen / settings.samples) / settings.cooldown)
    return settings.learning_rate * warm * (0.505 - 0.495 * math.cos(math.pi * left))


def averaged(network: nn.Module) -> nn.Module:
    """A copy to hold the average of a network's weights."""
    return copy.deepcopy(network).eval().requires_grad_(False)


@torch.no_grad()
def follow(average: nn.Module, network: nn.Module, seen: int, settings: FitSettings) -> None:
    """Exponential moving average: of the last twentieth of a young run, of ``average_over`` samples of an old one."""
    rate = max(settings.batch_size / settings.average_over, 20 / (20 + seen / settings.batch_size))
    torch._foreach_lerp_(list(average.parameters()), list(network.parameters()), min(1.0, rate))


def average_gradients(parameters: list[nn.Parameter]) -> None:
    """Give every process of a ``torchrun`` job the mean of their gradients."""
    if not dist.is_initialized():
        return
    gradients = [p.grad for p in parameters if p.grad is not None]
    flat = torch.cat([gradient.flatten() for gradient in gradients])
    dist.all_reduce(flat)
    parts = (flat / dist.get_world_size()).split([gradient.numel() for gradient in gradients])
    torch._foreach_copy_(gradients, [part.view_as(gradient) for part, gradient in zip(parts, gradients, strict=True)])


def save(path: Path, settings: Mapping, seen: int, network: nn.Module, average: nn.Module, optimizer) -> None:
    """A checkpoint that appears by renaming only."""
    state = {
        "settings": settings,
        "seen": seen,
        "network": network.state_dict(),
        "average": average.state_dict(),
        "optimizer": optimizer.state_dict(),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.part")
    torch.save(state, partial)
    os.replace(partial, path)


def resume(path: Path, settings: Mapping, network: nn.Module, average: nn.Module, optimizer) -> int:
    """Puts the state of a checkpoint back and returns how many samples it had seen."""
    state = torch.load(path, map_location="cpu", weights_only=True)
    if state["settings"] != settings:
        raise StoryError(
            f"{path} was left by a training with other settings", "Delete it to start anew, or repeat those settings."
        )
    network.load_state_dict(state["network"])
    average.load_state_dict(state["average"])
    optimizer.load_state_dict(state["optimizer"])
    return state["seen"]
