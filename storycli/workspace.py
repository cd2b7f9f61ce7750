"""The run folder: what a film was made of, kept so that nothing is made twice. Nothing else knows of this.

``RunFolder.do`` names each piece of work by a digest over its inputs *by value* (a file counts by its
content) and keeps what came out in ``.kept/STAGE-DIGEST/``. Such a folder appears by one rename when it is
complete, with the digests of its files inside: a run that is killed at any moment leaves the whole piece or
nothing, and a damaged piece is made again. The folders that people look at (``01/``, ``02/``) are hard links
into ``.kept``.
"""

import functools
import inspect
import json
import logging
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from pydantic import TypeAdapter

from storycli import cluster, digest, manifest, provenance, sheet, storyboard
from storycli.errors import StoryError, UsageError
from storycli.media.ffmpeg import replacing
from storycli.story import Film, Story

log = logging.getLogger(__name__)

FORMAT = 4  # part of every key: raise it when a stage makes something else of the same inputs
RECORD = "made.json"
Report = Callable[[str, str, int, int], None]


class RunFolder:
    """The folder ``film.storycli/`` beside ``film.mp4``, locked for one run at a time.

    ``report(stage, at, done, total)`` is called as work goes on. ``act(stage, *inputs, **how)`` carries a stage out.
    ``do`` may be called by several threads at a time.

    Raises:
        UsageError: the film's name is not one of an .mp4 file.
        StoryError: there is another video of that name, another run is at work in the folder, or it cannot be written.
    """

    def __init__(self, film: Path, *, report: Report | None = None, act: Callable[..., Any] = cluster.here):
        self.film = Path(film)
        check_target(self.film)
        self.folder = self.film.with_name(f"{self.film.stem}.storycli")
        self.kept = self.folder / ".kept"
        self.report, self.act = report or (lambda *_: None), act
        self.records: list[dict[str, Any]] = []
        self._lock = FileLock(self.folder / ".lock")
        self._at_work: dict[Path, threading.Lock] = {}

    def __enter__(self) -> "RunFolder":
        self.kept.mkdir(parents=True, exist_ok=True)
        try:
            self._lock.acquire(blocking=False)
        except Timeout:
            raise StoryError(
                f"{self.folder}: another run is at work here",
                "wait for it, or give this film another name with -o",
            ) from None
        for left in self.kept.glob("tmp-*"):  # of a run that was killed
            shutil.rmtree(left)
        return self

    def __exit__(self, *_: object) -> None:
        self._lock.release()

    def do(self, stage: Callable, *inputs: Any, at: str = "", **how: Any) -> Any:
        """The result of ``stage(*inputs, **how)``, from an earlier run where there is one.

        ``inputs`` decide what is made, ``how`` (the device) does not. ``at`` is the folder that shows it.
        """
        name = stage.__name__
        key = digest.key([FORMAT, name, inputs])
        home = self.kept / f"{name}-{key[:40]}"
        with self._at_work.setdefault(home, threading.Lock()):  # plots on one clip share its depth
            record = _intact(home)
            if fresh := record is None:
                self.report(name, at, 0, 1)
                record = self._make(home, stage, inputs, at, how)
        self.report(name, at, 1, 1)
        self.records.append(record | {"at": at, "key": key, "fresh": fresh})
        self._show(home, record, at)
        return _result(stage, record, home)

    def _under_way(self, name: str, at: str, done: int, total: int) -> None:
        """Tell how far a stage is; that it is done is for ``do`` to tell, as a clip may be taken again."""
        if done < total:
            self.report(name, at, done, total)

    def _make(self, home: Path, stage: Callable, inputs: tuple, at: str, how: Mapping[str, Any]) -> dict[str, Any]:
        with tempfile.TemporaryDirectory(prefix="tmp-", dir=self.kept, ignore_cleanup_errors=True) as scratch:
            into = Path(scratch) / "made"
            into.mkdir()
            offers = {"into": into, "report": functools.partial(self._under_way, stage.__name__, at)} | how
            takes = inspect.signature(stage).parameters
            started = time.perf_counter()
            result = self.act(stage, *inputs, **{name: offer for name, offer in offers.items() if name in takes})
            made = [*into.iterdir(), *([result] if isinstance(result, Path) else [])]
            record = {
                "stage": stage.__name__,
                "seconds": round(time.perf_counter() - started, 3),
                "result": _recorded(stage, result, into),
                "files": {_name(file, into): digest.file(file) for file in sorted(made)},
            }
            (into / RECORD).write_text(json.dumps(record, indent=1), encoding="utf-8")
            shutil.rmtree(home, ignore_errors=True)  # it was damaged
            os.rename(into, home)
        return record

    def _show(self, home: Path, record: Mapping[str, Any], at: str) -> None:
        if not at:
            return
        (self.folder / at).mkdir(exist_ok=True)
        for name in record["files"]:
            place(home / name, self.folder / at / name, link=True)

    def storyboard(self, story: Story, *, edited_elsewhere: bool) -> Story:
        """``story`` as ``storyboard.yaml`` here tells it, with what people changed in it by hand.

        The same story as in the last run leaves the file as it is; another one, or another cast, the plots that were
        edited and are still in it.
        A story that was ``edited_elsewhere``, in a storyboard of the person's own, is taken as it stands; what they
        changed by hand in the one here is then kept beside it.
        """
        board, told = self.folder / "storyboard.yaml", self.kept / "storyboard.json"
        last = Story.model_validate_json(told.read_text(encoding="utf-8")) if told.exists() else None
        if not edited_elsewhere:
            if not board.exists() or story != last:
                storyboard.write(board, story, keep=True, before=last)
            write(told, story.model_dump_json(exclude_none=True))
        elif not board.exists() or story != (there := _told_by(board)):
            if board.exists() and there != last:
                before = board.with_name("storyboard.before.yaml")
                place(board, before)
                log.warning("%s was edited by hand and is replaced; the edits are kept in %s", board, before.name)
            storyboard.write(board, story)
            write(told, story.model_dump_json(exclude_none=True))
        return storyboard.read(board)

    def choose(self, candidates: Mapping[int, int]) -> Story:
        """The storyboard with the candidates that a person chose for some of its plots, which it keeps."""
        return storyboard.choose(self.folder / "storyboard.yaml", candidates)

    def choices(self) -> manifest.Choices:
        """Which clip the last finished cut of this film took from which candidates, by their ids."""
        with suppress(OSError, ValueError, KeyError, TypeError):
            return manifest.choices(json.loads((self.folder / "manifest.json").read_bytes()))
        return {}

    def publish(self, film: Film) -> None:
        """Write the manifest and the contact sheet, put the film in its place, drop the folders of plots that are gone.

        What was made for them is kept, for when they come back. Subtitles of an earlier cut do not stay beside a film
        that has none.
        """
        record = manifest.full(film.recipe, self.records)
        write(self.folder / "manifest.json", manifest.dumped(record))
        write(
            self.folder / "index.html",
            sheet.page(film, self.film.name, sum(r["seconds"] for r in self.records)),
        )
        shown = {record["at"] for record in self.records}
        for old in self.folder.iterdir():
            if old.is_dir() and old.name.isdigit() and old.name not in shown:
                shutil.rmtree(old)
        beside = self.film.with_suffix(".srt")
        kept = self.kept.glob("*/film.srt") if beside.is_file() and not film.video.with_suffix(".srt").exists() else ()
        if any(digest.file(one) == digest.file(beside) for one in kept):
            beside.unlink()
        for made in film.video.parent.glob("film.*"):
            target = self.film if made == film.video else self.film.with_suffix(made.suffix)
            if not (target.is_file() and digest.file(target) == digest.file(made)):
                place(made, target)
        manifest.note_made(self.film)


