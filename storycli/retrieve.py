"""The library of clips: text to the clips whose motion and layout fit, by what they show and what is said of them."""

import hashlib
import os
import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from storycli import config
from storycli.errors import StoryError
from storycli.library import shipped
from storycli.library.assignment import assign
from storycli.library.encoder import BUILT_IN, Encoder
from storycli.library.index import COMPARED, Index, Row, quoted, weights_of
from storycli.library.indexing import Progress, Report, Update
from storycli.library.sentences import minilm
from storycli.library.sources import find
from storycli.media.shards import exists
from storycli.story import Candidate

__all__ = ["Filters", "Library", "Status", "assign"]

# Weights of the picture, the caption's meaning, and its very words. The network that sees knows places better than
# actions, and an action is what a clip is for.
SEEN, SAID, WORDS = 0.3, 0.4, 0.3
HAPPENING = 3  # what a word of a query that ends in "ing" counts
POOL = 100  # clips that each of the three rankings puts forward, at least
ENOUGH_MOTION = 0.03  # picture widths a second
MUCH_SHAKE = 0.3
STILL, SHAKY, SHORT = 0.05, 0.05, 0.1  # what a clip loses by each
SAME_LOOK, SAME_PLACE = 3, 12  # bits of 64 in which the looks of two shots may differ, in two files or in one


@dataclass(frozen=True, kw_only=True, slots=True)
class Filters:
    """Which clips a search may return."""

    min_seconds: float = 0
    orientation: Literal["landscape", "portrait", "square", ""] = ""
    under: Path | None = None

    def where(self) -> str | None:
        """As a condition of the index."""
        shape = {"landscape": "width > height", "portrait": "width < height", "square": "width = height"}
        conditions = [f"seconds >= {self.min_seconds:f}"] if self.min_seconds else []
        conditions += [shape[self.orientation]] if self.orientation else []
        if self.under:
            conditions.append(f"starts_with(path, {quoted(os.path.join(os.path.abspath(self.under), ''))})")
        return " AND ".join(conditions) or None


@dataclass(frozen=True, kw_only=True, slots=True)
class Status:
    """What is in a library."""

    folder: Path
    files: int
    shots: int
    seconds: float
    captioned: int  # shots
    missing: tuple[Path, ...]  # files that are no longer where they were
    encoder: str


class Library:
    """The clips indexed in a folder; without one, those that ship with storycli.

    ``weights`` are the retrieval network's (see ``Encoder``): by default those that made the index, or the built-in
    ones for a new index. An index answers to no others.
    """

    def __init__(self, folder: Path | None = None, weights: Path | None = None, device: str = "cpu"):
        self.encoder = Encoder(weights or (folder and weights_of(folder)) or BUILT_IN, device)
        self.built_in = folder is None
        self.folder = folder or built_in_folder(self.encoder.digest)
        self.index = Index(self.folder, self.encoder.identity)
        if self.built_in:
            self._update([shipped.CLIPS], wait=120)

    def add(
        self,
        paths: Sequence[Path],
        progress: Progress | None = None,
        *,
        workers: int | None = None,
        ray: bool = False,
    ) -> Report:
        """Indexes new and changed videos of files, folders, CSV tables and shards (``sources.find``), and follows moved
        ones.

        ``progress(done, total, path)`` is called after each file. ``workers`` processes or those of a Ray cluster do
        the work (``cluster.crew``). Files that cannot be read are in the report, with the reason. Raises StoryError
        when the index cannot be used.
        """
        if self.built_in:
            raise StoryError(
                "the clips that ship with storycli are a library of their own", "Name another folder with --index."
            )
        return self._update(paths, progress=progress, workers=workers, ray=ray)

    def _update(
        self, paths: Sequence[Path], *, wait: float = 0, progress: Progress | None = None, **crew: Any
    ) -> Report:
        found = list(find(paths))
        with self.index.writing(wait):
            if self.built_in:
                shipped.unpack(self.index)
            return Update(self.index, self.encoder, **crew).run(found, progress)

    def prune(self) -> tuple[Path, ...]:
        """Forgets the clips of files that are gone, and returns which."""
        with self.index.writing():
            gone = [file for file in self.index.files() if not exists(Path(file.path))]
            self.index.remove(shot for file in gone for shot in file.shots)
            self.index.tidy()
        return tuple(Path(file.path) for file in gone)

    def status(self) -> Status:
        """Counts, and the files that are missing."""
        files, shots, seconds, captioned = set(), 0, 0.0, 0
        for row in self.index.rows(["path", "seconds", "caption"]):
            files.add(row["path"])
            shots, seconds, captioned = shots + 1, seconds + row["seconds"], captioned + bool(row["caption"])
        return Status(
            folder=self.folder,
            files=len(files),
            shots=shots,
            seconds=seconds,
            captioned=captioned,
            missing=tuple(Path(path) for path in sorted(files) if not exists(Path(path))),
            encoder=self.encoder.identity["name"],
        )

    def search(
        self, query: str, k: int = 5, *, seconds: float | None = None, filters: Filters = Filters()
    ) -> list[Candidate]:
        """The ``k`` clips that fit an English sentence best, best first; fewer in a small library.

        Clips in which little moves, that shake, or that are shorter than ``seconds`` come later; repetitions do not
        come.
        """
        ranked = self.rank(query, max(POOL, 10 * k), seconds=seconds, filters=filters)
        best = without_repetitions(ranked, k)
        clips = self.index.clips([row["_rowid"] for row, _ in best])
        return [Candidate(clip=clip, score=score) for clip, (_, score) in zip(clips, best, strict=True)]

    def rank(
        self, query: str, count: int, *, seconds: float | None = None, filters: Filters = Filters()
    ) -> list[tuple[Row, float]]:
        """Rows of the index, by what clips are compared by, with their scores, best first, repetitions and all.

        Three rankings put forward ``count`` clips each, by picture, by caption and by words; those are compared with
        each other exactly.
        """
        if not len(self.index):
            raise StoryError(f"there are no clips in {self.folder}", "Add some first: storycli index VIDEOS")
        meant = minilm().embed([query])
        seen, said = self.encoder.embed_text([query], meant)[0], meant[0]
        where = filters.where()
        searches = (
            partial(self.index.nearest, "visual", seen),
            partial(self.index.nearest, "said", said),
            partial(self.index.matching, query),
        )
        with ThreadPoolExecutor(len(searches)) as pool:
            rankings = pool.map(lambda search: search(count, where), searches)
            put_forward = [row for ranking in rankings for row in ranking]
        if not put_forward:
            return []
        found = self.index.take(put_forward, COMPARED)
        scores = similarity(found, query, seen, said) - flaws(found, seconds)
        best = np.argsort(-scores, kind="stable")
        rows = found.drop_columns(["visual", "said"]).take(best).to_pylist()
        return [(row, float(score)) for row, score in zip(rows, scores[best], strict=True)]


