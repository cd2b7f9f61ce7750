"""Bars and messages on a terminal keep out of each other's way."""

import io
import sys

from storycli.cli.screen import Screen

ERASED = "\x1b[2K"  # the line that the cursor is in


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_what_is_told_beside_bars_is_printed_above_them(monkeypatch):
    terminal, screen = Terminal(), Screen()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    with screen.progress() as report:
        report.plots = 2
        report("render", "01", 1, 4)
        screen.warn("look out")
        report("render", "01", 4, 4)
        report("render", "02", 1, 4)
    for line in ("warning:", "plot 1 of 2: "):
        before, after = terminal.getvalue().split(line)
        assert before.removesuffix("\x1b[33m").endswith(ERASED), before[-40:]  # not at the end of a bar
        assert "render" in after  # which is drawn anew below
    screen.say("done")
    assert terminal.getvalue().endswith("done\n")
