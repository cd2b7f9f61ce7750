"""The walk of the method (He et al. 2023, arXiv 2307.06940): plots, retrieve, depth, render, concat.

Every step is taken by ``do(stage, *inputs, at=folder)``, which carries a stage out and returns what it made.
``stages.py`` has the stages, each of which can also be run alone.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from storycli import catalogue, config, digest, manifest, plots, stages
from storycli.config import Settings
from storycli.errors import StoryError
from storycli.story import Candidate, Clip, Film, Plot, Shot, Story, Take

Do = Callable[..., Any]


def plan(script: stages.Script | Story, settings: Settings, do: Do) -> Story:
    """Tell a script as plots, each with a query that finds motion and a prompt that describes the picture."""
    if isinstance(script, Story):
        return script
    reader = plots.reader(settings.llm)
    asked = settings.llm_model, server() if reader == "openai" else None
    return do(stages.plots, script, reader, *asked, stages.model_to_come(settings).style)


def render(
    story: Story,
    settings: Settings,
    do: Do,
    *,
    folder: Path = Path(),
    library: stages.ClipLibrary | None = None,
    earlier: manifest.Choices | None = None,
    pick: Callable[..., Story] | None = None,
    each: Callable[..., Iterable[Shot]] = map,
) -> Film:
    """Film a story. Plots whose candidates are those of an ``earlier`` cut keep the clip they had in it.

    Clips are those of ``library``, or of the one that the settings choose.

    ``pick(story, found, likely)`` may ask a person, and gives the story back with their choice of candidates.
    ``each`` maps the work of filming a plot over the plots; they can be filmed beside each other.
    """
    model = stages.model_for(settings)
    depth_network = catalogue.depth_network(settings.depth, model)
    library = library or stages.ClipLibrary(config.library_folder(settings.index))
    how = {"device": settings.device}
    shown = [stages.pictures(hero) for hero in story.characters]
    heroes = {
        hero.name: do(stages.train_character, hero, pictures, model, library=library, **how)
        for hero, pictures in zip(story.characters, shown, strict=True)
    }
    takes = [stages.take(plot, settings, model) for plot in story.plots]
    footage = [plot.reference and stages.Footage(plot.reference) for plot in story.plots]
    found = [
        do(stages.retrieve, plot.query, own, library, settings.candidates, take.seconds, at=at)
        for at, plot, own, take in numbered(story.plots, footage, takes)
    ]
    clips = stages.choose(story.plots, found, earlier or {})
    if pick:
        before, story = story, pick(story, found, [clip.id for clip in clips])
        if _but_for_choices(story) != _but_for_choices(before):
            raise StoryError("the storyboard was edited while its clips were chosen", "run the same command again")
        clips = stages.choose(story.plots, found, earlier or {})

    def shoot(at: str, plot: Plot, take: Take, candidates: tuple[Candidate, ...], clip: Clip) -> Shot:
        cast = stages.cast_of(plot, heroes)
        seen = clip, take.frames, take.fps, take.size, model, depth_network, len(cast)
        depth = do(stages.depth, *seen, at=at, **how)
        video = do(stages.render, plot.prompt, depth, cast, take, model, at=at, compile=settings.compile, **how)
        return Shot(plot=plot, candidates=candidates, reference=clip, depth=depth, video=video, take=take)

    shots = list(each(shoot, *zip(*numbered(story.plots, takes, found, clips), strict=True)))
    recipe = manifest.recipe(story, settings, model, library.folder, shots, folder)
    clips = [shot.video for shot in shots]
    told = [plot.text for plot in story.plots] if settings.narrate else []
    voice = settings.voice, settings.tts_model, server() if settings.voice == "openai" else None
    spoken = [do(stages.narrate, text, *voice, at=at) for at, text in numbered(told)]
    film = do(stages.concat, story, clips, spoken, stages.cut(settings), recipe)
    return Film(story=story, shots=tuple(shots), video=film, recipe=recipe)


def _but_for_choices(story: Story) -> list[Plot]:
    return [plot.model_copy(update={"candidate": None}) for plot in story.plots]


def server() -> str:
    """Which server language models and voices are asked of, unreadable: its address may hold a password."""
    return digest.key(config.service()[1])


def numbered(*columns: Sequence[Any]) -> Iterator[tuple[Any, ...]]:
    """The rows of some columns, each after the name of its plot's folder: 01, 02, ..."""
    return ((f"{number:02}", *row) for number, row in enumerate(zip(*columns, strict=True), 1))
