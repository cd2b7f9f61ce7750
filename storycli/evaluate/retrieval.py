"""How well sentences find clips, as Frozen in Time tells it: text to video R@1, R@5, R@10 and median rank.

The clips are scenes of the storybook world that training never saw, written as videos, indexed and searched like a
user's own. A query is another telling of a scene than the caption in the index. Many scenes are alike, so that the
first place is often taken by a clip that fits as well.
"""

import csv
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from models.metrics import text_to_video
from storycli.media import video
from storycli.retrieve import Library
from storycli.world.generator import FRAMES_PER_SECOND, World

FRAMES = 16  # of a clip
TELLINGS = 20  # to be tried for one that is not the caption
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """Recall in percent, and the median rank of the true clip (1 = first), among ``clips``."""

    searched: str
    clips: int
    r1: float
    r5: float
    r10: float
    median_rank: float


def table(
    assets: Path, count: int, folder: Path, *, weights: Path | None = None, progress: Progress = lambda *_: None
) -> list[Row]:
    """Draws ``count`` held-out clips into ``folder`` and looks for each, without captions and then with them."""
    captions, queries = draw(assets, count, folder / "clips", progress)
    rows = []
    for searched, clips in (("picture only", list(queries)), ("picture and caption", [captions])):
        # an index for each, as it keeps captions that it has been told, and clips
        library = Library(folder / "index" / f"{searched}, {count}", weights)
        library.add(clips, progress=lambda done, total, _: progress("index", done, total))
        rows.append(measure(library, searched, queries, progress))
    return rows


def draw(assets: Path, count: int, folder: Path, progress: Progress) -> tuple[Path, dict[Path, str]]:
    """Writes clips that are there already no more; returns the table of their captions, and a query for each clip.

    Files are named by numbers, which say nothing. Seeds are those of held-out scenes, from 0 on.
    """
    world, told, queries = World(assets), [], {}
    folder.mkdir(parents=True, exist_ok=True)
    for seed in range(count):
        scene, path = world.scene(seed, "held_out"), (folder / f"{seed:06d}.mp4").absolute()
        if not path.exists():
            video.write(path, world.clip(scene, FRAMES).frames, FRAMES_PER_SECOND)
        caption = world.caption(scene)
        others = (world.caption(scene, random.Random(f"query {seed} {again}")) for again in range(TELLINGS))
        queries[path] = next((query for query in others if query != caption), caption)
        told.append((path, caption))
        progress("draw", seed + 1, count)
    captions = folder.with_name("captions.csv")
    with captions.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([("path", "caption"), *told])
    return captions, queries


def measure(library: Library, searched: str, queries: Mapping[Path, str], progress: Progress) -> Row:
    """Where the search puts each clip, given its query; a clip that is not found comes last."""
    column = {path: i for i, path in enumerate(queries)}
    similarity = torch.full((len(queries), len(queries)), -torch.inf)
    for number, query in enumerate(queries.values()):
        for clip, score in library.rank(query, len(queries)):
            similarity[number, column[Path(clip["path"])]] = score
        progress(searched, number + 1, len(queries))
    scores = text_to_video(similarity)
    return Row(
        searched=searched,
        clips=len(queries),
        r1=scores.r1,
        r5=scores.r5,
        r10=scores.r10,
        median_rank=scores.median_rank,
    )


def as_text(rows: list[Row]) -> str:
    """The table as people read it, in Markdown."""
    lines = ["| searched by | clips | R@1 | R@5 | R@10 | MedR |", "| --- | --- | --- | --- | --- | --- |"]
    for row in rows:
        lines.append(
            f"| {row.searched} | {row.clips} | {row.r1:.1f} | {row.r5:.1f} | {row.r10:.1f} | {row.median_rank:.0f} |"
        )
    return "\n".join(lines)
