"""What a person sees: results on stdout, all else on stderr, where their text is never read as markup."""

import re
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

LABELS = {"train_character": "character"}  # which may only have been found ready
CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]")  # a file name must not move the cursor


def plain(text: object) -> str:
    """``text`` with control characters spelt out."""
    return CONTROL.sub(lambda match: f"\\x{ord(match[0]):02x}", str(text))


def answer(result: object) -> None:
    """Print a command's result on stdout: text as it is, anything else as JSON."""
    import json

    text = result if isinstance(result, str) else json.dumps(result, indent=2, ensure_ascii=False, default=str)
    print(text.encode(errors="backslashreplace").decode(), flush=True)  # some file names are no text


class Screen:
    """Messages, errors and progress of one command."""

    def __init__(self) -> None:
        self.quiet = False
        self.verbose = False
        self._beside_bars = None  # the console of the bars that are shown: only it knows how to print above them

    @property
    def console(self):
        from rich.console import Console

        return self._beside_bars or Console(stderr=True, highlight=False, soft_wrap=True)

    def _print(self, style: str, label: str, text: str) -> None:
        from rich.text import Text

        self.console.print(Text.assemble((label, style), plain(text)))

    def say(self, text: str) -> None:
        """Commentary; ``--quiet`` hides it."""
        if not self.quiet:
            self._print("", "", text)

    def show(self, text: str) -> None:
        """What somebody is about to be asked about: told even when ``--quiet``."""
        self._print("", "", text)

    def ask(self, text: str) -> None:
        """A question, before its answer is read from the same line."""
        sys.stderr.write(text)
        sys.stderr.flush()

    def warn(self, text: str) -> None:
        self._print("yellow", "warning: ", text)

    def fail(self, message: str, hint: str = "") -> None:
        """An expected failure in one message; ``--verbose`` adds where it came from."""
        if self.verbose:
            import traceback

            traceback.print_exc(file=sys.stderr)
        self._print("bold red", "error: ", message)
        if hint:
            self._print("cyan", "hint: ", hint)

    def logging(self) -> None:
        """Send the library's log to stderr: warnings always, all of it with ``--verbose``."""
        import logging

        class Handler(logging.Handler):
            def emit(handler, record):
                tell = self.warn if record.levelno >= logging.WARNING else self.say
                tell(record.getMessage())

        log = logging.getLogger("storycli")
        log.handlers = [Handler()]
        log.setLevel(logging.DEBUG if self.verbose else logging.WARNING)

    @contextmanager
    def progress(self) -> "Iterator[Progress]":
        """Where work is told as it goes on: bars on a terminal, a line for each plot in a pipe."""
        if not sys.stderr.isatty() or self.quiet:
            yield Progress(tell=lambda line: self.say(line))
            return
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            TextColumn,
            TimeElapsedColumn,
            TimeRemainingColumn,
        )
        from rich.progress import Progress as Bars

        columns = (
            TextColumn("{task.description:>16}", markup=False),
            BarColumn(bar_width=32),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left", style="dim"),
            TimeRemainingColumn(),
        )
        with Bars(*columns, console=self.console, transient=True) as bars:
            self._beside_bars = bars.console
            try:
                yield Progress(tell=lambda line: self.say(line), bars=bars)
            finally:
                self._beside_bars = None


class Progress:
    """Callable as ``report(stage, at, done, total)``; ``at`` is the plot's folder, or empty.

    ``plots``, once known, gives the whole film a bar with the time left.
    """

    def __init__(self, tell: Callable[[str], None], bars: Any = None):
        self.tell, self.bars = tell, bars
        self.plots = 0
        self.began: dict[tuple[str, str], float] = {}
        self.told: set[tuple[str, str]] = set()
        self.tasks: dict[str, Any] = {}

    def __call__(self, stage: str, at: str, done: int, total: int) -> None:
        work = (stage, at)
        if done < total:
            self.began.setdefault(work, time.monotonic())
        if self.bars:
            self._draw(f"{at} {stage}".strip(), done, total)
            if stage == "render" and self.plots:
                self._draw("film", int(at) - 1 + done / total, self.plots)
        if done >= total and work not in self.told:
            self.told.add(work)
            self._tell(stage, at, self.began.get(work))

    def of(self, stage: str, done: int, total: int, *_: object) -> None:
        """The same of work that belongs to no plot, as trainings and indexing tell it."""
        self(stage, "", done, total)

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Clear the bars away while somebody is asked something."""
        if self.bars:
            self.bars.stop()
        yield
        if self.bars:
            self.bars.start()

    def _draw(self, name: str, done: float, total: float) -> None:
        if name not in self.tasks:
            self.tasks[name] = self.bars.add_task(plain(name), total=total)
        self.bars.update(self.tasks[name], completed=done, total=total)
        if done >= total:
            self.bars.remove_task(self.tasks.pop(name))

    def _tell(self, stage: str, at: str, began: float | None) -> None:
        """A line for each plot, and for other work that took a while."""
        took = f"{time.monotonic() - began:.1f} s" if began else "as before"
        if stage == "render":
            self.tell(f"plot {int(at)} of {self.plots}: {took}")
        elif not at and began and time.monotonic() - began > 1:
            self.tell(f"{LABELS.get(stage, stage)}: {took}")


screen = Screen()