def built_in_folder(digest: str) -> Path:
    """Where the index of the shipped clips is kept; another for other weights or clips."""
    try:
        table = shipped.CLIPS.read_bytes()
    except OSError as error:
        raise StoryError("the clips that ship with storycli are missing", "Install storycli again.") from error
    return config.home() / "library" / hashlib.sha256(table + digest.encode()).hexdigest()[:16]


def similarity(clips: pa.Table, query: str, seen: np.ndarray, said: np.ndarray) -> np.ndarray:
    """How well each clip fits a query, at most 1: by its picture, what is said of it, and common words."""
    sentences = vectors(clips["said"])
    picture, caption = vectors(clips["visual"]) @ seen, sentences @ said
    asked = {stem: HAPPENING if word.endswith("ing") else 1 for word, stem in stems(query).items()}
    weight = max(1, sum(asked.values()))
    told_words = (set(stems(words).values()) for words in clips["words"].to_pylist())
    common = [sum(asked[stem] for stem in asked.keys() & words) / weight for words in told_words]
    told = np.any(sentences != 0, axis=1)
    return np.where(told, SEEN * picture + SAID * caption + WORDS * np.array(common), (SEEN + SAID) * picture)


def flaws(clips: pa.Table, seconds: float | None) -> np.ndarray:
    """What clips lose for little motion, for shaking, and for being shorter than asked."""
    motion, shake, length = (clips[name].to_numpy() for name in ("motion", "shake", "seconds"))
    lost = STILL * (1 - motion / ENOUGH_MOTION).clip(0) + SHAKY * (shake / MUCH_SHAKE).clip(0, 1)
    return lost + SHORT * (1 - length / seconds).clip(0) if seconds else lost


def vectors(column: pa.ChunkedArray) -> np.ndarray:
    """A column of vectors as (n, d) float32."""
    flat = column.combine_chunks().flatten().to_numpy()
    return flat.reshape(len(column), -1).astype(np.float32)


def without_repetitions(ranked: Sequence[tuple[Row, float]], k: int) -> list[tuple[Row, float]]:
    """The first ``k`` rows that do not show again what an earlier one shows."""
    kept: list[tuple[Row, float]] = []
    for row, score in ranked:
        if len(kept) == k:
            break
        if not any(is_same(row, other) for other, _ in kept):
            kept.append((row, score))
    return kept


def is_same(a: Row, b: Row) -> bool:
    """Whether two shots look the same: a copy, or parts of one file in which nothing else comes to be seen."""
    different = ((a["look"] ^ b["look"]) & (2**64 - 1)).bit_count()
    return different <= (SAME_PLACE if a["path"] == b["path"] else SAME_LOOK)


def stems(text: str) -> dict[str, str]:
    """The words of a text, without those that say nothing, each with what it is without its ending."""
    words = re.findall(r"[^\W\d_]{2,}", text.lower())
    return {word: re.sub(r"(?<=..)(ing|ed|es|s)$", "", word) for word in words if word not in STOP_WORDS}


# fmt: off
STOP_WORDS = frozenset((
    "an", "and", "are", "at", "by", "for", "from", "in", "into", "is", "it", "its", "of", "on", "or", "that", "the",
    "then", "they", "this", "to", "was", "were", "with",
))
# fmt: on
