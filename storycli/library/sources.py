"""What to index: videos of folders, files, tables and shards, with what people say of them."""

import csv
import json
import os
import re
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from storycli.errors import StoryError
from storycli.library.index import Told
from storycli.media import shards

# fmt: off
VIDEOS = frozenset((
    ".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".ts", ".m2ts", ".mts", ".flv", ".ogv", ".wmv",
    ".asf", ".3gp", ".gif", ".h264", ".264", ".hevc", ".265",
))
TOLD_AS = {  # names under which a member's .json may tell things, the first that is there
    "caption": ("caption", "text", "title", "description"),
    "source": ("source", "url", "author"),
    "licence": ("licence", "license"),
}
MOST_TOLD = 64 * 1024  # bytes of a member that tells of another one
CAMERA_WORDS = frozenset((  # of file names; they say nothing of what is seen
    "img", "dsc", "dscn", "mvi", "mov", "vid", "gopr", "pxl", "clip", "video", "movie", "film", "shot", "scene", "take",
    "copy", "final", "untitled", "export", "output", "whatsapp", "signal", "screen", "recording", "uhd", "fhd", "fps",
    "mp4", "hevc",
))
# fmt: on


@dataclass(frozen=True, slots=True)
class Source:
    """A file, or a member of a shard, to index. ``path`` is absolute and keeps symlinks as they are."""

    path: Path
    told: Told = field(default_factory=Told)


@dataclass(frozen=True, slots=True)
class Failure:
    """Something that could not be indexed, and why."""

    path: Path
    reason: str


def find(paths: Sequence[Path]) -> Iterator[Source | Failure]:
    """The videos of folders (by their suffix), of files, of CSV tables and of webdataset shards, each path once.

    A table has a column ``path`` (relative to the table) and may have ``caption``, ``source`` and ``licence``. A
    caption may also stand in a text file beside the video, ``clip.txt`` for ``clip.mp4``; in a shard also in a
    ``clip.json`` with such keys. Raises StoryError for a path or a table that does not exist or cannot be read.
    """
    seen = set()
    for path in paths:
        path = Path(os.path.abspath(path))
        try:
            shards.state(path)
        except FileNotFoundError as error:
            raise StoryError(f"{path} does not exist") from error
        except OSError as error:
            raise StoryError(f"{path} cannot be read: {error.strerror}") from error
        for found in of(path):
            if found.path not in seen or isinstance(found, Failure):
                seen.add(found.path)
                yield found


def of(path: Path) -> Iterator[Source | Failure]:
    """What a path stands for."""
    if path.is_dir():
        yield from walk(path)
    elif path.suffix.lower() == ".csv":
        yield from table(path)
    elif path.suffix.lower() == shards.SUFFIX:
        yield from shard(path)
    else:
        yield beside(path)


def walk(folder: Path) -> Iterator[Source | Failure]:
    """Videos in a folder and the folders in it, in order of their names; links that lead back are not followed."""
    visited = set()

    def inside(folder: Path) -> Iterator[Source | Failure]:
        try:
            state = folder.stat()
            if (state.st_dev, state.st_ino) in visited:
                return
            visited.add((state.st_dev, state.st_ino))
            entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
        except OSError as error:
            yield unreadable(folder, error)
            return
        for entry in entries:
            path = folder / entry.name
            try:
                is_folder, is_file = entry.is_dir(), entry.is_file()
            except OSError as error:
                yield unreadable(path, error)
                continue
            if path.suffix.lower() in VIDEOS and not is_folder:
                yield beside(path)
            elif path.suffix.lower() == shards.SUFFIX and is_file:
                yield from shard(path)
            elif not entry.name.startswith(".") and is_folder:
                yield from inside(path)

    yield from inside(folder)


def unreadable(path: Path, error: OSError) -> Failure:
    return Failure(path, f"{path} cannot be read: {error.strerror}")


def beside(path: Path) -> Source:
    """A video with the caption that lies beside it."""
    try:
        caption = path.with_suffix(".txt").read_text("utf-8")[:2000]
    except (OSError, UnicodeDecodeError, ValueError):
        return Source(path)
    return Source(path, Told(caption=" ".join(caption.split())))


def table(path: Path) -> Iterator[Source]:
    """The videos of a CSV file."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise StoryError(f"{path} cannot be read as a table: {error}", "It should be CSV in UTF-8.") from error
    if not rows or "path" not in rows[0]:
        raise StoryError(f"{path} has no column named path", "Its first line should be: path,caption,source,licence")
    for row in rows:
        told = Told(**{name: (row.get(name) or "").strip() for name in ("caption", "source", "licence")})
        yield Source(Path(os.path.abspath(path.parent / (row["path"] or ""))), told)


def shard(path: Path) -> Iterator[Source | Failure]:
    """The videos in a webdataset shard: a tar archive in which files of one name but for the suffix belong together."""
    videos, told = [], {}
    try:
        for member in shards.members(path):
            name = PurePosixPath(member.name.lstrip("/"))
            if ".." in name.parts:
                yield Failure(path / name.name, f"{path} has a member that leads out of it: {member.name}")
            elif name.suffix.lower() in VIDEOS:
                videos.append(name)
            elif name.suffix.lower() in (".txt", ".json") and member.size <= MOST_TOLD:
                with shards.Window(path, member.offset_data, member.size) as text:
                    told.setdefault(name.with_suffix(""), {})[name.suffix.lower()] = text.readall()
    except tarfile.CompressionError as error:
        yield Failure(path, f"{path} is compressed in a way that is not known: {error}")
    except (tarfile.TarError, EOFError) as error:
        yield Failure(path, f"{path} is damaged, cut off or not a plain tar archive: {error}")
    except OSError as error:
        yield unreadable(path, error)
    yield from (Source(path / name, in_shard(told.get(name.with_suffix(""), {}))) for name in videos)


def in_shard(told: dict[str, bytes]) -> Told:
    """What the ``.json`` and the ``.txt`` of a member say of it."""
    try:
        known = json.loads(told.get(".json", b"{}"))
    except (ValueError, RecursionError):
        known = {}
    known = known if isinstance(known, dict) else {}
    says = {
        what: next((known[n] for n in names if isinstance(known.get(n), str)), "") for what, names in TOLD_AS.items()
    }
    says["caption"] = says["caption"] or told.get(".txt", b"").decode("utf-8", "ignore")
    # half an emoji, as a programme that counts in UTF-16 may leave it, is no text
    whole = {what: text.encode("utf-8", "ignore").decode() for what, text in says.items()}
    return Told(**{what: " ".join(text.split())[:2000] for what, text in whole.items()})


def name_words(path: Path) -> str:
    """What the name of a file says: ``IMG_2041-bigWaves.mp4`` says ``big waves``."""
    parts = re.sub(r"([a-z])([A-Z])", r"\1 \2", path.stem)
    words = re.findall(r"[^\W\d_]+", parts)
    return " ".join(word.lower() for word in words if len(word) > 2 and word.lower() not in CAMERA_WORDS)
