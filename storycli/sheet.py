"""The contact sheet: a page, or one picture, that shows how each plot became its clip."""

import base64
import hashlib
import logging
import shlex
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

from jinja2 import Environment, FileSystemLoader
from markupsafe import Markup

from storycli.errors import StoryError
from storycli.story import Candidate, Film

log = logging.getLogger(__name__)

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

    rows = {}
    for number, c in enumerate(found, 1):
        size = round(128 * c.clip.width / c.clip.height), 128
        try:
            frames = video.read(c.clip.path, start=c.clip.start, end=c.clip.end, num_frames=8, size=size)
        except StoryError as error:
            log.warning("%s; that clip is left out: storycli index --prune forgets what is gone", error)
            continue
        rows[f"{number}. {c.score:.3f} {c.clip.caption or c.clip.path.name}"] = frames
    if not rows:
        raise StoryError("none of the clips found can be read", "forget what is gone: storycli index --prune")
    filmstrip.sheet(rows, path)


def spell(seconds: float) -> str:
    """``125`` as ``2 min 5 s``."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
