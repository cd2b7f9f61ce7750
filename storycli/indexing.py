"""Bringing the index up to date with files: what is new, changed, moved, told anew, or cannot be read."""

import hashlib
import logging
import os
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from storycli.encoder import Encoder
from storycli.errors import StoryError
from storycli.index import SENTENCE, Index, IndexedFile, Row, Told
from storycli.sentences import minilm
from storycli.sources import Failure, Source, name_words

log = logging.getLogger(__name__)

WRITE_EVERY = 5.0  # seconds; what a killed run loses at most
Progress = Callable[[int, int, Path], None]


@dataclass(kw_only=True, slots=True)
class Report:
    """What became of the files; ``failures`` have reasons."""

    added: int = 0
    shots: int = 0  # in the added files
    moved: int = 0
    retold: int = 0  # other caption, source or licence
    duplicates: int = 0  # the content is in under another name
    unchanged: int = 0
    removed: int = 0  # content that its file no longer has
    failures: tuple[Failure, ...] = ()


@dataclass(frozen=True, slots=True)
class Content:
    """What a file holds now; ``shots`` are its rows as far as the pictures tell, when it had to be decoded."""

    source: Source
    size: int
    modified: int
    digest: str
    shots: tuple[tuple[Row, np.ndarray], ...] = ()


class Update:
    """One run over some files. Rows are written every few seconds and when the run ends, however it ends."""

    def __init__(self, index: Index, encoder: Encoder):
        self.index, self.encoder = index, encoder
        self.report = Report()
        self.known = {file.digest: file for file in index.files()}
        self.at = {file.path: file for file in self.known.values()}
        self.digests: dict[str, str] = {}  # of the files met in this run; empty when unreadable
        self.inserts: list[Row] = []
        self.changes: dict[str, Row] = {}
        self.written = time.monotonic()

    def run(self, found: list[Source | Failure], progress: Progress | None) -> Report:
        failures = [item for item in found if isinstance(item, Failure)]
        sources = [item for item in found if isinstance(item, Source)]
        try:
            for done, (source, content) in enumerate(in_order(self.examine, sources), 1):
                try:
                    self.take(content.result())
                except StoryError as error:
                    failures.append(Failure(source.path, error.message))
                except Exception as error:  # one file must not end the work on thousands
                    log.exception("a file failed in a new way")
                    failures.append(Failure(source.path, f"{source.path} cannot be indexed: {error!r}"))
                if progress:
                    progress(done, len(sources), source.path)
                if time.monotonic() - self.written > WRITE_EVERY:
                    self.write()
        finally:
            self.write()
        self.remove_stale()
        self.index.tidy()
        self.report.failures = tuple(failures)
        return self.report

    # ---- beside each other, in threads -----------------------------------------------------------------------

    def examine(self, source: Source) -> Content:
        """Finds out what a file holds; decodes it when that is new. Raises StoryError with the reason if it cannot."""
        path = str(source.path)
        try:
            path.encode()
            state = source.path.stat()
            before = self.at.get(path)
            if before and (before.size, before.modified) == (state.st_size, state.st_mtime_ns):
                return Content(source, before.size, before.modified, before.digest)
            self.digests[path] = ""
            digest = content_digest(source.path)
        except UnicodeEncodeError as error:
            raise StoryError(f"{path!a} has a name that is not text", "Rename it.") from error
        except FileNotFoundError as error:
            raise StoryError(f"{path} does not exist") from error
        except OSError as error:
            raise StoryError(f"{path} cannot be read: {error.strerror}") from error
        content = Content(source, state.st_size, state.st_mtime_ns, digest)
        return content if digest in self.known else replace(content, shots=tuple(self.decode(source.path, digest)))

    def decode(self, path: Path, digest: str) -> Iterator[tuple[Row, np.ndarray]]:
        from storycli import video
        from storycli.shots import find_shots, look

        info = video.probe(path)
        size = self.encoder.frame_size(info.width, info.height)  # before decoding: torch has to load before decord
        for span in find_shots(path, info):
            frames = video.read(path, indices=self.encoder.sample(span.start, span.end), size=size)
            row = dict(
                id=f"{digest[:32]}-{span.start}-{span.end}",
                start=span.start,
                end=span.end,
                fps=info.fps,
                width=info.width,
                height=info.height,
                seconds=(span.end - span.start) / info.fps,
                motion=span.motion,
                shake=span.shake,
                look=look(frames),
            )
            yield row, frames

    # ---- one after the other ---------------------------------------------------------------------------------

    def take(self, content: Content) -> None:
        """Plans the writes that a file needs."""
        path = str(content.source.path)
        self.digests[path] = content.digest
        before = self.known.get(content.digest)
        if before is None:
            self.insert(content)
        elif before.path != path and is_current(before):
            self.report.duplicates += 1
        else:
            told = merged(before.told, content.source.told)
            after = replace(before, path=path, size=content.size, modified=content.modified, told=told)
            if before.path != path:
                self.report.moved += 1
            elif told != before.told:
                self.report.retold += 1
            else:
                self.report.unchanged += 1
            if after != before:
                self.change(after)

    def insert(self, content: Content) -> None:
        file = IndexedFile(
            path=str(content.source.path),
            digest=content.digest,
            size=content.size,
            modified=content.modified,
            shots=tuple(row["id"] for row, _ in content.shots),
            told=content.source.told,
        )
        vectors = self.encoder.embed_clips([frames for _, frames in content.shots])
        columns = file_columns(file)
        self.inserts += [columns | row | {"visual": v} for (row, _), v in zip(content.shots, vectors, strict=True)]
        self.known[file.digest] = self.at[file.path] = file
        self.report.added += 1
        self.report.shots += len(file.shots)

    def change(self, file: IndexedFile) -> None:
        columns = file_columns(file)
        self.known[file.digest] = file
        for row in self.inserts:
            if row["digest"] == file.digest:
                row.update(columns)
                return
        self.changes |= {shot: columns | {"id": shot} for shot in file.shots}

    def write(self) -> None:
        self.index.insert(self.inserts)
        self.index.update(list(self.changes.values()))
        self.inserts, self.changes = [], {}
        self.written = time.monotonic()

    def remove_stale(self) -> None:
        """Drops shots whose file was met and holds something else now."""
        stale = [file for file in self.index.files() if self.digests.get(file.path, file.digest) != file.digest]
        self.index.remove(shot for file in stale for shot in file.shots)
        self.report.removed = len(stale)


