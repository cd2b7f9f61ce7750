"""``render``, ``plan``, ``again``, ``demo``: from a story to a film."""

import shutil
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from storycli.cli.models import tell_terms
from storycli.cli.options import (
    STORY,
    Cast,
    DryRun,
    Film,
    Json,
    Quiet,
    Ray,
    Script,
    Verbose,
    with_changes,
    with_settings,
)
from storycli.cli.pick import Choose, Pick, asking, check_terminal, chosen, picking
from storycli.cli.screen import answer, plain, screen

Title = Annotated[
    str | None,
    Option(metavar="TEXT", rich_help_panel=STORY, help="The title; the story's heading or file name otherwise."),
]
Sheet = Annotated[Path | None, Option(metavar="PICTURE", help="Also draw the film as one picture.")]
Board = Annotated[
    Path | None,
    Option("--output", "-o", metavar="BOARD", help="Where the storyboard goes; STORY.yaml otherwise."),
]


@with_settings
def render(
    story: Script,
    character: Cast = None,
    title: Title = None,
    output: Film = Path("film.mp4"),
    sheet: Sheet = None,
    pick: Pick = False,
    choose: Choose = None,
    ray: Ray = False,
    dry_run: DryRun = False,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
    *,
    settings,
) -> None:
    """Turn STORY into a film.

    The work stays in a folder beside the film (film.storycli/). A second run goes on where the first one
    stopped; after an edit to its storyboard.yaml only the edited plots are made again.
    """
    from storycli import script

    if pick:
        check_terminal(story)
    make(
        script.read(story, character or [], title, lines=settings.llm == "none"),
        output,
        settings,
        sheet=sheet,
        pick=pick,
        choices=chosen(choose or []),
        ray=ray,
        dry_run=dry_run,
        as_json=json,
    )


@with_settings
def plan(
    story: Script,
    character: Cast = None,
    title: Title = None,
    output: Board = None,
    dry_run: DryRun = False,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
    *,
    settings,
) -> None:
    """Turn STORY into a storyboard to edit by hand and render later.

    Plots that you edited stay as they are when the same story is planned again.
    """
    from storycli import pipeline, script, storyboard

    told = script.read(story, character or [], title, lines=settings.llm == "none")
    board = output or Path("story" if story == "-" else story).with_suffix(".yaml")
    storyboard.check_target(board)
    told = pipeline.plan(told, settings, at_once)
    if dry_run:
        return tell_cost(told, settings, json)
    if kept := storyboard.write(board, told, keep=True):
        screen.say(f"{kept} plots were there already and stay as they are; to plan them anew, delete {board}")
        told = storyboard.read(board)  # a hero that is left out may still be in them
    answer(told.model_dump(mode="json") | {"storyboard": str(board)} if json else str(board))


@with_changes
def again(
    film: Annotated[Path, Argument(metavar="FILM", help="A film that storycli made.")],
    output: Annotated[Path | None, Option("--output", "-o", metavar="FILM", help="Where the new film goes.")] = None,
    choose: Choose = None,
    trust: Annotated[
        bool, Option("--trust", help="Let a film from elsewhere use files outside its folder, and a paid voice.")
    ] = False,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
    *,
    changes,
) -> None:
    """Render the same film again from what FILM itself says of its making; a flag changes that one thing."""
    from storycli import config, manifest, stages

    told = manifest.recall(film)
    settings = config.changed(told.settings, changes)
    if not (trust or manifest.made_here(film)):
        manifest.check_harmless(film, told.story, settings)
    library = stages.BUILT_IN if told.built_in_clips else stages.ClipLibrary(config.own_library())
    make(
        told.story,
        output or film,
        settings,
        library=None if settings.index else library,
        earlier=told.choices,
        choices=chosen(choose or []),
        as_json=json,
    )


@with_settings
def demo(
    output: Film = Path("demo.mp4"),
    dry_run: DryRun = False,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
    *,
    settings,
) -> None:
    """Film the built-in story: its own hero, its own clips, the real pipeline."""
    from storycli import script, stages
    from storycli.config import EXAMPLES, home

    model, folder = stages.model_for(settings), EXAMPLES / "teddy"
    if not (dry_run or model.built_in):  # what is learnt is not written into the package
        learnt = shutil.ignore_patterns("character.safetensors")
        folder = shutil.copytree(folder, home() / "demo" / model.name / "teddy", ignore=learnt, dirs_exist_ok=True)
    teddy = script.character(str(folder)).model_copy(update={"class_word": "teddy bear"})
    story = replace(script.read(str(EXAMPLES / "story.txt"), []), characters=(teddy,))
    make(story, output, settings, library=stages.BUILT_IN, dry_run=dry_run, as_json=json)


def make(
    story,
    output: Path,
    settings,
    *,
    library=None,
    earlier=None,
    sheet: Path | None = None,
    pick=False,
    choices=None,
    ray=False,
    dry_run=False,
    as_json=False,
):
    """Film a script or a storyboard, and say where the film is."""
    from storycli import cluster, pipeline, stages, workspace
    from storycli.media import filmstrip

    filmstrip.check_name(sheet)
    workspace.check_target(output)
    workspace.check_names(output, settings.music, settings.index, *(hero.dir for hero in story.characters))
    stages.check_cut(settings)
    model = stages.model_for(settings)
    if dry_run:
        return tell_cost(pipeline.plan(story, settings, at_once), settings, as_json)
    tell_terms(model)
    if settings.model == "auto":
        screen.say(f"model: {model.name}")
    with (
        cluster.filming(ray=ray, device=settings.device) as (each, act),
        screen.progress() as report,
        workspace.RunFolder(output, report=report, act=act) as run,
    ):
        plan = pipeline.plan(story, settings, run.do)
        board = run.storyboard(plan, edited_elsewhere=plan is story)
        report.plots = len(board.plots)
        film = pipeline.render(
            board,
            settings,
            run.do,
            folder=output.parent,
            library=library,
            earlier=earlier or run.choices(),
            pick=picking(choices or {}, run.choose, asking(report, run.folder, run.choose) if pick else None),
            each=each,
        )
        run.publish(film)
    if sheet:
        from storycli.sheet import picture

        picture(film, sheet)
    answer({"film": str(output), "folder": str(run.folder), "plots": len(film.shots)} if as_json else str(output))


def at_once(stage, *inputs, **how):
    """The plainest way to take a step: now, and kept nowhere."""
    return stage(*inputs, **{name: value for name, value in how.items() if name != "at"})


def tell_cost(story, settings, as_json: bool) -> None:
    """Print what rendering ``story`` would take."""
    from storycli import cost
    from storycli.sheet import spell

    expected = cost.of(story, settings)
    if as_json:
        return answer(asdict(expected))
    lines = {
        "plots": expected.plots,
        "model": expected.model,
        "to train": ", ".join(expected.to_train) or "nobody",
        "time": f"{'at most' if expected.at_most else 'about'} {spell(expected.seconds)}",
        "memory": f"{expected.memory_gb} GB",
        "disk": f"{expected.disk_mb} MB",
    }
    for name, value in lines.items():
        answer(plain(f"{name + ':':10}{value}"))
