"""What a library of many clips takes on this machine: measured on a few clips and rows, told for millions.

Reading videos and looking at them is measured on videos, by default those that ship; the index on made-up rows like
theirs. What grows with the clips is multiplied; sorting vectors into parts grows with clips times parts.
"""

import math
import os
import tempfile
import time
import tracemalloc
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from storycli import cluster
from storycli.errors import StoryError
from storycli.library import index, shipped
from storycli.library.encoder import Encoder, unit
from storycli.library.index import SENTENCE, Index, Row
from storycli.library.indexing import Update
from storycli.library.sources import Source, find

VIDEOS = 16  # that are read to measure
ROWS = 10_000  # made up to measure
PARTS = 64  # into which they are sorted
SHARD_HOURS = 1.0  # of work, that a stopped machine may cost


@dataclass(frozen=True, kw_only=True, slots=True)
class Costs:
    """What one clip costs here; times in seconds of one core, sizes in bytes."""

    read: float  # a clip, decoded, cut out and embedded
    embed: float  # of that, in the network
    write: float  # a row
    row: float  # with its words, thumbnail and vectors
    parts: float  # codes of its vectors, sorted
    known: float  # memory, while an update knows the clip
    compare: float  # a row with one centre of a part, in both vectors


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """What a library of ``clips`` takes."""

    clips: int
    cores: int
    embed_share: float  # of reading
    read_hours: float  # all cores of this machine, and no other
    shards: int  # pieces of the videos, each about an hour of reading
    write_hours: float
    sort_hours: float
    disk_gb: float
    update_memory_gb: float
    parts: int  # 0 = searched exactly
    looked_at: int  # rows whose vectors, or codes of them, a search compares


def measure(encoder: Encoder, videos: Sequence[Path] = ()) -> Costs:
    """The costs on this machine, with some of these videos. Raises StoryError when none of them can be read."""
    found = [source for source in find(videos or [shipped.CLIPS]) if isinstance(source, Source)]
    chosen = found[:: max(1, len(found) // VIDEOS)][:VIDEOS]
    with tempfile.TemporaryDirectory() as folder:
        table = Index(Path(folder) / "read", encoder.identity)
        Update(table, encoder).run(chosen[:1], None)  # loads the networks
        start = spent()
        report = Update(table, encoder).run(chosen[1:] or chosen, None)
        read = spent() - start
        if not report.shots:
            raise StoryError("none of these videos can be read", "Name others: storycli index VIDEOS --plan N")
        rows = list(table.rows(table.table.schema.names))
        return Costs(
            read=read / report.shots, embed=embedding(encoder), **of_rows(rows, Path(folder) / "made", encoder)
        )


def embedding(encoder: Encoder, count: int = 16) -> float:
    """Seconds that the network takes for a clip."""
    width, height = encoder.frame_size(640, 360)
    clips = [np.zeros((len(encoder.sample(0, 100)), height, width, 3), np.uint8)] * count
    start = spent()
    encoder.embed_clips(clips)
    return (spent() - start) / count


def of_rows(like: Sequence[Row], folder: Path, encoder: Encoder) -> dict[str, float]:
    """The costs of rows in an index: some are made up, with the words and pictures of these."""
    rng, width = np.random.default_rng(0), len(like[0]["visual"])
    vectors = (unit(rng.standard_normal((ROWS, n))) for n in (width, SENTENCE))
    made = [
        like[i % len(like)]
        | dict(id=f"{i:048d}", path=f"/videos/{i:048d}", digest=f"{i:064d}", visual=visual, said=said)
        for i, (visual, said) in enumerate(zip(*vectors, strict=True))
    ]
    table, start = Index(folder, encoder.identity), spent()
    table.insert(made)
    table.tidy()
    written, bytes_written = spent(), on_disk(folder)
    table.sort(PARTS)
    sort = spent() - written
    tracemalloc.start()
    try:
        known = table.files()
        memory = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    return dict(
        write=(written - start) / ROWS,
        row=bytes_written / ROWS,
        parts=(on_disk(folder) - bytes_written) / ROWS,
        known=memory / len(known),
        compare=sort / comparisons(ROWS, PARTS),
    )


def comparisons(rows: int, parts: int) -> int:
    """How often a row is compared with the centre of a part while these are found, and while all rows are sorted."""
    return parts * (index.ROUNDS * min(rows, index.SAMPLE * parts) + rows)


def spent() -> float:
    """Seconds that the cores have worked for this process and for those that it has started and seen end."""
    ended = os.times()
    return time.process_time() + ended.children_user + ended.children_system


def on_disk(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def plan(clips: int, costs: Costs) -> Plan:
    """What a library of so many clips takes, at these costs."""
    parts = index.parts(clips)
    cores = cluster.cores()
    core_hours = clips / 3600 / cores
    return Plan(
        clips=clips,
        cores=cores,
        embed_share=min(1.0, costs.embed / costs.read),
        read_hours=core_hours * costs.read,
        shards=math.ceil(core_hours * costs.read / SHARD_HOURS),
        write_hours=core_hours * costs.write,
        sort_hours=comparisons(clips, parts) * costs.compare / 3600 / cores,
        disk_gb=clips * (costs.row + (costs.parts if parts else 0)) / 1e9,
        update_memory_gb=clips * costs.known / 1e9,
        parts=parts,
        looked_at=clips * min(index.PROBES, parts) // parts if parts else clips,
    )


def as_text(plan: Plan) -> str:
    """The plan as people read it."""
    searched = f"every search compares {plan.looked_at:,} clips"
    if plan.parts:
        sorted_into = f"after sorting them into {plan.parts:,} parts, {duration(plan.sort_hours)}"
        searched = f"every search compares codes of {plan.looked_at:,} clips, {sorted_into}"
    return "\n".join(
        [
            f"{plan.clips:,} clips, with {plan.cores} cores like these",
            f"reading  {duration(plan.read_hours)}, {plan.embed_share:.0%} of it in the network;"
            f" {plan.shards:,} shards of an hour can be spread over machines",
            f"writing  {duration(plan.write_hours)}",
            f"disk     {plan.disk_gb:,.1f} GB",
            f"memory   {plan.update_memory_gb:,.1f} GB while clips are added",
            f"search   {searched}",
        ]
    )


def duration(hours: float) -> str:
    """``90 s``, ``12 min``, ``5.0 h`` or ``12 days``."""
    if hours < 2 / 60:
        return f"{hours * 3600:.0f} s"
    if hours < 2:
        return f"{hours * 60:.0f} min"
    return f"{hours:.1f} h" if hours < 48 else f"{hours / 24:.0f} days"
