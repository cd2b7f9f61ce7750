"""What training is worth: the loss on scenes that it never drew, as it goes on, and with each choice made otherwise."""

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from models import precision, structure, unet
from models.schedule import cosine
from models.structure import StructureConfig, StructureEncoder
from models.unet import UNetConfig, VideoUNet
from models.weights import load, load_minilm, read_metadata
from storycli.training.dataset import Shards, empty_context
from storycli.training.diffusion import Denoiser, TrainConfig, denoising_loss, pick_batch, train
from storycli.training.fit import averaged
from storycli.training.video import frames_seen

log = logging.getLogger(__name__)

AT_ONCE = 32  # frames
FOREGROUND = 1e6  # a weight beside which the rest of the picture counts for nothing
# Each choice of ``TrainConfig`` that is put to the test, made otherwise.
CHOICES: Mapping[str, Mapping[str, object]] = {
    "with the defaults": {},
    "predicts eps": {"predicts": "eps"},
    "without min-SNR": {"snr_limit": math.inf},
    "every frame its own noise": {"shared_noise": 0.0},
    "without foreground weight": {"foreground_weight": 0.0},
    "by AdamW": {"optimizer": "adamw"},
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Loss:
    """Errors of the clean sample, weighted by min(SNR, 5): over the picture, and where the characters are."""

    whole: float
    foreground: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Point:
    """One moment of a training."""

    seen: int
    stills: Loss
    clips: Loss


@torch.no_grad()
def held_out_loss(
    denoiser: Denoiser, shards: Shards, config: TrainConfig, empty_context: tuple[Tensor, Tensor], frames: int = 512
) -> Loss:
    """The loss on ``frames`` frames of some shards, with text and structure, always the same ones with the same noise.

    All networks are asked in the same way, whatever ``config`` weights by, and whether they predict v or eps.
    """
    asked = replace(config, drop_text=0.0, drop_structure=0.0, snr_limit=5.0, shared_noise=0.5)
    found: dict[float, list[float]] = {0.0: [], FOREGROUND: []}
    count = max(1, AT_ONCE // shards.frames)
    for number in range(max(1, frames // AT_ONCE)):
        batch = pick_batch(shards, count, torch.Generator().manual_seed(number))
        for weight, losses in found.items():
            generator = torch.Generator().manual_seed(number)
            with precision.autocast("cpu"):
                how = (cosine(), empty_context, replace(asked, foreground_weight=weight), generator, "cpu")
                losses.append(denoising_loss(denoiser, batch, *how).item())
    return Loss(whole=float(np.mean(found[0.0])), foreground=float(np.mean(found[FOREGROUND])))


def curve(weights: Sequence[Path], held: Path, frames: int = 512) -> dict[str, Point]:
    """The held-out losses of checkpoints, folders with ``unet.safetensors`` and ``structure.safetensors``, in order."""
    stills, clips, empty = Shards(held / "stills"), Shards(held / "clips"), empty_context(load_minilm())
    found = {}
    for folder in weights:
        network = load(folder / "unet.safetensors", VideoUNet, UNetConfig)
        denoiser = Denoiser(network, load(folder / "structure.safetensors", StructureEncoder, StructureConfig))
        path = folder / "unet.safetensors"
        config = TrainConfig(still_frames=0, clip_frames=0, predicts=read_metadata(path)["prediction"])
        losses = (held_out_loss(denoiser, shards, config, empty, frames) for shards in (stills, clips))
        found[folder.name] = Point(seen=frames_seen(path), **dict(zip(("stills", "clips"), losses, strict=True)))
        log.info("%s", found[folder.name])
    return dict(sorted(found.items(), key=lambda item: item[1].seen))


def power_law(seen: Sequence[int], losses: Sequence[float]) -> Callable[[int], float]:
    """The power of the samples seen that fits the losses best, as a function."""
    slope, level = np.polyfit(np.log(seen), np.log(losses), 1)
    return lambda frames: float(np.exp(level + slope * np.log(frames)))


def extrapolated(points: Mapping[str, Point], ahead: Sequence[int]) -> dict[str, Point]:
    """What the losses would be at other numbers of frames, by the power law of those at ``points``."""
    seen = [point.seen for point in points.values()]

    def later(kind: str, frames: int) -> Loss:
        known = [getattr(point, kind) for point in points.values()]
        whole, foreground = [loss.whole for loss in known], [loss.foreground for loss in known]
        return Loss(whole=power_law(seen, whole)(frames), foreground=power_law(seen, foreground)(frames))

    return {
        f"extrapolated to {frames:,}": Point(seen=frames, stills=later("stills", frames), clips=later("clips", frames))
        for frames in ahead
    }


def ablation(
    data: Path,
    held: Path,
    out: Path,
    *,
    still_frames: int,
    clip_frames: int,
    batch: int = 32,
    seed: int = 0,
    frames: int = 512,
) -> dict[str, Point]:
    """Train the built-in model a little from nothing, once with the defaults and once with each choice made otherwise.

    Every run sees the same samples, and is measured on ``frames`` frames of ``held``. What they leave under ``out``
    lets a stopped ablation go on.
    """
    stills, clips, empty = Shards(held / "stills"), Shards(held / "clips"), empty_context(load_minilm())
    base = TrainConfig(
        still_frames=still_frames,
        clip_frames=clip_frames,
        batch=batch,
        seed=seed,
        warmup=min(2000, still_frames),
        average_over=4000,
    )
    found = {}
    for name, choice in CHOICES.items():
        config, folder = replace(base, **choice), out / name.replace(" ", "-")
        for _ in train(config, unet.STORYBOOK, structure.STORYBOOK, data, folder, empty_context=empty):
            pass
        state = torch.load(folder / "joint.checkpoint", weights_only=True)
        denoiser = averaged(Denoiser(unet.STORYBOOK, structure.STORYBOOK))
        denoiser.load_state_dict(state["average"])
        losses = [held_out_loss(denoiser, shards, config, empty, frames) for shards in (stills, clips)]
        found[name] = Point(seen=config.frames, stills=losses[0], clips=losses[1])
        log.info("%s: %s", name, found[name])
    return found


def as_text(rows: Mapping[str, Point]) -> str:
    """A table of points as people read it, in Markdown."""
    heads = ("", "frames seen", "stills", "their foreground", "clips", "their foreground")
    lines = [heads, ["---"] * len(heads)]
    for name, point in rows.items():
        losses = (point.stills.whole, point.stills.foreground, point.clips.whole, point.clips.foreground)
        lines.append((name, f"{point.seen:,}", *(f"{loss:.4f}" for loss in losses)))
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
