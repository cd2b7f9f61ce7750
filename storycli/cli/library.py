"""``index``, ``search``: the clips that motion is taken from."""

from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Annotated, Literal

from typer import Argument, Option

from storycli.cli.options import Device, Index, Json, Quiet, Ray, Verbose, Workers
from storycli.cli.screen import answer, plain, screen

Videos = Annotated[
    list[Path] | None,
    Argument(
        metavar="VIDEOS...",
        help="Video files, folders that hold some, CSV tables of them, and webdataset shards (.tar).",
    ),
]


def index(
    videos: Videos = None,
    index: Index = None,
    status: Annotated[bool, Option("--status", help="Say what is in the library; add nothing.")] = False,
    prune: Annotated[bool, Option("--prune", help="Forget the clips whose files are gone.")] = False,
    plan: Annotated[
        int | None,
        Option(min=1, metavar="N", help="Say what N clips like these take on this machine; add nothing."),
    ] = None,
    encoder: Annotated[
        Path | None,
        Option(
            metavar="WEIGHTS",
            help="The network that looks at the clips, for a new library: a file of Frozen in Time, or a folder of "
            "CLIP or SigLIP. The library remembers it.",
        ),
    ] = None,
    workers: Workers = None,
    ray: Ray = False,
    device: Device = None,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Add videos to the clip library, cut into shots.

    Only new and changed files are read. The library is DIR, else $STORYCLI_INDEX, else ./.storycli/index if
    there, else your own one.
    """
    from models.precision import pick_device
    from storycli import catalogue, cluster, config
    from storycli.errors import PartlyDone, UsageError
    from storycli.retrieve import Library

    if plan:
        return _plan(plan, videos or [], encoder, json)
    if not (videos or status or prune):
        raise UsageError("there is nothing to do", "give videos to add, or --status, --prune or --plan N")
    if videos and status:
        raise UsageError("--status adds nothing", "leave the videos out, or ask for it afterwards")
    settings = config.load({"index": index, "device": device})
    catalogue.check_device(settings.device)
    folder = config.library_folder(settings.index, for_writing=bool(videos or prune))
    place = str(pick_device(settings.device))
    library, told, failures = Library(folder, encoder, place), {}, ()
    if prune:
        told["pruned"] = [str(path) for path in library.prune()]
    if videos:
        with screen.progress() as report:
            shared = ray or place != "cpu"  # threads share the network on a GPU, where each process would have its own
            at_work = {"workers": workers or (None if shared else cluster.cores()), "ray": ray}
            done = library.add(videos, partial(report.of, "index"), **at_work)
        told, failures = told | asdict(done), done.failures
    if status:
        told |= asdict(library.status())
    answer(told if json else "\n".join(f"{name + ':':12}{_count(value)}" for name, value in told.items()))
    if failures:
        listed = "\n".join(f"  {f.path}: {f.reason.removeprefix(f'{f.path} ')}" for f in failures)
        raise PartlyDone(f"{len(failures)} could not be read, the rest is in:\n{listed}")


def search(
    text: Annotated[str, Argument(metavar="TEXT", help="What happens in the clip, in English.")],
    k: Annotated[int, Option("-k", min=1, max=100, metavar="N", help="How many clips.")] = 5,
    seconds: Annotated[
        float | None,
        Option(min=0, metavar="X", help="Prefer clips with steady motion for so long; as long as a plot otherwise."),
    ] = None,
    longer_than: Annotated[
        float, Option(min=0, max=86_400, metavar="X", help="Only clips of so many seconds or more.")
    ] = 0,
    shape: Annotated[
        Literal["landscape", "portrait", "square"] | None, Option(help="Only clips of this shape.")
    ] = None,
    under: Annotated[Path | None, Option(metavar="DIR", help="Only clips in this folder.")] = None,
    index: Index = None,
    sheet: Annotated[Path | None, Option(metavar="PICTURE", help="Also draw the clips found as one picture.")] = None,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Look for clips as render does: best first, with their scores."""
    from storycli import config, stages
    from storycli.media import filmstrip
    from storycli.retrieve import Filters, Library

    filmstrip.check_name(sheet)
    filters = Filters(min_seconds=longer_than, orientation=shape or "", under=under)
    settings = config.load({"index": index})
    library = Library(config.library_folder(settings.index))
    found = library.search(text, k, seconds=stages.seconds(settings) if seconds is None else seconds, filters=filters)
    if not found:
        screen.warn("no clip was found" + (f"; {sheet} is not written" if sheet else ""))
    if json:
        answer([asdict(candidate) for candidate in found])
    for c in () if json else found:
        answer(plain(f"{c.score:.3f}  {c.clip.path}  {c.clip.start}-{c.clip.end}  {c.clip.caption}"))
    if found and sheet:
        from storycli.sheet import candidates

        candidates(found, sheet)


def _plan(clips: int, videos: list[Path], weights: Path | None, json: bool) -> None:
    from storycli.library import capacity
    from storycli.library.encoder import BUILT_IN, Encoder

    plan = capacity.plan(clips, capacity.measure(Encoder(weights or BUILT_IN), videos))
    answer(asdict(plan) if json else capacity.as_text(plan))


def _count(value: object) -> object:
    return len(value) if isinstance(value, list | tuple) else value
