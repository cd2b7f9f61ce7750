"""Fetching a large file: it goes on where it was interrupted, and appears only when it is whole and right."""

import urllib.error
import urllib.request
from collections.abc import Callable
from http.client import HTTPException
from pathlib import Path

from storycli import digest
from storycli.errors import StoryError

CHUNK = 2**20
PATIENCE = 30  # seconds without a byte
AGAIN = "run the same command again: it goes on where this stopped"


def fetch(url: str, path: Path, *, sha256: str = "", report: Callable[[int, int], None] | None = None) -> None:
    """Fetch ``url`` to ``path`` through ``path.part``. ``sha256`` is its digest, or the beginning of it.

    Raises:
        StoryError: the server cannot be reached, refuses, or sends another file.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    try:
        _fill(url, part, report or (lambda *_: None))
    except urllib.error.HTTPError as error:
        raise StoryError(f"{url}: the server answers {error.code} {error.reason}", AGAIN) from error
    except (OSError, HTTPException) as error:
        raise StoryError(f"{url}: {getattr(error, 'reason', error)}", AGAIN) from error
    found = digest.file(part)
    if not found.startswith(sha256):
        part.unlink()
        raise StoryError(
            f"{url}: not the file that was expected (sha256 {found[:16]}..., not {sha256[:16]}...)",
            "run the same command again; if it stays so, the publisher has changed the file",
        )
    part.rename(path)


def _fill(url: str, part: Path, report: Callable[[int, int], None]) -> None:
    """Append to ``part`` what it lacks of ``url``."""
    have = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-", "User-Agent": "storycli"})
    try:
        answer = urllib.request.urlopen(request, timeout=PATIENCE)
    except urllib.error.HTTPError as error:
        if error.code == 416 and have:  # nothing is lacking
            return
        raise
    with answer, part.open("ab") as file:
        if answer.status != 206:  # the server starts anew
            have = 0
            file.truncate(0)
        total = have + int(answer.headers.get("Content-Length") or 0)
        while chunk := answer.read(CHUNK):
            file.write(chunk)
            have += len(chunk)
            report(have, max(total, have))
        if have < total:
            raise ConnectionError(f"the connection broke after {have} of {total} bytes")
