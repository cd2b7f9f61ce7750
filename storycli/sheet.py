"""The contact sheet: a page, or one picture, that shows how each plot became its clip."""

import base64
import hashlib
import shlex
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

from jinja2 import Environment, FileSystemLoader
from markupsafe import Markup

from storycli.footage import readable
from storycli.story import Candidate, Clip, Film

PAGE = Path(__file__).parent
PAGES = Environment(loader=FileSystemLoader(PAGE), autoescape=True)


def page(film: Film, name: str, seconds: float) -> str:
    """``index.html`` of a run folder: no server, no network; it shows the files beside it.

    A click on a candidate shows the command that films it. The only script that may run is the page's own.

    ``name`` is the film's file name, one folder up; ``seconds`` is how long the work took in all.
    """
    script = Markup((PAGE / "sheet.js").read_text(encoding="utf-8"))
    return PAGES.get_template("sheet.html").render(
        story=film.story,
        shots=film.shots,
        model=film.recipe["model"]["name"],
        film="../" + quote(name),
        command_name=shlex.quote(name if not name.startswith("-") else f"./{name}"),
        script=script,
        seal=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        seconds=spell(seconds),
    )


def picture(film: Film, path: Path) -> None:
    """The storyboard as one picture: a row of frames for each plot, under its text."""
    from storycli.media import filmstrip, video

    rows = {f"{number}. {shot.plot.text}": video.read(shot.video) for number, shot in enumerate(film.shots, 1)}
    filmstrip.sheet(rows, path)


def candidates(found: Sequence[Candidate], path: Path) -> None:
    """The clips that a search found as one picture: a row of frames for each."""
    from storycli.media import filmstrip, video

    def frames(clip: Clip):
        size = round(128 * clip.width / clip.height), 128
        return video.read(clip.path, start=clip.start, end=clip.end, num_frames=8, size=size)

    rows = {
        f"{found.index(c) + 1}. {c.score:.3f} {c.clip.caption or c.clip.path.name}": shown
        for c, shown in readable(found, frames)
    }
    filmstrip.sheet(rows, path)


def spell(seconds: float) -> str:
    """``125`` as ``2 min 5 s``."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
