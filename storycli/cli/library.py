"""``index``, ``search``: the clips that motion is taken from."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from storycli.cli.options import Device, Index, Json, Quiet, Verbose
from storycli.cli.screen import answer, plain, screen

Videos = Annotated[
    list[Path] | None,
    Argument(metavar="VIDEOS...", help="Video files, folders that hold some, and CSV tables of them."),
]


def index(
    videos: Videos = None,
    index: Index = None,
    status: Annotated[bool, Option("--status", help="Say what is in the library; add nothing.")] = False,
    prune: Annotated[bool, Option("--prune", help="Forget the clips whose files are gone.")] = False,
    device: Device = None,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Add videos to the clip library, cut into shots.

    Only new and changed files are read. The library is DIR, else $STORYCLI_INDEX, else ./.storycli/index if
    there, else your own one.
    """
    from storycli import config
    from storycli.errors import PartlyDone, UsageError
    from storycli.retrieve import Library

    if not (videos or status or prune):
        raise UsageError("there is nothing to do", "give videos to add, or --status, or --prune")
    settings = config.load({"index": index, "device": device})
    folder = config.library_folder(settings.index, for_writing=bool(videos or prune))
    library, told, failures = Library(folder), {}, ()
    if prune:
        told["pruned"] = [str(path) for path in library.prune()]
    if videos:
        with screen.progress() as report:
            done = library.add(videos, progress=lambda n, total, _: report("index", "", n, total))
        told, failures = told | asdict(done), done.failures
    if status:
        told |= asdict(library.status())
    answer(told if json else "\n".join(f"{name + ':':12}{_count(value)}" for name, value in told.items()))
    if failures:
        listed = "\n".join(f"  {failure.path}: {failure.reason}" for failure in failures)
        raise PartlyDone(f"{len(failures)} could not be read, the rest is in:\n{listed}")


def search(
    text: Annotated[str, Argument(metavar="TEXT", help="What happens in the clip, in English.")],
    k: Annotated[int, Option("-k", min=1, max=100, metavar="N", help="How many clips.")] = 5,
    index: Index = None,
    sheet: Annotated[Path | None, Option(metavar="PICTURE", help="Also draw the clips found as one picture.")] = None,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Look for clips as render does: best first, with their scores."""
    from storycli import config
    from storycli.retrieve import Library

    found = Library(config.library_folder(config.load({"index": index}).index)).search(text, k)
    if sheet:
        from storycli.sheet import candidates

        candidates(text, found, sheet)
    if json:
        return answer([asdict(candidate) for candidate in found])
    for c in found:
        answer(plain(f"{c.score:.3f}  {c.clip.path}  {c.clip.start}-{c.clip.end}  {c.clip.caption}"))


def _count(value: object) -> object:
    return len(value) if isinstance(value, list | tuple) else value
