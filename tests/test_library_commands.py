"""``index`` and ``search`` on the command line: what their flags ask of the library."""

import json
from pathlib import Path

import numpy as np
import pytest
from test_capacity import COSTS

from storycli.library.indexing import Report
from storycli.retrieve import Filters
from storycli.story import Candidate, Clip


@pytest.fixture
def asked(monkeypatch):
    """What the library was asked for."""
    asked = []

    class Shelf:
        def __init__(self, folder, weights=None, *_):
            asked.append((folder, weights))

        def search(self, text, k, **how):
            asked.append((text, k, how))
            clip = Clip(id="a", path=Path("[a].mp4"), start=0, end=9, fps=9, width=9, height=9)
            return [Candidate(clip=clip, score=0.5)]

        def add(self, *_, **__):
            return Report(added=1)

    monkeypatch.setattr("storycli.retrieve.Library", Shelf)
    return asked


def test_search_hands_its_filters_on(run, asked):
    flags = ("--seconds", 3, "--longer-than", 1.5, "--shape", "portrait", "--under", "films", "--index", "clips")
    done = run("search", "a dog", "-k", 2, *flags)
    filters = Filters(min_seconds=1.5, orientation="portrait", under=Path("films"))
    assert asked == [(Path("clips"), None), ("a dog", 2, {"seconds": 3.0, "filters": filters})]
    assert done.out == "0.500  [a].mp4  0-9  \n"


def test_search_without_flags_looks_for_clips_as_render_does(run, asked, monkeypatch):
    run("search", "a dog", "--index", "clips")
    assert asked[1] == ("a dog", 5, {"seconds": 2.0, "filters": Filters()})  # as long as a plot
    monkeypatch.setenv("STORYCLI_FRAMES", "8")
    run("search", "a dog", "--index", "clips")
    assert asked[3] == ("a dog", 5, {"seconds": 1.0, "filters": Filters()})


def test_a_clip_that_is_gone_is_left_out_of_the_picture_and_not_of_the_list(run, asked, tmp_path):
    done = run("search", "a dog", "--index", "clips", "--sheet", "found.png")
    assert done.out == "0.500  [a].mp4  0-9  \n"
    assert done.code == 1 and "[a].mp4 does not exist; that clip is left out" in done.err


def test_a_search_that_finds_nothing_says_so_and_draws_nothing(run, asked, monkeypatch, tmp_path):
    monkeypatch.setattr("storycli.retrieve.Library.search", lambda *_, **__: [])
    done = run("search", "a dog", "--longer-than", 9999, "--index", "clips", "--sheet", "found.png", "--quiet")
    assert (done.code, done.out) == (0, "")
    assert "no clip was found; found.png is not written" in done.err
    assert not (tmp_path / "found.png").exists()
    done = run("search", "a dog", "--index", "clips", "--json")
    assert (done.code, json.loads(done.out)) == (0, [])
    assert "no clip was found\n" in done.err


def test_the_clips_found_are_drawn_as_one_picture(run, asked, monkeypatch, tmp_path):
    frames = np.zeros((8, 128, 128, 3), np.uint8)
    monkeypatch.setattr("storycli.media.video.read", lambda path, **_: frames)
    assert run("search", "a dog", "--index", "clips", "--sheet", "found.png").code == 0
    assert (tmp_path / "found.png").read_bytes().startswith(b"\x89PNG")


def test_a_picture_is_called_one_before_anything_is_looked_for(run, asked):
    done = run("search", "a dog", "--sheet", "found.xyz")
    assert done.code == 2 and "name it so: found.png" in done.err
    assert not asked


def test_status_is_not_asked_for_while_videos_are_added(run, asked):
    done = run("index", "a.mp4", "--status", "--index", "clips")
    assert done.code == 2
    assert "error: --status adds nothing" in done.err
    assert "leave the videos out, or ask for it afterwards" in done.err
    assert asked == []


def test_a_library_is_made_with_the_network_that_is_named(run, asked):
    assert run("index", "a.mp4", "--index", "clips", "--encoder", "siglip").code == 0
    assert asked == [(Path("clips"), Path("siglip"))]


def test_a_plan_is_told_and_adds_nothing(run, asked, monkeypatch):
    measured = []
    monkeypatch.setattr("storycli.library.capacity.measure", lambda encoder, videos: measured.append(videos) or COSTS)
    told = run("index", "a.mp4", "--plan", 10_000_000)
    assert told.code == 0
    assert "10,000,000 clips" in told.out
    assert "21.0 GB" in told.out
    assert json.loads(run("index", "--plan", 10_000_000, "--json").out)["parts"] == 4096
    assert measured == [[Path("a.mp4")], []]
    assert asked == []
