"""The paper's Table 2 measured again, and its Figs. 5 to 7 drawn: characters that the built-in model has never seen.

Every character is learnt by every method, with equal steps and seeds, and plays the same scenes: motion from the
built-in library, noise from the same seeds. A pair of a character and a method is one file, so that a run that was
stopped goes on, and as many processes as there are cores share the work.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor

from storycli.evaluate.trial import (
    CLASS_WORD,
    OURS,
    RIVALS,
    SCENES,
    WORLD,
    Study,
    cell,
    judge,
    recogniser,
    staged,
)
from storycli.media import filmstrip
from storycli.processes import each
from storycli.world.generator import World

TUNED_ON = ("teddy", "wolf")  # the methods' rates and steps were chosen on these
DRAWS = 2000  # of the bootstrap
TAUS = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
LONG = 8  # frames of a row in the figures
Report = Callable[[str, int, int], None]  # stage, done, of how many
Found = Mapping[str, Mapping[str, Tensor]]  # by method, the measures (characters, scenes, seeds)


def held_out(assets: Path, count: int) -> tuple[str, ...]:
    """Characters of the world that no training shows, those last on which something was chosen."""
    return tuple(sorted(World(assets).held_out_characters, key=TUNED_ON.__contains__)[:count])


def run(study: Study, folder: Path, *, workers: int = 1, report: Report | None = None) -> Found:
    """Do what ``folder`` does not hold yet; the measures of everything."""
    report = report or (lambda stage, done, total: None)
    folder.mkdir(parents=True, exist_ok=True)
    recogniser(study.assets, folder, lambda seen, total, loss: report("train the recogniser", seen, total))
    judge(study.assets, folder, lambda seen, total, loss: report("train the judge", seen, total))
    parts: dict[str, list[dict[str, Tensor]]] = {}
    work = functools.partial(cell, study, folder)
    for done, ((_, way), path) in enumerate(zip(study.cells, each(work, study.cells, workers), strict=True), 1):
        parts.setdefault(way, []).append(load_file(path))
        report("learn and play", done, len(study.cells))
    return {way: {key: torch.stack([part[key] for part in found]) for key in found[0]} for way, found in parts.items()}


# ---- Table 2 ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One way of showing the characters: means, and the ends of 95 % intervals.

    ``prompt`` and ``identity`` are mean cosines, of clips to their prompts and of frames to the character's pictures;
    ``scene`` is the share of clips that fit their own scene better than any other, ``recognised`` that of frames that
    show the right one of all the world's characters, ``steady`` the mean cosine of a frame to the next. A margin is by
    how much ours is higher, of the same scenes and noise.
    """

    method: str
    prompt: float
    prompt_between: tuple[float, float]
    scene: float
    identity: float
    identity_between: tuple[float, float]
    recognised: float
    steady: float
    prompt_margin: tuple[float, float] | None = None
    identity_margin: tuple[float, float] | None = None


def table(found: Found, seed: int = 0) -> list[Row]:
    """Table 2, with the world itself and the class word alone above it.

    Intervals are those of a bootstrap over characters and over scenes: neither the clips of one character nor those of
    one scene are independent. All methods share the draws, so margins compare like with like.
    """
    rows = []
    drawn = {
        way: {key: resampled(measures[key].mean(-1).numpy(), seed) for key in ("prompt", "identity")}
        for way, measures in found.items()
    }
    for way, measures in found.items():
        means = {key: measures[key].mean().item() for key in ("prompt", "scene", "identity", "recognised", "steady")}
        between = {f"{key}_between": interval(values) for key, values in drawn[way].items()}
        margins = {}
        if way not in (OURS, WORLD) and OURS in found:
            margins = {f"{key}_margin": interval(drawn[OURS][key] - values) for key, values in drawn[way].items()}
        rows.append(Row(method=way, **means, **between, **margins))
    return rows


