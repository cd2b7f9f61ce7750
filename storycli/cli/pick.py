"""Choosing clips by hand: ``--pick`` asks in the terminal, ``--choose PLOT=CANDIDATE`` says it beforehand."""

import re
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from typer import Option

from storycli.cli.options import STORY
from storycli.cli.screen import Progress, screen
from storycli.errors import UsageError

if TYPE_CHECKING:
    from storycli.story import Candidate, Story

Pick = Annotated[
    bool, Option("--pick", rich_help_panel=STORY, help="Show the clips that were found for each plot, and ask.")
]
Choose = Annotated[
    list[str] | None,
    Option(
        metavar="PLOT=CANDIDATE",
        rich_help_panel=STORY,
        help="Take the motion of a plot from this candidate (see the contact sheet); repeat it.",
    ),
]
HOW = "type a number; Enter takes the marked one; q goes on with what is chosen so far"


def chosen(given: Sequence[str]) -> dict[int, int]:
    """``["2=3"]``: candidate 3 for plot 2. Raises UsageError for anything else."""
    choices = {}
    for each in given:
        match = re.fullmatch(r"\s*(\d{1,4})\s*=\s*(\d{1,4})\s*", each)
        if not match or not int(match[1]) or not int(match[2]):
            raise UsageError(f"--choose {each}: should be PLOT=CANDIDATE", "such as --choose 2=3")
        choices[int(match[1])] = int(match[2])
    return choices


def check_terminal(story: str) -> None:
    """Raises UsageError where nobody can be asked."""
    if story == "-" or not (sys.stdin and sys.stdin.isatty()):
        raise UsageError("--pick asks in a terminal, and this is none", "say it beforehand: --choose 2=3")


def ask(
    story: "Story",
    found: Sequence[Sequence["Candidate"]],
    likely: Sequence[str],
    folder: Path,
    read: Callable[[], str] = lambda: sys.stdin.readline(),
) -> dict[int, int]:
    """Which candidate a person takes for which plot; ``likely`` are the ids of the clips that would be taken.

    ``folder`` is where a person can look at the candidates' pictures.
    """
    choices: dict[int, int] = {}
    screen.show(f"Pictures of the candidates are in {folder}. {HOW[0].upper()}{HOW[1:]}.")
    for number, (plot, candidates, clip) in enumerate(zip(story.plots, found, likely, strict=True), 1):
        if len(candidates) < 2:
            continue
        screen.show(f"\n{number}. {plot.text}")
        for rank, candidate in enumerate(candidates, 1):
            mark = "*" if candidate.clip.id == clip else " "
            told = candidate.clip.caption or candidate.clip.path.name
            screen.show(f"  {mark} {rank:2}  {candidate.score:.3f}  {told}")
        match _answer(len(candidates), read):
            case "q":
                break
            case int(rank):
                choices[number] = rank
    return choices


def _answer(count: int, read: Callable[[], str]) -> int | str:
    """A number up to ``count``, "q", or "" for the marked one."""
    while True:
        screen.ask("clip: ")
        line = read()
        said = line.strip().lower()
        if not line or said in ("q", "quit"):
            return "q"
        if not said:
            return ""
        if said.isdecimal() and 1 <= int(said) <= count:
            return int(said)
        screen.show(f"{said}: there are {count} candidates; {HOW}")


def picking(
    said: Mapping[int, int], keep: Callable[[dict[int, int]], "Story"], then: Callable | None = None
) -> Callable | None:
    """A ``pick`` for the pipeline: the story with what was ``said`` beforehand, if it can be; ``then`` may go on.

    Raises StoryError for a plot or a candidate that there is not, before anything is written down.
    """

    def pick(story: "Story", found: Sequence[Sequence["Candidate"]], likely: Sequence[str]) -> "Story":
        from storycli.stages import asked_for

        for number, (plot, candidates) in enumerate(zip(story.plots, found, strict=True), 1):
            asked_for(number, plot.model_copy(update={"candidate": said.get(number)}), candidates)
        story = keep(dict(said))
        return then(story, found, likely) if then else story

    return pick if said else then


def asking(report: Progress, folder: Path, keep: Callable[[dict[int, int]], "Story"]) -> Callable:
    """A ``pick`` for the pipeline: the story with what a person chose, which ``keep`` writes down."""

    def pick(story: "Story", found: Sequence[Sequence["Candidate"]], likely: Sequence[str]) -> "Story":
        with report.paused():
            choices = ask(story, found, likely, folder)
        return keep(choices) if choices else story

    return pick
