"""The index: a LanceDB table with one row a shot, in a folder of its own.

Every change is one atomic version of the table, and all shots of a file are written in one change: whenever a run is
killed, each file is in whole or not at all. The table says which encoder its vectors came from.
"""

import contextlib
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
from lancedb.index import FTS

from storycli.errors import StoryError
from storycli.story import Clip

SENTENCE = 384  # width of a sentence embedding
KEEP_VERSIONS = timedelta(hours=1)  # for those who are reading one while it is replaced
HALF = pa.float16()

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

    TABLE = "clips"

    def __init__(self, folder: Path, encoder: Mapping[str, str]):
        self.folder, self.encoder = folder, dict(encoder)

    @cached_property
    def table(self) -> lancedb.table.Table | None:
        if not (self.folder / f"{self.TABLE}.lance").is_dir():
            return None
        try:
            table = lancedb.connect(self.folder).open_table(self.TABLE)
            stored = {key.decode(): value.decode() for key, value in (table.schema.metadata or {}).items()}
        except (ValueError, RuntimeError, OSError) as error:
            raise StoryError(
                f"the index in {self.folder} cannot be read", "Delete that folder and index again."
            ) from error
        if stored.get("digest") != self.encoder["digest"]:
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
            self.table = lancedb.connect(self.folder).create_table(self.TABLE, schema=columns)
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
        """Brings the full-text index up to date, packs small pieces together, and forgets old versions."""
        if self.table:
            self.table.optimize(cleanup_older_than=KEEP_VERSIONS)

    # ---- search ----------------------------------------------------------------------------------------------

    def nearest(self, column: str, vector: np.ndarray, count: int, where: str | None) -> pa.Table:
        """The rows whose vector in ``column`` has the largest product with ``vector``; found exactly."""
        query = self.table.search(vector, vector_column_name=column).distance_type("dot")
        return self._run(query, count, where, "_distance")

    def matching(self, text: str, count: int, where: str | None) -> pa.Table:
        """The rows with the best full-text match in ``words``."""
        return self._run(self.table.search(text, query_type="fts", fts_columns="words"), count, where, "_score")

    def _run(self, query, count: int, where: str | None, measure: str) -> pa.Table:
        columns = [name for name in self.table.schema.names if name not in ("digest", "size", "modified")]
        if where:
            query = query.where(where)
        return query.limit(count).select([*columns, measure]).to_arrow().select(columns)


def as_arrow(rows: Sequence[Row], columns: pa.Schema) -> pa.Table:
    """Rows as a table; vectors are stored in half precision."""
    arrays = []
    for column in columns:
        values = [row[column.name] for row in rows]
        if pa.types.is_fixed_size_list(column.type):
            flat = pa.array(np.concatenate(values).astype(np.float16))
            arrays.append(pa.FixedSizeListArray.from_arrays(flat, column.type.list_size))
        else:
            arrays.append(pa.array(values, column.type))
    return pa.Table.from_arrays(arrays, schema=columns)


def clip(row: Row) -> Clip:
    """The shot that a row describes."""
    names = ("id", "start", "end", "fps", "width", "height", "caption", "source", "licence")
    return Clip(path=Path(os.fsdecode(row["path"])), **{name: row[name] for name in names})


def quoted(text: str) -> str:
    """A string in a filter."""
    return "'" + text.replace("'", "''") + "'"
