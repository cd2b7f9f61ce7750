"""One process at a time."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from storycli.errors import StoryError


@contextmanager
def alone(lock: Path, place: Path, *, wait: bool = False) -> Iterator[None]:
    """Within, no other process has the lock file ``lock``, which stands for work on ``place``.

    Raises StoryError where another has it, unless this one is to ``wait``.
    """
    held = FileLock(lock)
    try:
        held.acquire(blocking=wait)
    except Timeout:
        raise StoryError(f"{place}: another command is at work on it", "wait until it is done") from None
    try:
        yield
    finally:
        held.release()