def in_order(work: Callable[[Source], Content], sources: Iterable[Source]) -> Iterator[tuple[Source, Future]]:
    """Works on a few files at a time and hands the outcomes back in order; only a few wait in memory."""
    workers = os.cpu_count() or 1
    with ThreadPoolExecutor(workers) as pool:
        waiting: deque[tuple[Source, Future]] = deque()
        try:
            for source in sources:
                waiting.append((source, pool.submit(work, source)))
                if len(waiting) > workers:
                    yield waiting.popleft()
            while waiting:
                yield waiting.popleft()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def content_digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def is_current(file: IndexedFile) -> bool:
    """Whether the file is still where the index has it, as it was."""
    try:
        state = os.stat(file.path)
    except OSError:
        return False
    return (state.st_size, state.st_mtime_ns) == (file.size, file.modified)


def merged(old: Told, new: Told) -> Told:
    """What is told anew, else what was told before."""
    return Told(caption=new.caption or old.caption, source=new.source or old.source, licence=new.licence or old.licence)


def file_columns(file: IndexedFile) -> Row:
    """What all shots of a file have in common. Without a caption the file's name speaks."""
    path = Path(file.path)
    names = name_words(path)
    sentence = file.told.caption or names
    return dict(
        path=file.path,
        digest=file.digest,
        size=file.size,
        modified=file.modified,
        caption=file.told.caption,
        source=file.told.source,
        licence=file.told.licence,
        words=" ".join([file.told.caption, names, name_words(Path(path.parent.name))]),
        said=minilm().embed([sentence])[0] if sentence else np.zeros(SENTENCE, np.float32),
    )
