"""The one edge where what goes wrong becomes a line, a hint and an exit code."""

import random

import pytest
import torch
import torch._inductor.config
from test_cli import COMMANDS

from storycli.cli import KEEP, _keeps


def test_a_gpu_that_is_full_is_told_without_a_traceback(run, studio, script, teddy, monkeypatch):
    def full(*_, **__):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    monkeypatch.setattr("storycli.manifest.recipe", full)
    done = run("render", script, "--llm", "none", "-c", teddy)
    assert done.code == 1
    assert done.err.endswith(
        "error: the memory of the GPU is full\nhint: try --frames 8, a smaller --size, or --model storybook\n"
    )


def test_a_model_that_cannot_be_compiled_is_told_without_a_traceback(run, studio, script, teddy, monkeypatch):
    unique = random.random()  # or torch would find what it compiled another time

    def compiled(*_, **__):
        return torch.compile(lambda x: x.sin() * unique)(torch.ones(3))

    monkeypatch.setattr("torch._inductor.config.cpp.cxx", ("/nowhere/g++",))
    monkeypatch.setattr("storycli.manifest.recipe", compiled)
    done = run("render", script, "--llm", "none", "-c", teddy)
    assert done.code == 1
    assert "error: torch cannot compile the model: InvalidCxxCompiler: No working C++ compiler found" in done.err
    assert done.err.endswith("\nhint: install a C++ compiler such as g++, or leave out --compile\n")


@pytest.mark.parametrize("command", [("doctor",), ("models", "list")])
def test_work_is_not_said_to_be_kept_where_none_is(run, monkeypatch, command):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("storycli.doctor.checks", interrupted)
    monkeypatch.setattr("storycli.store.state", interrupted)
    done = run(*command)
    assert (done.code, done.err) == (130, "error: interrupted\n")


@pytest.mark.parametrize(
    ("words", "kept"),
    [
        ("render story.txt -o film.mp4", True),
        ("render story.txt --dry-run", False),
        ("plan story.txt", False),
        ("search models", False),
        ("index videos/", True),
        ("index videos/ --plan 1000", False),
        ("index videos/ --plan=1000", False),
        ("models pull lvdm", True),
        ("models import lvdm f", False),
        ("models", False),
        ("", False),
    ],
)
def test_only_some_commands_go_on_where_they_were_stopped(words, kept):
    assert _keeps(words.split()) is kept


def test_what_keeps_its_work_is_a_command():
    assert {name.removesuffix(" pull") for name in KEEP} < set(COMMANDS)
