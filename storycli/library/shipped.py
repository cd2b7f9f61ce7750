"""The clips that ship with storycli, and their index packed into one small file: the first film starts at once.

``python -m storycli.library.shipped`` packs it, after the clips or the retrieval weights have changed.
"""

import os
import tempfile
from pathlib import Path

import pyarrow.parquet

from storycli import config
from storycli.errors import StoryError
from storycli.library.encoder import Encoder
from storycli.library.index import Index, Row, as_arrow
from storycli.library.indexing import Update
from storycli.library.sources import find

CLIPS = config.EXAMPLES / "clips.csv"
PACKED = config.EXAMPLES / "clips.parquet"


def pack(encoder: Encoder, clips: Path = CLIPS, packed: Path = PACKED) -> Path:
    """Indexes the clips of a table and writes the rows to one file, with paths relative to the table."""
    with tempfile.TemporaryDirectory() as folder:
        index = Index(Path(folder), encoder.identity)
        failures = Update(index, encoder).run(list(find([clips])), None).failures
        if failures:
            raise StoryError(f"{len(failures)} clips cannot be indexed: {failures[0].reason}")
        rows = sorted(index.rows(index.table.schema.names), key=lambda row: row["path"])
        for row in rows:
            row.update(path=os.path.relpath(row["path"], clips.parent), size=0, modified=0)
        pyarrow.parquet.write_table(as_arrow(rows, index.table.schema), packed, compression="zstd")
    return packed


def unpack(index: Index, clips: Path = CLIPS, packed: Path = PACKED) -> None:
    """Puts the packed rows into an empty index, if the same weights made them; what is missing is indexed as ever."""
    if not packed.is_file() or len(index):
        return
    table = pyarrow.parquet.read_table(packed)
    if (table.schema.metadata or {}).get(b"digest", b"").decode() != index.encoder["digest"]:
        return
    rows = [row for row in table.to_pylist() if (clips.parent / row["path"]).is_file()]
    index.insert([located(row, clips.parent) for row in rows])


def located(row: Row, folder: Path) -> Row:
    """A packed row for the file as it lies in ``folder`` here."""
    path = folder / row["path"]
    state = path.stat()
    return row | {"path": str(path), "size": state.st_size, "modified": state.st_mtime_ns}


if __name__ == "__main__":
    pack(Encoder())
