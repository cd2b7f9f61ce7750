"""Bringing the index up to date with files: what is new, changed, moved, told anew, or cannot be read."""

import hashlib
import logging
import stat
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import numpy as np

from storycli import cluster
from storycli.errors import StoryError
from storycli.library.encoder import Encoder, UnusableWeights
from storycli.library.index import SENTENCE, Index, IndexedFile, Row, Told
from storycli.library.sentences import minilm
from storycli.library.sources import Failure, Source, name_words
from storycli.media import shards

log = logging.getLogger(__name__)

WRITE_EVERY = 5.0  # seconds; what a killed run loses at most
AT_ONCE = 16  # shots whose frames are in memory
FEW = 16  # files that are not worth starting processes for
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
    shots: tuple[Row, ...] = ()


# ---- what workers do, each file for itself -----------------------------------------------------------------------


def examine(encoder: Encoder, source: Source, known: frozenset[str]) -> Content:
    """Finds out what a file holds, and looks at its shots unless its digest is ``known``.

    Raises StoryError with the reason if it cannot.
    """
    try:
        state = shards.state(source.path)
        digest = content_digest(source.path)
    except OSError as error:
        raise StoryError(f"{source.path} {why_not(error)}") from error
    rows = () if digest in known else tuple(rows_of(encoder, source.path, digest))
    return Content(source, state.st_size, state.st_mtime_ns, digest, rows)


def rows_of(encoder: Encoder, path: Path, digest: str) -> Iterator[Row]:
    """What the pictures of a file tell of each of its shots."""
    from storycli.library.shots import find_shots, look, thumbnail
    from storycli.media import video

    info = video.probe(path)
    size = encoder.frame_size(info.width, info.height)
    seen = (
        (span, np.stack([kept.pixels(size) for kept in shot.nearest(encoder.sample(span.start, span.end))]))
        for shot in find_shots(path)
        for span in [shot.span]
    )
    while some := list(islice(seen, AT_ONCE)):
        vectors = encoder.embed_clips([frames for _, frames in some])
        for (span, frames), vector in zip(some, vectors, strict=True):
            yield dict(
                id=f"{digest[:32]}-{span.start}-{span.end}",
                start=span.start,
                end=span.end,
                fps=info.fps,
                width=info.width,
                height=info.height,
                seconds=span.seconds,
                motion=span.motion,
                shake=span.shake,
                look=look(frames),
                thumbnail=thumbnail(frames[len(frames) // 2]),
                visual=vector,
            )


# ---- what the run does, one file after the other -----------------------------------------------------------------


class Update:
    """One run over some files. Rows are written every few seconds and when the run ends, however it ends."""

    def __init__(self, index: Index, encoder: Encoder, workers: int | None = None, ray: bool = False):
        self.index, self.encoder, self.workers, self.ray = index, encoder, workers, ray
        self.report = Report()
        self.failures: list[Failure] = []
        self.known = {file.digest: file for file in index.files()}
        self.at = {file.path: file for file in self.known.values()}
        self.of_size: dict[int, set[str]] = defaultdict(set)  # digests
        for file in self.known.values():
            self.of_size[file.size].add(file.digest)
        self.digests: dict[str, str] = {}  # of the files met in this run; empty when unreadable
        self.inserts: list[Row] = []
        self.changes: dict[str, Row] = {}
        self.written = time.monotonic()

    def run(self, found: list[Source | Failure], progress: Progress | None = None) -> Report:
        self.failures += [item for item in found if isinstance(item, Failure)]
        sources = [item for item in found if isinstance(item, Source)]
        met = 0

        def settle(source: Source, outcome: Content | Exception) -> None:
            nonlocal met
            met += 1
            self.settle(source, outcome)
            if progress:
                progress(met, len(sources), source.path)
            if time.monotonic() - self.written > WRITE_EVERY:
                self.write()

        def to_read() -> Iterator[tuple[Encoder, Source, frozenset[str]]]:
            for source in sources:
                outcome = self.at_a_glance(source)
                if isinstance(outcome, frozenset):
                    self.digests[str(source.path)] = ""
                    yield self.encoder, source, outcome
                else:
                    settle(source, outcome)

        try:
            workers = self.workers if len(sources) > FEW else None
            with cluster.crew(workers, ray=self.ray, device=self.encoder.device) as crew:
                for (_, source, _), outcome in cluster.in_order(crew, examine, to_read()):
                    settle(source, outcome)
        finally:
            self.write()
        self.remove_stale()
        self.index.tidy()
        self.report.failures = tuple(self.failures)
        return self.report

    def at_a_glance(self, source: Source) -> Content | StoryError | frozenset[str]:
        """What can be said without reading a file: it is as it was, is unreadable, or may have one of some digests."""
        path = str(source.path)
        try:
            path.encode()
            state = shards.state(source.path)
        except ValueError:  # not UTF-8, or with a zero byte in it
            return StoryError(f"{path!a} has a name that is not text", "Rename it.")
        except OSError as error:
            return StoryError(f"{path} {why_not(error)}")
        if not stat.S_ISREG(state.st_mode):
            return StoryError(f"{path} is {'a folder' if stat.S_ISDIR(state.st_mode) else 'not a file'}, not a video")
        before = self.at.get(path)
        if before and (before.size, before.modified) == (state.st_size, state.st_mtime_ns):
            return Content(source, before.size, before.modified, before.digest)
        return frozenset(self.of_size.get(state.st_size, ()))

    def settle(self, source: Source, outcome: Content | Exception) -> None:
        """Plans the writes that a file needs, or notes why it cannot be indexed. Raises UnusableWeights."""
        match outcome:
            case Content():
                self.take(outcome)
            case UnusableWeights():
                raise outcome
            case cluster.Lost():
                reason = f"{source.path} cannot be indexed: the program that decodes it dies of it"
                self.failures.append(Failure(source.path, reason))
            case StoryError():
                self.failures.append(Failure(source.path, outcome.message))
            case _:  # one file must not end the work on thousands
                log.error("a file failed in a new way", exc_info=outcome)
                self.failures.append(Failure(source.path, f"{source.path} cannot be indexed: {outcome!r}"))

    def take(self, content: Content) -> None:
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
            shots=tuple(row["id"] for row in content.shots),
            told=content.source.told,
        )
        columns = file_columns(file)
        self.inserts += [columns | row for row in content.shots]
        self.known[file.digest] = self.at[file.path] = file
        self.report.added += 1
        self.report.shots += len(file.shots)

    def change(self, file: IndexedFile) -> None:
        columns = file_columns(file)
        self.known[file.digest] = file
        not_written = [row for row in self.inserts if row["digest"] == file.digest]
        for row in not_written:
            row.update(columns)
        if not not_written:
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


def content_digest(path: Path) -> str:
    with shards.opened(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def why_not(error: OSError) -> str:
    return "does not exist" if isinstance(error, FileNotFoundError) else f"cannot be read: {error.strerror}"


def is_current(file: IndexedFile) -> bool:
    """Whether the file is still where the index has it, as it was."""
    try:
        state = shards.state(Path(file.path))
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
