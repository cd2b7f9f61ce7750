"""The contact sheet: a page, or one picture, that shows how each plot became its clip."""

from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

from jinja2 import Environment, FileSystemLoader

from storycli.story import Candidate, Film

PAGES = Environment(loader=FileSystemLoader(Path(__file__).parent), autoescape=True)


def page(film: Film, name: str, seconds: float) -> str:
    """``index.html`` of a run folder: no server, no network, no script; it shows the files beside it.

    ``name`` is the film's file name, one folder up; ``seconds`` is how long the work took in all.
    """
    return PAGES.get_template("sheet.html").render(
        story=film.story,
        shots=film.shots,
        model=film.recipe["model"]["name"],
        film="../" + quote(name),
        seconds=spell(seconds),
    )


def picture(film: Film, path: Path) -> None:
    """The storyboard as one picture: a row of frames for each plot, under its text."""
    from storycli import filmstrip, video

    rows = {f"{number}. {shot.plot.text}": video.read(shot.video) for number, shot in enumerate(film.shots, 1)}
    filmstrip.sheet(rows, path)


def candidates(query: str, found: Sequence[Candidate], path: Path) -> None:
    """The clips that a search found as one picture: a row of frames for each."""
    from storycli import filmstrip, video

    rows = {
        f"{number}. {c.score:.3f} {c.clip.caption or c.clip.path.name}": video.read(
            c.clip.path,
            start=c.clip.start,
            end=c.clip.end,
            num_frames=8,
            size=(round(128 * c.clip.width / c.clip.height), 128),
        )
        for number, c in enumerate(found, 1)
    }
    filmstrip.sheet(rows, path)


def spell(seconds: float) -> str:
    """``125`` as ``2 min 5 s``."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
