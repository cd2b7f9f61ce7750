"""The index: a LanceDB table with one row a shot, in a folder of its own.

Every change is one atomic version of the table, and all shots of a file are written in one change: whenever a run is
killed, each file is in whole or not at all. The table says which encoder its vectors came from.

A small table is searched exactly. In a large one the vectors are sorted into parts, and a search first compares codes
of one bit a dimension in the nearest parts, then the best of those exactly. The codes are of random directions (RaBitQ,
Gao and Long 2024): sentences lie in another region of the space than clips, and codes fitted to clips would misjudge
them.
"""

import contextlib
import math
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property
from pathlib import Path
from typing import Any

import filelock
import lancedb
import numpy as np
import pyarrow as pa
from lancedb.index import FTS, IvfRq

from storycli.config import TABLE, holds_clips
from storycli.errors import StoryError
from storycli.story import Clip

SENTENCE = 384  # width of a sentence embedding
KEEP_VERSIONS = timedelta(hours=1)  # for those who are reading one while it is replaced
HALF = pa.float16()

# What vectors are compared by. All are of length 1, but for the zeros of clips of which nothing is said: to these a
# sentence has no angle. Parts by angle are of more equal sizes.
VECTORS = {"visual": "cosine", "said": "dot"}
EXACT = 100_000  # rows up to which all vectors are compared
PROBES = 256  # parts that a search looks into, more than clips would need: tests/benchmarks/bench_search.py
REFINE = 4  # times as many rows as are wanted are compared exactly
SAMPLE, ROUNDS = 32, 10  # vectors a part by which the parts are found, and rounds of k-means
CACHE = 2**28  # bytes of parts and word lists that stay in memory

COMPARED = ("id", "path", "seconds", "motion", "shake", "look", "words", "visual", "said")  # what clips are ranked by
CLIP = ("id", "path", "start", "end", "fps", "width", "height", "caption", "source", "licence")