def check_target(film: Path) -> None:
    """Raises UsageError for what is not the name of a film, StoryError for a video that storycli did not make."""
    if film.suffix.lower() != ".mp4" or film.is_dir():
        raise UsageError(f"{film}: a film is an .mp4 file", "name it so: -o film.mp4")
    if film.is_file() and film.stat().st_size and not provenance.is_ours(film):
        raise StoryError(
            f"{film} is there, and storycli did not make it",
            "give the film another name with -o, or move that file away",
        )


def check_names(*paths: Path | None) -> None:
    """Raises StoryError for a file or folder whose name is no text: what a film is made of is told in it, as text."""
    for path in filter(None, paths):
        try:
            str(path.absolute()).encode()
        except UnicodeEncodeError:
            raise StoryError(f"{str(path)!a} has a name that is not text", "rename it") from None


def write(path: Path, text: str) -> None:
    """Write a text file that is seen whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def place(source: Path, target: Path, *, link: bool = False) -> None:
    """Put a copy of a file, or a hard link where the disk has them, at ``target`` in one step."""
    with replacing(target) as temporary:
        try:
            os.link(source, temporary) if link else shutil.copyfile(source, temporary)
        except OSError:
            if not link:
                raise
            shutil.copyfile(source, temporary)


def _intact(home: Path) -> dict[str, Any] | None:
    """The record of a finished piece of work, if all of its files are there and as they were made."""
    try:
        record = json.loads((home / RECORD).read_text(encoding="utf-8"))
        whole = all(digest.file(home / name) == was for name, was in record["files"].items())
    except (OSError, ValueError, KeyError):
        return None
    return record if whole else None


def _told_by(board: Path) -> Story | None:
    """The story that a storyboard tells; None for one with mistakes."""
    with suppress(StoryError):
        return storyboard.read(board)
    return None


def _recorded(stage: Callable, result: Any, into: Path) -> Any:
    """What a stage returned, as JSON; files by their names."""
    return _kind(stage).dump_python(_moved(result, lambda path: Path(_name(path, into))), mode="json")


def _result(stage: Callable, record: Mapping[str, Any], home: Path) -> Any:
    return _moved(_kind(stage).validate_python(record["result"]), lambda path: home / path)


def _kind(stage: Callable) -> TypeAdapter:
    return TypeAdapter(inspect.signature(stage).return_annotation)


def _moved(result: Any, move: Callable[[Path], Path]) -> Any:
    """``result`` with the files that it is, or lists, elsewhere."""
    if isinstance(result, Path):
        return move(result)
    return tuple(_moved(item, move) for item in result) if isinstance(result, tuple) else result


def _name(file: Path, into: Path) -> str:
    """A file's name in the kept folder; the whole path of one elsewhere (a character's weights)."""
    return file.name if file.parent == into else str(file.absolute())
