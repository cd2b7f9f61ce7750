"""The stages, each a function of values that can be run alone; a network loads when a stage first needs it.

A stage that makes files puts them ``into`` a folder; one that takes long tells ``report(done, total)``.
Keywords say how the work is done and never what comes out.
"""

import functools
import hashlib
import io
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from storycli import catalogue, digest
from storycli.catalogue import DepthNetwork, Model
from storycli.config import Settings
from storycli.errors import StoryError
from storycli.footage import readable
from storycli.locks import alone
from storycli.story import NAMED, Candidate, Character, Clip, Plot, Story, Take

log = logging.getLogger(__name__)

Report = Callable[[int, int], None]


@dataclass(frozen=True, kw_only=True, slots=True)
class Script:
    """A written story, before it is told as plots."""

    text: str
    title: str
    characters: tuple[Character, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Cut:
    """How the clips become one film."""

    transition: str
    title_card: bool
    subtitles: str
    music: Path | None
    aspect: str


@dataclass(frozen=True, slots=True)
class ClipLibrary:
    """Where clips are looked for: the index in ``folder``, or those that ship with storycli."""

    folder: Path | None

    def identity(self) -> Any:
        from storycli.library import index, shipped

        return index.state(self.folder) if self.folder else (str(shipped.CLIPS), digest.file(shipped.CLIPS))


BUILT_IN = ClipLibrary(None)


@dataclass(frozen=True, slots=True)
class Footage:
    """A video that a plot names. Where it lies is part of what it is: the clip that is made of it says so."""

    path: Path

    def identity(self) -> Any:
        return str(self.path), self.path


def pictures(character: Character) -> tuple[Path, ...]:
    """The pictures of a character."""
    from storycli.media import pictures

    return tuple(pictures.pictures(character.dir))


def cut(settings: Settings) -> Cut:
    """How ``settings`` wants the film cut."""
    return Cut(**{name: getattr(settings, name) for name in Cut.__dataclass_fields__})


def check_cut(settings: Settings) -> None:
    """Raises StoryError where the music or the voice is not here: before hours of work, not after them."""
    if settings.music:
        from storycli.media import sound

        sound.seconds(settings.music)
    if settings.narrate:
        from storycli import narrate

        narrate.check(settings.voice)


def model_for(settings: Settings) -> Model:
    """The model that ``settings`` asks for.

    Raises StoryError where it, or the depth network, is not here or cannot do what they ask.
    """
    model = catalogue.choose(settings.model, settings.device)
    catalogue.depth_network(settings.depth, model)
    sampler = settings.sampler or model.sampler
    model.check(sampler=sampler, steps=settings.steps or model.steps_of(sampler), size=settings.size or model.size)
    return model


def take(plot: Plot, settings: Settings, model: Model) -> Take:
    """How to film ``plot``. Its noise hangs on its text and the film's seed, not on its place in the film."""
    noise = hashlib.sha256(f"{settings.seed} {plot.text}".encode()).digest()
    seed = int.from_bytes(noise[:6]) if plot.seed is None else plot.seed

    def wish(name: str) -> Any:
        wishes = (getattr(who, name, None) for who in (plot, settings, model))
        return next(value for value in wishes if value is not None)

    sampler = wish("sampler")
    steps = settings.steps or model.steps_of(sampler)
    model.check(sampler=sampler, steps=steps, size=wish("size"))
    names = ("guidance", "tau", "negative", "frames", "fps", "size")
    wishes = {name: wish(name) for name in names}
    return Take(seed=seed, sampler=sampler, steps=steps, retries=settings.retries, smooth=settings.smooth, **wishes)


def model_to_come(settings: Settings) -> Model:
    """The model that ``settings`` ask for, which one may plan for before it is here."""
    name = settings.model
    return catalogue.choose(name, settings.device) if name == "auto" else catalogue.named(name)


def seconds(settings: Settings) -> float:
    """How long a plot is that does not say so itself."""
    model = model_to_come(settings)
    return (settings.frames or model.frames) / (settings.fps or model.fps)


def cast_of(plot: Plot, heroes: Mapping[str, Path]) -> dict[str, Path]:
    """The heroes that the plot's prompt names as ``{name}``."""
    return {name: heroes[name] for name in NAMED.findall(plot.prompt) if name in heroes}


def plots(script: Script, llm: str, llm_model: str | None, server: str | None, style: str) -> Story:
    """Tell a script as a storyboard; another ``server`` of language models, which the environment names, as another."""
    from storycli.plots import split

    how = {"llm": llm, "llm_model": llm_model, "style": style}
    return split(script.text, title=script.title, characters=script.characters, **how)


def train_character(
    character: Character,
    pictures: Sequence[Path],
    model: Model,
    *,
    library: ClipLibrary = BUILT_IN,
    device: str = "auto",
    report: Report | None = None,
) -> Path:
    """The weights of a character: those in its folder if they are of these pictures, else trained now."""
    from storycli.characters.learn import LOCK, train
    from storycli.characters.personal import ready

    if weights := ready(character, model.name):
        return weights
    with alone(character.dir / LOCK, character.dir, wait=True):  # another film may be about to have them
        how = {"index": library.folder, "device": device, "progress": report}
        return ready(character, model.name) or train(character, model.name, **how)


def retrieve(
    query: str, reference: Footage | None, library: ClipLibrary, k: int, seconds: float, *, into: Path
) -> tuple[Candidate, ...]:
    """The clips whose motion fits a query, best first; or the video that the plot itself names."""
    if reference:
        own = _own_clip(reference.path)
        _poster(own.clip, into / "candidate-1.jpg")
        return (own,)
    found: list[Candidate] = []
    every = open_library(library.folder).search(query, k, seconds=seconds)
    for candidate, _ in readable(every, lambda clip: _poster(clip, into / f"candidate-{len(found) + 1}.jpg")):
        found.append(candidate)
    return tuple(found)


def choose(
    plots: Sequence[Plot], found: Sequence[Sequence[Candidate]], earlier: Mapping[tuple[str, ...], Sequence[str]]
) -> list[Clip]:
    """One clip for each plot, none used twice where that can be.

    ``earlier`` has the ids of the clips that were once taken from some candidates; the first plot that finds those
    candidates keeps the first of them, and so on.
    """
    taken = {ids: iter(clips) for ids, clips in earlier.items()}
    open_to = []
    for number, (plot, candidates) in enumerate(zip(plots, found, strict=True), 1):
        before = next(taken.get(tuple(candidate.clip.id for candidate in candidates), iter(())), None)
        kept = [candidate for candidate in candidates if candidate.clip.id == before]
        open_to.append(asked_for(number, plot, candidates) or kept or candidates)
    if all(len(candidates) == 1 for candidates in open_to):
        return [only.clip for (only,) in open_to]
    from storycli.library.assignment import assign

    return [choice.clip for choice in assign(open_to)]


def depth(
    clip: Clip,
    frames: int,
    fps: float,
    size: tuple[int, int],
    model: Model,
    network: DepthNetwork,
    heroes: int = 1,
    *,
    into: Path,
    device: str = "auto",
) -> Path:
    """The motion and layout of a clip: ``depth.npy``, float32 (f, h, w) in [0, 1], 1 = near; and videos.

    Several ``heroes`` find a figure each, made from one where the clip shows no more.
    """
    import numpy as np

    from storycli.company import in_company
    from storycli.media import video

    sampled = size[0] // model.upscale, size[1] // model.upscale
    pixels = video.read_middle(clip.path, frames, fps, sampled, start=clip.start, end=clip.end)
    near = in_company(_estimator(network.name, device).estimate(pixels), heroes)
    whole = io.BytesIO()  # numpy's own writing to a file does not say that the disk is full
    np.save(whole, near)
    (into / "depth.npy").write_bytes(whole.getvalue())
    video.write(into / "reference.mp4", pixels, fps)
    video.write(into / "depth.mp4", np.repeat(np.uint8(near * 255)[..., None], 3, axis=-1), fps)
    return into / "depth.npy"


def render(
    prompt: str,
    depth: Path,
    cast: Mapping[str, Path],
    take: Take,
    model: Model,
    *,
    into: Path,
    device: str = "auto",
    compile: bool = False,
    report: Report | None = None,
) -> Path:
    """A clip that shows ``prompt`` with the layout and motion of ``depth``, played by ``cast``."""
    import numpy as np

    from storycli.inbetween import inbetween
    from storycli.media import video

    guide = np.load(depth)
    how = dict(sampler=take.sampler, guidance=take.guidance, negative=take.negative, characters=cast, progress=report)
    render = functools.partial(_renderer(model.name, device, compile).render, prompt, **how)
    if take.tau == "auto" or take.retries:
        from storycli import rehearse

        frames = rehearse.perform(render, _judge(model, device), prompt, cast, guide, take)
    else:
        frames = render(guide, seed=take.seed, steps=take.steps, tau=take.tau)
    video.write(into / "clip.mp4", inbetween(frames, take.smooth), take.fps * take.smooth)
    return into / "clip.mp4"


def narrate(text: str, voice: str, tts_model: str | None, server: str | None = None, *, into: Path) -> Path | None:
    """A text read aloud, as a sound file; none for one without words. Another ``server`` reads with another voice."""
    from storycli import narrate

    return narrate.narrate([text], into, voice=voice, tts_model=tts_model)[0]


def concat(
    story: Story,
    clips: Sequence[Path],
    narration: Sequence[Path | None],
    cut: Cut,
    recipe: Mapping[str, Any],
    *,
    into: Path,
) -> Path:
    """The clips as one film, which carries its recipe."""
    from storycli import film
    from storycli.subtitles import per_shot

    options = film.FilmOptions(
        transition=cut.transition,
        title=story.title if cut.title_card else "",
        subtitles=cut.subtitles,
        narration=tuple(narration),
        music=cut.music,
        aspect=cut.aspect,
        manifest=recipe,
    )
    if cut.subtitles != "none":
        captions = per_shot([plot.text for plot in story.plots], film.timeline(clips, options))
        options = replace(options, captions=captions)
    film.concat(clips, into / "film.mp4", options)
    return into / "film.mp4"


@functools.cache
def open_library(folder: Path | None):
    """The clip library in ``folder``, or the built-in one."""
    from storycli.retrieve import Library

    return Library(folder)


def _estimator(network: str, device: str):
    from storycli.depth import estimator

    return estimator(network, device)


@functools.cache
def _judge(model: Model, device: str):
    from storycli.judge import Judge

    return Judge(model.name, model.sampled, device)


@functools.cache
def _renderer(model: str, device: str, compile: bool):
    from storycli.render import Renderer

    return Renderer(model, device, compile=compile)


def _own_clip(path: Path) -> Candidate:
    """A video that a plot names, as a clip."""
    from storycli.media import video

    info = video.probe(path)
    clip = Clip(
        id=f"file-{digest.file(path)[:24]}",
        path=path,
        start=0,
        end=info.num_frames,
        fps=info.fps,
        width=info.width,
        height=info.height,
        source=path.name,
    )
    return Candidate(clip=clip, score=1.0)


def _poster(clip: Clip, path: Path) -> None:
    """A small picture of the middle of a clip."""
    from PIL import Image

    from storycli.media import video

    width = 192
    size = width, max(2, round(width * clip.height / clip.width))
    Image.fromarray(video.read(clip.path, indices=[(clip.start + clip.end) // 2], size=size)[0]).save(path, quality=85)


def asked_for(number: int, plot: Plot, candidates: Sequence[Candidate]) -> Sequence[Candidate]:
    """The candidate that a plot names, if it names one. Raises StoryError when it was not found."""
    if plot.candidate is None:
        return ()
    if plot.candidate > len(candidates):
        raise StoryError(
            f"plot {number} asks for candidate {plot.candidate}, but {len(candidates)} clips were found",
            "choose a smaller number in the storyboard, or look up more with --candidates",
        )
    return candidates[plot.candidate - 1 : plot.candidate]
