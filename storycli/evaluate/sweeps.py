"""What the dials do: one clip under many values of tau, or of guidance, as pictures and as figures."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from storycli.catalogue import Model
from storycli.evaluate.bench import Bench, Variant
from storycli.evaluate.clips import Files, Retold, Scenes
from storycli.evaluate.study import Measures, Study, prompt_fit
from storycli.media import filmstrip

TAUS = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
GUIDANCES = (1.0, 2.0, 4.0, 8.0)
CLIPS, ROWS = 8, 6  # that are measured, and of these shown
APART = 5_000_000  # seeds from those of the table


@dataclass(frozen=True, kw_only=True, slots=True)
class Point:
    """One value of a dial, over all clips of the sweep."""

    value: str
    structure_fit: float
    prompt_fit: float


def tau_study(clips: Scenes | Files, model: Model, steps: int, seed: int = 0) -> Study:
    """Every clip guides the caption of another, as a retrieved clip does (paper, figure 5)."""
    few = _few(clips)
    told = few.captions()
    crossed = Retold(clips=few, captions=(*told[1:], told[0]))
    variants = tuple(Variant(name=f"tau {tau:g}", tau=tau, guidance=model.guidance) for tau in TAUS)
    return Study(clips=crossed, variants=variants, model=model.name, steps=steps, seed=seed)


def guidance_study(clips: Scenes | Files, model: Model, steps: int, seed: int = 0) -> Study:
    variants = tuple(Variant(name=f"guidance {g:g}", tau=model.tau, guidance=g) for g in GUIDANCES)
    return Study(clips=_few(clips), variants=variants, model=model.name, steps=steps, seed=seed)


def points(study: Study, found: Measures) -> list[Point]:
    """What each value of the dial does."""
    return [
        Point(
            value=variant.name,
            structure_fit=found.structure_fit[i].nanmean().item(),
            prompt_fit=prompt_fit(found.embeddings[i], found.prompts),
        )
        for i, variant in enumerate(study.variants, 1)
    ]


def sheet(study: Study, found: Measures, bench: Bench, path: Path, rows: int = ROWS) -> None:
    """One picture: a row for each of the first clips; the guide's middle frame, then that of every variant."""
    strips = {}
    for number, clip in enumerate(study.clips.read(range(min(rows, len(study.clips))))):
        made = [bench.frames(found.latents[variant, number]) for variant in range(len(study.variants))]
        strips[f"{number + 1}. {clip.caption}"] = _middle([clip.frames, *made])
    filmstrip.sheet(strips, path, columns=1 + len(study.variants))


def _few(clips: Scenes | Files) -> Scenes | Files:
    if isinstance(clips, Scenes):
        clips = replace(clips, first=clips.first + APART, count=CLIPS)
    return clips.few(CLIPS)


def _middle(clips: Sequence[np.ndarray]) -> list[np.ndarray]:
    return [clip[len(clip) // 2] for clip in clips]