def resampled(values: np.ndarray, seed: int) -> np.ndarray:
    """``DRAWS`` bootstrap means of values (characters, scenes); the scenes drawn are the same for all characters."""
    rng = np.random.default_rng(seed)
    characters, scenes = values.shape
    who = rng.integers(characters, size=(DRAWS, characters, 1))
    what = rng.integers(scenes, size=(DRAWS, 1, scenes))
    return values[who, what].mean((1, 2))


def interval(values: np.ndarray) -> tuple[float, float]:
    """The middle 95 % of them."""
    low, high = np.quantile(values, (0.025, 0.975))
    return float(low), float(high)


def as_text(rows: Sequence[Row], study: Study) -> str:
    """The table as people read it, in Markdown."""
    lines = [
        f"{len(study.characters)} characters x {study.scenes} scenes x {study.seeds} seeds of {study.frames} frames,"
        f" {study.steps} steps of sampling, {study.train_steps} of training. Brackets: 95 %.",
        "",
        "| method | Sem. | scene | ID | recognised | steady | ours is better by: Sem. | ID |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for row in rows:
        lines.append(
            f"| {row.method} | {row.prompt:.3f} {_ends(row.prompt_between)} | {row.scene:.0%} | {row.identity:.3f}"
            f" {_ends(row.identity_between)} | {row.recognised:.0%} | {row.steady:.3f}"
            f" | {_ends(row.prompt_margin, '+')} | {_ends(row.identity_margin, '+')} |"
        )
    return "\n".join(lines)


def _ends(between: tuple[float, float] | None, sign: str = "") -> str:
    return f"[{between[0]:{sign}.3f}, {between[1]:{sign}.3f}]" if between else ""


# ---- Figs. 5 to 7 -------------------------------------------------------------------------------------------


def figures(study: Study, folder: Path, found: Found, report: Report | None = None) -> list[Path]:
    """The sheets ``figure-5.png`` to ``figure-7.png`` in ``folder``."""
    drawings = {"figure-5.png": sweep, "figure-6.png": without, "figure-7.png": side_by_side}
    paths = []
    for name, draw in drawings.items():
        filmstrip.sheet(draw(study, folder, found), folder / name, columns=LONG)
        paths.append(folder / name)
        if report:
            report("figures", len(paths), len(drawings))
    return paths


def sweep(study: Study, folder: Path, found: Found) -> dict[str, np.ndarray]:
    """Fig. 5: structure is let go earlier and earlier."""
    stage, scene = staged(study, folder), SCENES[0]
    hero = stage.hero(study.characters[0], OURS)
    return {f"tau {tau}": stage.play(hero, OURS, scene, tau=tau, seeds=1, frames=LONG)[0] for tau in TAUS}


def without(study: Study, folder: Path, found: Found) -> dict[str, np.ndarray]:
    """Fig. 6: the whole method, and without TimeInv, without a character, and without a retrieved clip."""
    stage, name = staged(study, folder), study.characters[0]
    kinds = {
        "the whole method": (OURS, None),
        "no TimeInv: one embedding for all times": ("low-rank", None),
        "no personalisation": (CLASS_WORD, None),
        "no retrieval": (OURS, 1.0),
    }
    rows = {}
    for scene in SCENES[:2]:
        for label, (way, tau) in kinds.items():
            clip = stage.play(stage.hero(name, way), way, scene, tau=tau, seeds=1, frames=LONG)[0]
            rows[f"{stage.sentence(name, scene)}: {label}"] = clip
    return rows


def side_by_side(study: Study, folder: Path, found: Found) -> dict[str, np.ndarray]:
    """Fig. 7: a frame of every scene, by every method."""
    stage, rows = staged(study, folder), {}
    ways = [way for way in (CLASS_WORD, *RIVALS, OURS) if way in found]
    for number, name in enumerate(study.characters[:3]):
        rows[f"{name}: what is learnt from"] = np.stack(stage.pictures(name))
        for way in ways:
            rows[f"{name}: {way}"] = found[way]["frames"][number, :, study.frames // 2].numpy()
    return rows
