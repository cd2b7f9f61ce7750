"""``storycli evaluate``: everything that is measured of a model, as one page with its pictures."""

import csv
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from models.metrics import frechet_distance, kernel_distance
from storycli.catalogue import Model
from storycli.evaluate import bench, blind, study, sweeps
from storycli.evaluate.bench import Bench
from storycli.evaluate.clips import Files, Scenes
from storycli.evaluate.damage import DAMAGES, Damaged
from storycli.evaluate.study import AMONG, SLOTS, WATCHED, Measures, Row, Study, right, table_1
from storycli.media import filmstrip
from storycli.media.ffmpeg import replacing

DAMAGED = 256  # clips, at most, that are damaged to see what the distances make of it
KEPT = ".kept"  # what the work has made so far
FRAMES, HEIGHT = 4, 112  # of each clip on a sheet
Report = Callable[[str, int, int], None]  # what, clips done, of how many


@dataclass(frozen=True, kw_only=True, slots=True)
class Evaluation:
    """What to measure, with what, and where the page goes."""

    model: Model
    guides: Scenes | Files  # captions to render, and the depth that guides them
    real: Scenes | Files  # other clips, which renderings are compared with
    steps: int
    folder: Path
    seed: int = 0
    workers: int = 1
    device: str = "auto"
    report: Report = lambda what, done, total: None

    @property
    def bench(self) -> Bench:
        return bench.at(self.model.name, self.device)

    def measure(self, what: str, wanted: Study) -> Measures:
        how = dict(workers=self.workers, device=self.device, progress=partial(self.report, what))
        return study.measure(wanted, self.folder / KEPT / what, **how)

    def how(self) -> dict:
        return dict(model=self.model, steps=self.steps, seed=self.seed)


def table(wanted: Evaluation) -> list[Row]:
    """Table 1; also written to ``table.json``."""
    wanted.folder.mkdir(parents=True, exist_ok=True)
    real = study.real_features(
        wanted.real, wanted.folder / KEPT / "real", workers=wanted.workers, progress=partial(wanted.report, "real")
    )
    found = wanted.measure("table", table_1(wanted.guides, **wanted.how()))
    scenes = wanted.guides.scenes() if isinstance(wanted.guides, Scenes) else None
    rows = study.rows(table_1(wanted.guides, **wanted.how()), found, real, scenes)
    told = {"chance": found.chance.nanmean().item(), "rows": [asdict(row) for row in rows]}
    _write(wanted.folder / "table.json", json.dumps(told, indent=1))
    return rows


def page(wanted: Evaluation) -> Path:
    """Measure it all and write ``README.md`` with its pictures; a run that was stopped goes on."""
    wanted.folder.mkdir(parents=True, exist_ok=True)
    parts = [_heading(wanted), _table(wanted), _damage(wanted), _dial("tau", wanted), _dial("guidance", wanted)]
    if isinstance(wanted.guides, Scenes):  # where it is known who does what and where
        parts += [_blind(wanted, wanted.guides.assets), _words(wanted, wanted.guides.assets)]
    path = wanted.folder / "README.md"
    _write(path, "\n\n".join(parts) + "\n")
    return path


def _heading(wanted: Evaluation) -> str:
    weights = wanted.model.identity()["sha256"][:12]
    return f"""# What the model {wanted.model.name} measures

Written by `storycli evaluate` for the weights {weights}: {len(wanted.guides)} captions, rendered in {wanted.steps}
steps from seed {wanted.seed} on, at the size that is sampled, and compared with {len(wanted.real)} other real clips.
Distances are those of the features of the project's own video classifier (models/watcher.py): comparable with each
other, not with published ones."""


def _table(wanted: Evaluation) -> str:
    rows = table(wanted)
    chance = json.loads((wanted.folder / "table.json").read_text())["chance"]
    fvd = {row.condition: row.fvd for row in rows}
    return f"""## What depth adds to text (the paper's Table 1)

{as_text(rows)}

The FVD of text + depth is {fvd["text + depth"] / fvd["text only"]:.2f} of that of text only. Prompt fit: how many clips
are nearer to their own prompt than to {min(AMONG, len(wanted.guides)) - 1} others, to the retrieval encoder. Character
and place: how many clips the video classifier takes for what they are told as. Structure fit: the correlation of a
clip's depth with its guide's; that of two guides is {chance:.2f}. Flicker: change from frame to frame where the guide
stands still, in grey levels of 255."""


def _damage(wanted: Evaluation) -> str:
    clips = wanted.guides.few(DAMAGED)
    where, how = wanted.folder / KEPT / "real", dict(workers=wanted.workers)
    real = study.real_features(wanted.real, where, **how)
    lines = ["| real clips | FVD | KVD |", "| --- | --- | --- |"]
    for kind in (None, *DAMAGES):
        shown = clips if kind is None else Damaged(clips=clips, kind=kind)
        features = study.real_features(shown, where, **how, progress=partial(wanted.report, "damage"))
        fvd, kvd = frechet_distance(features, real), kernel_distance(features, real)
        lines.append(f"| {kind or 'as they are'} | {fvd:.2f} | {kvd:.4f} |")
    return f"""## What the distance sees

The first {len(clips)} of the clips themselves, damaged in known ways.

{chr(10).join(lines)}"""