Row = dict[str, Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class Told:
    """What people say of a file."""

    caption: str = ""
    source: str = ""  # where it comes from, for the credits
    licence: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class IndexedFile:
    """A file as the index knows it."""

    path: str
    digest: str  # of its content
    size: int
    modified: int  # nanoseconds
    shots: tuple[str, ...]  # ids of its rows
    told: Told


def schema(embedding: int, encoder: Mapping[str, str]) -> pa.Schema:
    """The columns of the table, for visual embeddings of this width."""
    return pa.schema(
        [
            ("id", pa.string()),  # content key of the shot
            ("path", pa.string()),
            ("digest", pa.string()),
            ("size", pa.int64()),
            ("modified", pa.int64()),
            ("start", pa.int32()),
            ("end", pa.int32()),
            ("fps", pa.float64()),
            ("width", pa.int32()),
            ("height", pa.int32()),
            ("seconds", pa.float32()),
            ("motion", pa.float32()),  # picture widths a second
            ("shake", pa.float32()),  # picture widths a second
            ("look", pa.int64()),  # see shots.look
            ("thumbnail", pa.binary()),  # JPEG of the middle
            ("caption", pa.string()),
            ("source", pa.string()),
            ("licence", pa.string()),
            ("words", pa.string()),  # caption and names, for full-text search
            ("visual", pa.list_(HALF, embedding)),
            ("said", pa.list_(HALF, SENTENCE)),  # the caption's embedding; zeros when nothing is said
        ],
        metadata=dict(encoder),
    )


class Index:
    """The table in ``folder``, made at the first write.

    ``encoder`` (name and digest) must be the one that made the index. Raises StoryError when it is not, or when the
    folder holds something else.
    """

    def __init__(self, folder: Path, encoder: Mapping[str, str]):
        self.folder, self.encoder = folder, dict(encoder)

    @cached_property
    def table(self) -> lancedb.table.Table | None:
        table = open_table(self.folder)
        stored = told_by(table)
        if table is not None and stored.get("digest") != self.encoder["digest"]:
            raise StoryError(
                f"the index in {self.folder} was made with other retrieval weights ({stored.get('name')})",
                "Use those weights, or delete the folder and index again.",
            )
        return table

    @contextlib.contextmanager
    def writing(self, wait: float = 0) -> Iterator[None]:
        """One process writes at a time; StoryError when another one does for longer than ``wait`` seconds."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with filelock.FileLock(self.folder / "writing.lock", timeout=wait):
                yield
        except filelock.Timeout as error:
            raise StoryError(
                f"the index in {self.folder} is being written by another run", "Wait for it to end."
            ) from error
        except OSError as error:
            raise StoryError(f"the index in {self.folder} cannot be written: {error.strerror or error}") from error

    # ---- what is in ----------------------------------------------------------------------------------------

    def __len__(self) -> int:
        return self.table.count_rows() if self.table else 0

    def files(self) -> list[IndexedFile]:
        """All files; a path can be there twice when a run was killed while it replaced the one by the other."""
        columns = ["id", "path", "digest", "size", "modified", "caption", "source", "licence"]
        found: dict[tuple[str, str], tuple[Row, list[str]]] = {}
        for row in self.rows(columns):
            found.setdefault((row["path"], row["digest"]), (row, []))[1].append(row["id"])
        return [
            IndexedFile(
                path=path,
                digest=digest,
                size=row["size"],
                modified=row["modified"],
                shots=tuple(ids),
                told=Told(caption=row["caption"], source=row["source"], licence=row["licence"]),
            )
            for (path, digest), (row, ids) in found.items()
        ]

    def rows(self, columns: Sequence[str]) -> Iterator[Row]:
        """Some columns of every row, without holding all of them at once."""
        if self.table:
            for batch in self.table.search().select(list(columns)).to_batches():
                yield from batch.to_pylist()

    # ---- changes, each of them whole or not at all -----------------------------------------------------------

    def insert(self, rows: Sequence[Row]) -> None:
        """Adds rows whose ids are new."""
        if not rows:
            return
        if self.table is None:
            columns = schema(len(rows[0]["visual"]), self.encoder)
            self.table = connect(self.folder).create_table(TABLE, schema=columns)
            self.table.create_index("words", config=FTS(stem=True, remove_stop_words=True, with_position=False))
        self.table.add(as_arrow(rows, self.table.schema))

    def update(self, rows: Sequence[Row]) -> None:
        """Changes the given columns of rows that are there, found by ``id``."""
        if rows:
            columns = pa.schema([self.table.schema.field(name) for name in rows[0]])
            self.table.merge_insert("id").when_matched_update_all().execute(as_arrow(rows, columns))

    def remove(self, ids: Iterable[str]) -> None:
        if ids := list(ids):
            self.table.delete("id IN (" + ", ".join(map(quoted, ids)) + ")")

    def tidy(self) -> None:
        """Brings what is searched by up to date, packs small pieces together, and forgets old versions.

        Of a table without a row nothing is left.
        """
        if self.table is not None and not len(self):
            connect(self.folder).drop_table(TABLE)
            del self.table
        elif self.table:
            self.table.optimize(cleanup_older_than=KEEP_VERSIONS)
            if count := parts(len(self)):
                self.sort(count)

    def sort(self, count: int) -> None:
        """Sorts the vectors into ``count`` parts, if they are not; ``tidy`` then puts new rows into these.

        An index is named by its column, its codes and its parts.
        """
        there = {index.name: index.columns for index in self.table.list_indices()}
        for column, measure in VECTORS.items():
            name = f"{column}_rq_{count}"
            for old in there:
                if there[old] == [column] and old != name:
                    self.table.drop_index(old)
            if name not in there:
                how = IvfRq(distance_type=measure, num_partitions=count, sample_rate=SAMPLE, max_iterations=ROUNDS)
                self.table.create_index(column, config=how, name=name)

    # ---- search ----------------------------------------------------------------------------------------------

    def nearest(
        self, column: str, vector: np.ndarray, count: int, where: str | None = None, *, exact: bool = False
    ) -> list[int]:
        """The rows whose vector in ``column`` is the most like ``vector``, best first.

        In a large table those of some parts; where these have too few rows ``where`` something holds, and with
        ``exact``, all are compared.
        """
        query = self.table.search(vector, vector_column_name=column).distance_type(VECTORS[column])
        if exact:
            return _rows(query.bypass_vector_index(), count, where, "_distance")
        near = _rows(query.nprobes(PROBES).refine_factor(REFINE), count, where, "_distance")
        too_few = where and len(near) < count
        return self.nearest(column, vector, count, where, exact=True) if too_few else near

    def matching(self, text: str, count: int, where: str | None = None) -> list[int]:
        """The rows with the best full-text match in ``words``, best first."""
        return _rows(self.table.search(text, query_type="fts", fts_columns="words"), count, where, "_score")

    def take(self, rows: Iterable[int], columns: Sequence[str]) -> pa.Table:
        """Some columns of some rows, each row once, in the order of their ids; ``_rowid`` is a row's number."""
        asked = self.table.take_row_ids(sorted(set(rows))).select(list(columns)).with_row_id()
        return asked.to_arrow().sort_by("id")

    def clips(self, rows: Sequence[int]) -> list[Clip]:
        """The shots that some rows describe."""
        found = {row.pop("_rowid"): row for row in self.take(rows, CLIP).to_pylist()}
        return [Clip(**row | {"path": Path(os.fsdecode(row["path"]))}) for row in (found[number] for number in rows)]


def _rows(query, count: int, where: str | None, measure: str) -> list[int]:
    """The numbers of the rows that a query finds; they hold for this version of the table."""
    if where:
        query = query.where(where)
    return query.limit(count).select([measure]).with_row_id(True).to_arrow()["_rowid"].to_pylist()


def parts(rows: int) -> int:
    """Into how many parts a table is sorted: about the square root of its rows, a power of two; 0 = none."""
    return 2 ** round(math.log2(rows) / 2) if rows > EXACT else 0


def connect(folder: Path) -> lancedb.DBConnection:
    """LanceDB with a bound on what it keeps in memory."""
    return lancedb.connect(folder, session=lancedb.Session(CACHE, CACHE))


def open_table(folder: Path) -> lancedb.table.Table | None:
    """The table in a folder, if there is one. Raises StoryError when it cannot be read."""
    if not holds_clips(folder):
        return None
    try:
        return connect(folder).open_table(TABLE)
    except (ValueError, RuntimeError, OSError) as error:
        raise StoryError(f"the index in {folder} cannot be read", "Delete that folder and index again.") from error


def told_by(table: lancedb.table.Table | None) -> dict[str, str]:
    """What a table says of the encoder that its vectors came from."""
    stored = table.schema.metadata if table is not None else None
    return {key.decode(): value.decode() for key, value in (stored or {}).items()}


def state(folder: Path) -> list[str | int | None]:
    """What tells an index from one with other clips, without reading it."""
    table = open_table(folder)
    if table is None:
        return []
    newest = table.list_versions()[-1]
    return [told_by(table).get("digest"), newest["version"], newest["timestamp"].isoformat()]


def weights_of(folder: Path) -> Path | None:
    """The retrieval weights that the index in a folder was made with, unless they were the built-in ones."""
    where = told_by(open_table(folder)).get("weights")
    return Path(where) if where else None


def as_arrow(rows: Sequence[Row], columns: pa.Schema) -> pa.Table:
    """Rows as a table; vectors are stored in half precision."""
    arrays = []
    for column in columns:
        values = [row.get(column.name) for row in rows]
        if pa.types.is_fixed_size_list(column.type):
            flat = pa.array(np.concatenate(values).astype(np.float16))
            arrays.append(pa.FixedSizeListArray.from_arrays(flat, column.type.list_size))
        else:
            arrays.append(pa.array(values, column.type))
    return pa.Table.from_arrays(arrays, schema=columns)


def quoted(text: str) -> str:
    """A string in a filter."""
    return "'" + text.replace("'", "''") + "'"
