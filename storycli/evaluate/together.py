"""Two characters in one clip: does each stay itself? Measured against clips where both act everywhere."""

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor

from models import weights
from models.confined import standing_apart
from storycli.evaluate.trial import OURS, SCENES, SIZE, Stage, Study, staged
from storycli.processes import each
from storycli.render import sample, to_frames

EXTRAS = ("bear", "dog")  # who play the guides
FIRST_SEED = 850_000_000
KINDS = {"each in its region": True, "both everywhere": False}


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One way of having two in a clip: means over characters and frames, by the network that measures identity."""

    kind: str
    recognised: float  # share of figures that are nearer to the right one of the two
    own: float  # cosine of a figure to the pictures of who it is to be ...
    other: float  # ... and to those of the other one


def table(study: Study, folder: Path, scenes: int = 3, workers: int = 1) -> list[Row]:
    """Neighbouring characters of a study, which has been run, as pairs in scenes with two figures."""
    names = study.characters
    pairs = list(zip(names, (*names[1:], names[0]), strict=True))
    parts = [load_file(path) for path in each(functools.partial(pair, study, folder, scenes), pairs, workers)]
    rows = []
    for number, kind in enumerate(KINDS):
        own, other = (torch.stack([part[key][number] for part in parts]) for key in ("own", "other"))
        right = (own > other).float().mean().item()
        rows.append(Row(kind=kind, recognised=right, own=own.mean().item(), other=other.mean().item()))
    return rows


def pair(study: Study, folder: Path, scenes: int, names: tuple[str, str]) -> Path:
    """Measures ``own`` and ``other`` (kinds, scenes, figures, frames) of two characters; ``frames`` to look at."""
    stage = staged(study, folder)
    both = "+".join(names)
    path = folder / "cells" / f"{both}--{stage.key((f'{both} in {scenes} scenes', OURS))}.safetensors".replace(" ", "-")
    if path.exists():
        return path
    heroes = [stage.hero(name, OURS) for name in names]
    cast = dict(zip(("left", "right"), (stage.learnt(hero, OURS) for hero in heroes), strict=True))
    pictures = torch.stack([stage.embed(stage.pictures(name)).mean(0) for name in names])
    parts = []
    for number, scene in enumerate(SCENES[:scenes]):
        depth = two_figures(stage, scene, FIRST_SEED + number)
        shares = standing_apart(depth, 2, (SIZE, SIZE))
        for confine in KINDS.values():
            latents = sample(
                stage.model,
                stage.sentence("{left} and a {right}", scene) + ", storybook style",
                depth,
                seed=study.seed + number,
                steps=study.steps,
                guidance=stage.settings.guidance,
                sampler=stage.settings.sampler,
                tau=stage.settings.tau,
                cast=cast,
                confine=confine,
            )
            frames = to_frames(stage.model, latents)
            seen = torch.stack([stage.embed(figures(frames, share.numpy())) for share in shares])  # (2, f, d)
            likeness = torch.einsum("rfd,sd->rsf", seen, pictures)
            parts.append((likeness.diagonal().T, likeness.flip(1).diagonal().T, torch.from_numpy(frames)))
    measures = {}
    for key, part in zip(("own", "other", "frames"), zip(*parts, strict=True), strict=True):
        measures[key] = torch.stack(part).unflatten(0, (scenes, len(KINDS))).transpose(0, 1).contiguous()
    weights.write_tensors(path, measures, {})
    return path


def two_figures(stage: Stage, scene: tuple[str, str], seed: int) -> Tensor:
    """The depth (1,1,f,h,w) of a clip of the world with two others in it."""
    first, second = EXTRAS
    fixed = dict(character=first, companion=second, action=scene[0], place=scene[1], weather="", camera="still")
    drawn = stage.world.scene(seed, **fixed)
    middle = range((16 - stage.study.frames) // 2, (16 + stage.study.frames) // 2)
    frames = np.stack([stage.world.still(drawn, frame=n).frames[0] for n in middle])
    return torch.from_numpy(stage.estimator.estimate(frames))[None, None]


def figures(frames: np.ndarray, share: np.ndarray) -> Sequence[np.ndarray]:
    """Frames uint8 (f,h,w,3) where all but the columns of a region (f,h,w) are those at its edges, drawn out."""
    shown = []
    for frame, own in zip(frames, share, strict=True):
        columns = np.flatnonzero(own[0] > 0.5)
        left, right = columns.min(), columns.max() + 1
        beside = (0, 0, left, frame.shape[1] - right)
        shown.append(cv2.copyMakeBorder(frame[:, left:right], *map(int, beside), cv2.BORDER_REPLICATE))
    return shown


def as_text(rows: Sequence[Row]) -> str:
    """The table as people read it, in Markdown."""
    lines = ["| two in a clip | right one of the two | ID, own | ID, the other's |", "| --- | --- | --- | --- |"]
    lines += [f"| {row.kind} | {row.recognised:.0%} | {row.own:.3f} | {row.other:.3f} |" for row in rows]
    return "\n".join(lines)
