"""Fetching a large file: it goes on where it was interrupted, and appears only when it is whole and right."""

import errno
import json
import os
import re
import shutil
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.client import HTTPException, HTTPResponse
from pathlib import Path

from storycli import digest
from storycli.errors import StoryError

CHUNK = 2**20
PATIENCE = 30  # seconds without a byte
PAUSES = (1, 2, 4, 8)  # seconds before a connection that broke is taken up again; a byte that comes starts them anew
AGAIN = "run the same command again: it goes on where this stopped"
ELSEWHERE = "have the file from elsewhere: storycli models pull --from PLACE, or storycli models import"
WORTH_ASKING_AGAIN = {408, 429}  # of what a server refuses for what it was asked

Report = Callable[[int, int], None]


def fetch(
    source: str | Path,
    path: Path,
    *,
    sha256: str = "",
    report: Report | None = None,
    inspect: Callable[[Path], None] | None = None,
) -> str:
    """Bring ``source``, a URL or a local file, to ``path`` through ``path.part``, and return its sha256.

    ``sha256`` is the digest that it must have, or the beginning of it; without one, what the server states is held
    against it. ``inspect`` looks at the whole file before it appears, and refuses it by raising.

    Raises:
        StoryError: the server cannot be reached, refuses, or sends another file; or the disk is full.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    if isinstance(source, Path):
        stated = ""
        _copy(source, part, report or _silent)
    else:
        stated = _download(source, part, report or _silent)
    found = digest.file(part)
    expected = sha256 or stated
    try:
        if not found.startswith(expected):
            raise StoryError(
                f"{source}: not the file that was expected (sha256 {found[:16]}..., not {expected[:16]}...)",
                "run the same command again; if it stays so, the publisher has changed the file",
            )
        if inspect:
            inspect(part)
    except StoryError:
        part.unlink()
        _note(part).unlink(missing_ok=True)
        raise
    with part.open("rb") as file:  # another name of a local file may be of one that is only to be read
        os.fsync(file.fileno())
    part.rename(path)
    part.unlink(missing_ok=True)  # two names of one file both outlive a renaming
    _note(part).unlink(missing_ok=True)
    return found


def have(path: Path) -> int:
    """How many bytes of ``path`` are here, whole or in a part that a fetch goes on with."""
    part = path.with_name(path.name + ".part")
    return _size(path) or (_size(part) if _note(part).exists() else 0)


def _silent(done: int, total: int) -> None:
    pass


def _note(part: Path) -> Path:
    """Where it stands what ``part`` is a part of."""
    return part.with_name(part.name + ".json")


def _copy(source: Path, part: Path, report: Report) -> None:
    """A second name for a local file, or a copy where the disk is another one."""
    part.unlink(missing_ok=True)
    _note(part).unlink(missing_ok=True)  # or an interrupted import would be taken for a part of what it tells of
    try:
        total = source.stat().st_size
        with _on_disk(part):
            try:
                os.link(source.resolve(), part)
            except OSError:
                _room(part, total)
                shutil.copyfile(source, part)
    except OSError as error:
        raise StoryError(f"{source}: cannot be read: {error.strerror}") from error
    report(total, total)


def _download(url: str, part: Path, report: Report) -> str:
    """Fill ``part`` from ``url``, over as many connections as it takes; returns the sha256 that the server states."""
    pauses = iter(())
    while True:
        before = _size(part)
        try:
            return _fill(url, part, report)
        except urllib.error.HTTPError as error:
            error.close()
            refused = 400 <= error.code < 500 and error.code not in WORTH_ASKING_AGAIN
            hint = ELSEWHERE if refused else AGAIN
            raise StoryError(f"{url}: the server answers {error.code} {error.reason}", hint) from error
        except (OSError, HTTPException) as error:
            if _size(part) > before:
                pauses = iter(PAUSES)
            pause = next(pauses, None)
            if pause is None:
                raise StoryError(f"{url}: {getattr(error, 'reason', error) or 'no answer'}", AGAIN) from error
            time.sleep(pause)


def _fill(url: str, part: Path, report: Report) -> str:
    """Append to ``part`` what it lacks of ``url``, over one connection; returns the sha256 that the server states."""
    start, known = _so_far(url, part)
    redirects = Redirects()
    request = urllib.request.Request(url, headers={"User-Agent": "storycli"})
    if start:
        request.add_header("Range", f"bytes={start}-")
        if known["validator"]:  # a server whose file has changed then sends the new one from the start
            request.add_header("If-Range", known["validator"])
    try:
        answer = urllib.request.build_opener(redirects).open(request, timeout=PATIENCE)
    except urllib.error.HTTPError as error:
        if error.code == 416 and start and start == known["total"]:  # nothing is lacking
            return known["sha256"]
        if error.code == 416 and start:  # no such place in it
            part.unlink()
            error.close()
            return _fill(url, part, report)
        raise
    with answer:
        done, total = _place(answer, start)
        if done and total != known["total"]:
            part.unlink()
            raise ConnectionError("the server has another file now")
        with _on_disk(part):
            if not done:  # what is there may be another name of somebody's own file: it is not written into
                part.unlink(missing_ok=True)
            part.touch()
            _room(part, (total or done) - done)
            stated = redirects.sha256 or known.get("sha256", "")
            known = {"url": url, "total": total, "validator": _validator(answer), "sha256": stated}
            _note(part).write_text(json.dumps(known))
        while chunk := answer.read(CHUNK):
            with _on_disk(part), part.open("ab") as file:
                file.write(chunk)
            done += len(chunk)
            report(done, max(total or 0, done))
        if total and done < total:
            raise ConnectionError(f"the connection broke after {done} of {total} bytes")
    return stated


def _so_far(url: str, part: Path) -> tuple[int, dict]:
    """The size of ``part``, and what was noted of the file it is a part of; nothing when that is another one."""
    try:
        known = json.loads(_note(part).read_text())
    except (OSError, ValueError):
        return 0, {}
    return (part.stat().st_size, known) if part.exists() and known.get("url") == url else (0, {})


def _place(answer: HTTPResponse, start: int) -> tuple[int, int | None]:
    """Where in the file the answer begins, and how long the file is, if the server says so."""
    length = answer.headers.get("Content-Length")
    if answer.status != 206:  # all of it
        return 0, int(length) if length else None
    told = re.fullmatch(r"bytes (\d+)-\d+/(\d+)", answer.headers.get("Content-Range", ""))
    if not told or int(told[1]) != start:
        raise ConnectionError("the server sends another part of the file than it was asked for")
    return start, int(told[2])


def _validator(answer: HTTPResponse) -> str:
    """What tells this version of the file from another, for ``If-Range``."""
    etag = answer.headers.get("ETag", "")
    return etag if etag.startswith('"') else answer.headers.get("Last-Modified", "")


class Redirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects but never out of https, and keeps the sha256 that Hugging Face's hub states in one."""

    sha256 = ""

    def redirect_request(self, request, answer, code, reason, headers, url):
        if request.type == "https" and not url.startswith("https:"):
            raise urllib.error.URLError(f"it redirects to {url}, which is not https")
        if told := re.fullmatch(r'"?([0-9a-f]{64})"?', headers.get("X-Linked-Etag", "")):
            self.sha256 = told[1]
        return super().redirect_request(request, answer, code, reason, headers, url)


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _room(part: Path, more: int) -> None:
    """Raise what a full disk would, before it is full."""
    if more > shutil.disk_usage(part.parent).free:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@contextmanager
def _on_disk(part: Path) -> Iterator[None]:
    """Tells trouble with the disk from trouble with the network."""
    try:
        yield
    except OSError as error:
        raise StoryError(
            f"{part}: {error.strerror}", f"free some space, or move STORYCLI_HOME, then {AGAIN}"
        ) from error
