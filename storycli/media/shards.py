"""Videos inside webdataset shards: ``clips.tar/0001.mp4`` names a member of ``clips.tar``, which is read in place.

Nothing is unpacked. Such a path is told from others by a parent that is a file.
"""

import contextlib
import errno
import functools
import io
import os
import stat
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

SUFFIX = ".tar"


@dataclass(frozen=True, slots=True)
class State:
    """What ``os.stat`` says of a file, or would say of a member if it were one."""

    st_mode: int
    st_size: int
    st_mtime_ns: int


class Window(io.RawIOBase):
    """A part of a file, as a file."""

    def __init__(self, path: Path, start: int, size: int):
        self.file, self.start, self.size = path.open("rb", buffering=0), start, size
        self.file.seek(start)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self.file.tell() - self.start

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self.tell(), os.SEEK_END: self.size}[whence]
        return self.file.seek(self.start + max(0, base + offset)) - self.start

    def readinto(self, buffer) -> int:
        left = max(0, self.size - self.tell())
        return self.file.readinto(memoryview(buffer)[:left])

    def close(self) -> None:
        self.file.close()
        super().close()


def members(shard: Path) -> Iterator[tarfile.TarInfo]:
    """The regular files in a shard, one by one. Raises tarfile.TarError where it is damaged, compressed or none."""
    with tarfile.open(shard, "r:") as archive:
        for member in archive:
            archive.members.clear()  # else it remembers all of them
            if member.isreg() and not member.issparse():
                yield member


def state(path: Path) -> State:
    """The state of a file or a member. Raises OSError as ``os.stat`` does."""
    try:
        found = path.stat()
    except NotADirectoryError:
        shard, _, size = _place(path)
        found = shard.stat()
        return State(stat.S_IFREG | 0o444, size, found.st_mtime_ns)
    return State(found.st_mode, found.st_size, found.st_mtime_ns)


def exists(path: Path) -> bool:
    """Whether there is such a file or member; or may be, where a folder or a disk cannot be looked into."""
    try:
        state(path)
    except OSError as error:
        return error.errno not in (errno.ENOENT, errno.ENOTDIR)
    return True


def is_member(path: Path) -> bool:
    """Whether a path leads into a shard."""
    return any(parent.suffix.lower() == SUFFIX and parent.is_file() for parent in path.parents)


@contextlib.contextmanager
def opened(path: Path) -> Iterator[BinaryIO]:
    """A file or a member, to read bytes from."""
    try:
        file = path.open("rb")
    except NotADirectoryError:
        file = io.BufferedReader(Window(*_place(path)), 1 << 16)
    with file:
        yield file


def _place(path: Path) -> tuple[Path, int, int]:
    """The shard of a member, and where in it the member begins and how long it is."""
    shard = next((parent for parent in path.parents if parent.is_file()), None)
    if shard is None or shard.suffix.lower() != SUFFIX:
        raise FileNotFoundError(2, "there is no such file", str(path))
    found = shard.stat()
    try:
        start, size = _places(shard, found.st_size, found.st_mtime_ns)[path.relative_to(shard).as_posix()]
    except (KeyError, tarfile.TarError) as error:
        raise FileNotFoundError(2, "there is no such file", str(path)) from error
    if start + size > found.st_size:
        raise OSError(5, "the shard is cut off", str(path))
    return shard, start, size


@functools.lru_cache(maxsize=4)  # shards are met one after the other
def _places(shard: Path, size: int, modified: int) -> dict[str, tuple[int, int]]:
    places = {}
    with contextlib.suppress(tarfile.ReadError):  # cut off; what comes before is good
        for member in members(shard):
            places[Path(member.name.lstrip("/")).as_posix()] = member.offset_data, member.size
    return places