DIALS = {
    "tau": (sweeps.tau_study, "Each clip guides the caption of another, as a retrieved clip does"),
    "guidance": (sweeps.guidance_study, "Each clip guides its own caption"),
}


def _dial(name: str, wanted: Evaluation) -> str:
    study_of, told = DIALS[name]
    swept = study_of(wanted.guides, **wanted.how())
    found = wanted.measure(name, swept)
    sweeps.sheet(swept, found, wanted.bench, wanted.folder / f"{name}.jpg")
    lines = ["| value | structure fit | prompt fit |", "| --- | --- | --- |"]
    lines += [f"| {p.value} | {p.structure_fit:.2f} | {p.prompt_fit:.0%} |" for p in sweeps.points(swept, found)]
    values = ", ".join(variant.name.split()[-1] for variant in swept.variants)
    return f"""## {name.capitalize()}

{told}; {len(swept.clips)} clips, whose prompt fit is among each other.

{chr(10).join(lines)}

![Clips under several values of {name}]({name}.jpg)

From left to right: the middle frame of the guide, then that of the clip with {name} {values}."""


def _blind(wanted: Evaluation, assets: Path) -> str:
    """``blind.csv`` is there to be filled in by whoever looks at ``blind.jpg``."""
    scenes, prompts = blind.blind_scenes(assets)
    found = wanted.measure("blind", blind.blind_study(prompts, **wanted.how()))
    _sheet(wanted.folder / "blind.jpg", wanted.bench, list(prompts), found.latents[0])
    by_watcher = right(found.answers[1], scenes)
    of_real = right(bench.watch(blind.drawn(assets, scenes))[1], scenes)
    by_eye = counted(wanted.folder / "blind.csv", prompts)
    lines = ["| shown | by eye | by the classifier | by the classifier in real clips |", "| --- | --- | --- | --- |"]
    for slot in SLOTS:
        eye = "not counted" if by_eye is None else str(by_eye[slot])
        counts = (str(int(hits[slot].sum())) if slot in WATCHED else "-" for hits in (by_watcher, of_real))
        lines.append(f"| {slot} | {eye} | {' | '.join(counts)} |")
    return f"""## {len(prompts)} unseen prompts, the first seed, no picking

The character of each has never met its action or its place in training. Each clip is guided by what the built-in
library finds for the prompt, as in a film.

{chr(10).join(lines)}

![{len(prompts)} prompts and their clips](blind.jpg)"""


def _words(wanted: Evaluation, assets: Path) -> str:
    asked, scenes, told = blind.words_study(assets, **wanted.how())
    found = wanted.measure("words", asked)
    captions = asked.clips.captions
    shown = [i for i in range(len(captions)) if i % (2 * blind.IN_SCENES) < 2]
    _sheet(wanted.folder / "words.jpg", wanted.bench, [captions[i] for i in shown], found.latents[0, shown])
    known, unseen = (right(found.answers[1, k::2], scenes) for k in (0, 1))
    lines = ["| word | unseen word | word shown | unseen word shown |", "| --- | --- | --- | --- |"]
    for slot, word, meant in blind.UNSEEN_WORDS:
        own = torch.tensor([other == word for other in told])
        counts = (
            f"{int(hits[slot][own].sum())} of {int(own.sum())}" if slot in WATCHED else "-" for hits in (known, unseen)
        )
        lines.append(f"| {meant} | {word} | {' | '.join(counts)} |")
    return f"""## Unseen words

Rendered from text alone, once with a word of the training captions and once with one that is in none of them. Shown:
the video classifier takes the clip for the right character or place; actions are for the eye.

{chr(10).join(lines)}

![Clips for known and unseen words](words.jpg)"""


def as_text(rows: Sequence[Row]) -> str:
    """The table as people read it, in Markdown."""
    slots = WATCHED if rows[0].shown else ()
    heads = ["condition", "FVD", "KVD", "prompt fit", *slots, "structure fit", "flicker"]
    lines = [heads, ["---"] * len(heads)]
    for row in rows:
        shares = [f"{share:.0%}" for share in (row.prompt_fit, *(row.shown[slot] for slot in slots))]
        steadiness = "-" if row.flicker is None else f"{row.flicker:.1f}"
        lines.append(
            [row.condition, f"{row.fvd:.2f}", f"{row.kvd:.4f}", *shares, f"{row.structure_fit:.2f}", steadiness]
        )
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def counted(path: Path, prompts: Sequence[str]) -> dict[str, int] | None:
    """How many prompts are marked ``1`` in each column; None, and a table to fill in, where there is none."""
    if not path.exists():
        with replacing(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([("prompt", *SLOTS), *((prompt, "", "", "") for prompt in prompts)])
        return None
    with path.open(newline="", encoding="utf-8") as file:
        marks = [row for row in csv.DictReader(file) if row["prompt"] in prompts]
    whole = len(marks) == len(prompts) and all(row[slot] in ("0", "1") for row in marks for slot in SLOTS)
    return {slot: sum(row[slot] == "1" for row in marks) for slot in SLOTS} if whole else None


def _sheet(path: Path, bench: Bench, labels: Sequence[str], latents: Tensor) -> None:
    rows = {f"{i}. {label}": bench.frames(clip) for i, (label, clip) in enumerate(zip(labels, latents, strict=True), 1)}
    filmstrip.sheet(rows, path, columns=FRAMES, height=HEIGHT)


def _write(path: Path, text: str) -> None:
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
