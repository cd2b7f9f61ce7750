"""Finding ffmpeg and running it: the only place that does.

ffmpeg gets argument lists (never a shell line), local files only, no terminal, and a temporary file for its
output that is renamed when all went well.
"""

import contextlib
import functools
import itertools
import logging
import os
import secrets
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from storycli.errors import StoryError

log = logging.getLogger(__name__)

LOCAL_ONLY = "file,pipe"  # the value of -protocol_whitelist: no network, whatever a file may refer to
REPRODUCIBLE = {  # nothing of this day, this machine or the input's own tags in a file
    "fflags": "+bitexact",
    "flags:v": "+bitexact",
    "map_metadata": -1,
    "map_chapters": -1,
    "movflags": "+faststart",
}
STDERR_LINES = 4  # of ffmpeg's own words in an error, from each end
INSTALL_HINT = "install ffmpeg with libx264 (your system's package), or: pip install --force-reinstall imageio-ffmpeg"


@dataclass(frozen=True, kw_only=True, slots=True)
class Ffmpeg:
    """A working ffmpeg that can encode H.264."""

    path: Path
    version: str


@functools.lru_cache(maxsize=1)
def find() -> Ffmpeg:
    """Return the system's ffmpeg, else the static one of imageio-ffmpeg.

    Raises StoryError, saying what is wrong with each, when neither runs with libx264.
    """
    faults = []
    for name, path in _candidates():
        try:
            return _checked(path)
        except (OSError, subprocess.SubprocessError, ValueError) as fault:
            faults.append(f"{name}: {fault}")
    raise StoryError("no usable ffmpeg: " + "; ".join(faults or ["none found"]), INSTALL_HINT)


def _candidates() -> Iterator[tuple[str, str]]:
    if system := shutil.which("ffmpeg"):
        yield system, system
    try:
        import imageio_ffmpeg

        yield "imageio-ffmpeg", imageio_ffmpeg.get_ffmpeg_exe()
    except (ImportError, RuntimeError) as missing:
        log.debug("no static ffmpeg: %s", missing)


def _checked(path: str) -> Ffmpeg:
    def ask(question: str) -> str:
        return subprocess.run(
            [path, "-hide_banner", question],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=30,
            check=True,
        ).stdout

    if " libx264 " not in ask("-encoders"):
        raise ValueError("it has no libx264 encoder")
    return Ffmpeg(path=Path(path), version=ask("-version").split()[2])


def run(args: Sequence[str], *, doing: str, feed: Iterable[bytes | memoryview] = ()) -> str:
    """Run ffmpeg with ``args``, writing each piece of ``feed`` to its input; return its warnings.

    ``doing`` completes "could not ..." in the StoryError that a failure raises, with the last lines of
    ffmpeg's stderr. ffmpeg does not outlive this call, whatever is raised meanwhile (also by ``feed``).
    """
    command = [str(find().path), "-hide_banner", "-nostdin", "-loglevel", "level+warning", "-y", *args]
    log.debug("running %s", _loggable(command))
    with tempfile.TemporaryFile() as stderr:
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=stderr,
            start_new_session=True,  # Ctrl-C is ours to handle
        )
        try:
            died_early = not _poured(feed, process)
            code = process.wait()
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
            with contextlib.suppress(BrokenPipeError):
                process.stdin.close()
        stderr.seek(0)
        said = stderr.read().decode(errors="replace")
    if code or died_early:
        raise _failure(doing, code, said)
    return said


def _loggable(command: Sequence[str]) -> str:
    """The command as one could type it, without the values of metadata, which may be text of the story."""
    told = [
        arg.partition("=")[0] + "=..." if before.startswith("-metadata") else arg
        for before, arg in itertools.pairwise(["", *command])
    ]
    return shlex.join(told)


def _poured(feed: Iterable[bytes | memoryview], process: subprocess.Popen) -> bool:
    """Write all of ``feed`` to the process; False when it stopped reading before the end."""
    for piece in feed:
        try:
            process.stdin.write(piece)
        except BrokenPipeError:
            return False
    try:
        process.stdin.close()
    except BrokenPipeError:
        return False
    return True


def _failure(doing: str, code: int, said: str) -> StoryError:
    if "No space left on device" in said:
        return StoryError(f"could not {doing}: the disk is full", "free some space, then run the same command again")
    how = f"ffmpeg was ended by signal {-code}" if code < 0 else f"ffmpeg failed with exit code {code}"
    lines = [line for line in said.splitlines() if line.strip()]
    lines = lines[:STDERR_LINES] + lines[STDERR_LINES:][-STDERR_LINES:]  # the cause is first, the outcome last
    return StoryError("\n  ".join([f"could not {doing}: {how}", *lines]), "-v shows the exact ffmpeg command")


@functools.cache
def has_option(filter_name: str, option: str) -> bool:
    """Tell whether a filter of this ffmpeg has an option (or is there at all, for an empty one)."""
    described = subprocess.run(
        [str(find().path), "-hide_banner", "-h", f"filter={filter_name}"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=30,
    ).stdout
    return f"Filter {filter_name}" in described and option in described


def argument(path: Path) -> str:
    """Return a file name that ffmpeg cannot take for an option, a protocol or a pattern."""
    return str(path.absolute())


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a temporary name beside ``path``, renamed to it at the end, or removed when anything is raised."""
    if path.is_dir():
        raise StoryError(f"{path} is a folder, not a file to write")
    temporary = path.absolute().with_name(f".{secrets.token_hex(6)}.part{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield temporary
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise StoryError(f"could not write {path}: {error.strerror or error}") from error
