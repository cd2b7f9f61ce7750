"""Clips of a library as they are read: files may have gone since they were indexed."""

import logging
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from storycli.errors import StoryError
from storycli.story import Candidate, Clip

log = logging.getLogger(__name__)

Seen = TypeVar("Seen")


def readable(found: Iterable[Candidate], look: Callable[[Clip], Seen]) -> Iterator[tuple[Candidate, Seen]]:
    """Each candidate with what ``look(clip)`` reads of it; what cannot be read is left out with a warning.

    Raises StoryError, that of the last one, where none can be read.
    """
    some, why = False, None
    for candidate in found:
        try:
            seen = look(candidate.clip)
        except StoryError as error:
            log.warning("%s; that clip is left out: storycli index --prune forgets what is gone", error)
            why = error
            continue
        some = True
        yield candidate, seen
    if why and not some:
        raise why
