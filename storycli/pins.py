"""What each file of weights turned out to be: remembered when it is had, held against every later copy.

Publishers seldom state a digest. So the sha256 of a file that was pulled or imported is kept, by its place under the
weights folder, and a file that differs from it later, on disk or at its source, is an error. Files that were put there
by hand are remembered too, which saves reading gigabytes at every start, but may change.
"""

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

from filelock import FileLock

from storycli import config, digest
from storycli.errors import StoryError
from storycli.media.ffmpeg import replacing


def weights_folder() -> Path:
    """Where weights are kept that did not come with the package."""
    return config.home() / "weights"


def pin(path: Path, sha256: str, source: str = "", *, published: bool = False) -> None:
    """Remember that the file at ``path`` has this digest.

    With a ``source`` it must keep it; if it was ``published`` there, every later one must have it.
    """
    stat = path.stat()
    entry = {"sha256": sha256, "size": stat.st_size, "modified": stat.st_mtime_ns}
    with _alone():
        _write(_all() | {_name(path): entry | {"source": source, "published": published}})


def pinned(path: Path) -> str:
    """The digest that a pulled file must have; empty when it is the first."""
    entry = _all().get(_name(path), {})
    return entry["sha256"] if entry.get("published") else ""


def digest_of(path: Path) -> str:
    """The sha256 of a file of weights, read again only when its size or time has changed.

    Raises:
        StoryError: it was pulled or imported, and is another file now.
    """
    entry, stat = _all().get(_name(path), {}), path.stat()
    if (entry.get("size"), entry.get("modified")) == (stat.st_size, stat.st_mtime_ns):
        return entry["sha256"]
    found = digest.file(path)
    if entry.get("source") and found != entry["sha256"]:
        raise StoryError(
            f"{path} is not the file any more that came from {entry['source']}",
            f"storycli models rm {path.parent.name}, then pull or import it again",
        )
    with suppress(StoryError, OSError):  # in a folder that is not ours to write, files are read at every start
        pin(path, found, entry.get("source", ""), published=entry.get("published", False))
    return found


def forget(folder: Path) -> None:
    """Take whatever comes next into ``folder`` for right."""
    with _alone():
        _write({name: entry for name, entry in _all().items() if not name.startswith(f"{folder.name}/")})


def _alone() -> FileLock:
    """Held while what is remembered changes, so that two commands at a time forget nothing of each other's."""
    return FileLock(weights_folder() / ".pins.lock")


def _name(path: Path) -> str:
    return f"{path.parent.name}/{path.name}"


def _all() -> dict[str, Any]:
    try:
        return json.loads((weights_folder() / "pins.json").read_text())
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise StoryError(f"{weights_folder() / 'pins.json'} is damaged: {error}", "delete it") from error


def _write(pins: dict[str, Any]) -> None:
    with replacing(weights_folder() / "pins.json") as temporary:
        temporary.write_text(json.dumps(pins, indent=1) + "\n")
