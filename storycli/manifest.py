"""What a film is made of: ``manifest.json``, part of which travels in the film itself.

The *recipe* goes into the film: story, settings, and for each shot its take and the clip its motion came
from, with that clip's source and licence. It holds nothing that changes from run to run, so the same film has
the same bytes; its paths are relative to the film's folder. ``manifest.json`` adds digests and times.
"""

import json
import os
import platform
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NamedTuple

from storycli import __version__, cluster, config, digest, provenance, storyboard
from storycli.catalogue import Model
from storycli.config import Settings
from storycli.errors import StoryError
from storycli.story import Clip, Shot, Story

PACKAGES = ("torch", "numpy", "transformers", "lancedb", "av", "decord2", "imageio-ffmpeg")


def recipe(
    story: Story,
    settings: Settings,
    model: Model,
    library: Path | None,
    shots: Iterable[Shot],
    folder: Path,
) -> dict[str, Any]:
    """What it takes to make a film again; paths are relative to ``folder``.

    What the settings left open is told as it was chosen: the model, and the ``library`` of clips, unless it is the
    user's own or the built-in one (None).
    """
    chosen = {"model": model.name, "index": None if library == config.own_library() else library}
    return _relative(
        {
            "storycli": __version__,
            "title": story.title,
            "settings": settings.model_copy(update=chosen).model_dump(),
            "built_in_clips": library is None,
            "model": model.identity(),
            "story": story.model_dump(exclude_none=True),
            "shots": [
                {
                    "take": asdict(shot.take),
                    "candidates": [{"clip": c.clip.id, "score": round(c.score, 4)} for c in shot.candidates],
                    "reference": _credit(shot.reference),
                }
                for shot in shots
            ],
        },
        folder.absolute(),
    )


def full(recipe: Mapping[str, Any], records: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The recipe, and each piece of work by the sha256 of its inputs and files; versions and times."""
    columns = ("stage", "at", "key", "files", "seconds", "fresh")
    return {
        **recipe,
        "stages": [{name: record[name] for name in columns} for record in records],
        "environment": environment(),
    }


def environment() -> dict[str, Any]:
    """Versions of what the film was made with. No names, no paths, no keys."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return {
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "cores": cluster.cores(),
        "packages": found,
    }


# The clips that were taken from some candidates, plot by plot; None for a plot that said itself which to take.
Choices = Mapping[tuple[str, ...], Sequence[str | None]]


class Recalled(NamedTuple):
    """What a film says it was made with."""

    story: Story
    settings: Settings
    choices: Choices
    built_in_clips: bool


def choices(told: Mapping[str, Any]) -> Choices:
    """Which clip each shot of a manifest took from which candidates, by their ids; plots may share candidates."""
    taken: dict[tuple[str, ...], list[str | None]] = {}
    for plot, shot in zip(told["story"]["plots"], told["shots"], strict=True):
        clip = None if "candidate" in plot else shot["reference"]["clip"]
        taken.setdefault(tuple(c["clip"] for c in shot["candidates"]), []).append(clip)
    return taken


def recall(film: Path) -> Recalled:
    """What a film says of its making."""
    told, folder = provenance.read_manifest(film), film.parent.absolute()
    try:
        story = storyboard.absolute(Story.model_validate(told["story"]), folder)
        settings, earlier, built_in = told["settings"], choices(told), bool(told["built_in_clips"])
        paths = {name: folder / settings[name] for name in ("index", "music") if settings.get(name)}
        settings = Settings.model_validate(settings | paths)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise StoryError(
            f"{film}: what it says of its making cannot be read",
            "another version of storycli may have made it",
        ) from error
    if gone := [path for path in _named_in(story) if not path.exists()]:
        raise StoryError(
            f"{film} was made with {gone[0]}, which is not there", "put it there, or the film where it was"
        )
    return Recalled(story, settings, earlier, built_in)


def note_made(film: Path) -> None:
    """Remember that a film was made here, by what is in it: it may be moved, and what lies beside it may be copied."""
    made = config.home() / "films"
    with suppress(OSError):  # then it has to be trusted like one from elsewhere
        made.mkdir(parents=True, exist_ok=True)
        (made / digest.file(film)).touch()


def made_here(film: Path) -> bool:
    return (config.home() / "films" / digest.file(film)).exists()


def check_harmless(film: Path, story: Story, settings: Settings) -> None:
    """Raises StoryError for a film that wants more than what lies beside it: whoever made it may not be its owner.

    A library is more wherever it lies, since its clips may lie anywhere.
    """
    paths = [path for path in (*_named_in(story), settings.music) if path]
    wanted = [str(path) for path in paths if not path.resolve().is_relative_to(film.parent.resolve())]
    if settings.index:
        wanted.append(f"the library in {settings.index}")
    if settings.narrate and settings.voice == "openai":
        wanted.append("a paid voice")
    if wanted:
        raise StoryError(f"{film} was not made here, and would use {', '.join(wanted)}", "allow it with --trust")


def _named_in(story: Story) -> list[Path]:
    """The folders and videos that a story names."""
    return [hero.dir for hero in story.characters] + [plot.reference for plot in story.plots if plot.reference]


def dumped(manifest: Mapping[str, Any]) -> str:
    return json.dumps(manifest, indent=1, ensure_ascii=False) + "\n"


def _credit(clip: Clip) -> dict[str, Any]:
    """A clip for the ledger of sources."""
    return {
        "clip": clip.id,
        "path": clip.path,
        "start": clip.start,
        "end": clip.end,
        "caption": clip.caption,
        "source": clip.source,
        "licence": clip.licence,
    }


def _relative(value: Any, folder: Path) -> Any:
    """``value`` with its paths relative to ``folder``."""
    if isinstance(value, Path):
        return Path(os.path.relpath(value, folder)).as_posix()
    if isinstance(value, Mapping):
        return {name: _relative(item, folder) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_relative(item, folder) for item in value]
    return value
