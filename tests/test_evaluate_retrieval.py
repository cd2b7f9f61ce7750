"""The retrieval table, on a world of a few scenes whose answers are known."""

from pathlib import Path
from types import SimpleNamespace

import library
import pytest

from storycli.evaluate import retrieval as evaluate_retrieval
from storycli.evaluate.retrieval import Row, measure, table
from storycli.library.sources import find

SCENES = ("a dog", "the sea", "a red car", "two owls", "a rocket", "a cook")


class World:
    """Stands in for the storybook world: a texture for each scene, told in two ways."""

    def __init__(self, assets):
        pass

    def scene(self, seed, split):
        assert split == "held_out"
        return seed

    def caption(self, scene, rng=None):
        return f"{SCENES[scene]} in the morning" if rng is None or rng.random() < 0.5 else f"here is {SCENES[scene]}"

    def clip(self, scene, frames):
        return SimpleNamespace(frames=library.moving(scene, frames=frames))


@pytest.fixture
def weights(tmp_path, monkeypatch):
    monkeypatch.setattr(evaluate_retrieval, "World", World)
    return library.encoder(tmp_path / "tiny.safetensors")


def test_captions_find_what_the_picture_alone_does_not(weights, tmp_path):
    picture, hybrid = table(tmp_path, len(SCENES), tmp_path / "work", weights=weights)
    assert (picture.searched, hybrid.searched) == ("picture only", "picture and caption")
    assert (picture.clips, hybrid.clips) == (6, 6)
    assert hybrid.r1 == hybrid.r5 == 100
    assert hybrid.median_rank == 1
    assert picture.r1 < 50  # untrained weights
    assert picture.r10 == 100


def test_a_query_is_told_in_other_words_than_the_caption(weights, tmp_path):
    captions, queries = evaluate_retrieval.draw(tmp_path, 6, tmp_path / "clips", lambda *_: None)
    told = {source.path: source.told.caption for source in find([captions])}
    assert list(told.values()) == [f"{scene} in the morning" for scene in SCENES]
    assert list(queries.values()) == [f"here is {scene}" for scene in SCENES]
    assert told.keys() == queries.keys()


def test_clips_that_are_there_are_not_drawn_again(weights, tmp_path, monkeypatch):
    evaluate_retrieval.draw(tmp_path, 6, tmp_path / "clips", lambda *_: None)
    monkeypatch.setattr(World, "clip", lambda *_: pytest.fail("drawn again"))
    evaluate_retrieval.draw(tmp_path, 6, tmp_path / "clips", lambda *_: None)


class Ranking:
    """A library that puts the clip of query n at place n, and never finds the last one."""

    def __init__(self, paths):
        self.paths = [str(path) for path in paths]

    def rank(self, query, count):
        own = self.paths[int(query)]
        others = [path for path in self.paths if path != own]
        order = [*others[: int(query)], own, *others[int(query) :]]
        found = order if own != self.paths[-1] else others
        return [({"path": path}, -float(place)) for place, path in enumerate(found)]


def test_ranks_are_counted_from_one_and_what_is_not_found_comes_last():
    paths = [Path(f"/{n}.mp4") for n in range(20)]
    row = measure(Ranking(paths), "so", {path: str(n) for n, path in enumerate(paths)}, lambda *_: None)
    assert (row.r1, row.r5, row.r10) == pytest.approx((5, 25, 50))
    assert row.median_rank == 10.5


def test_the_table_is_markdown():
    row = Row(searched="picture only", clips=1000, r1=18.24, r5=40, r10=52.5, median_rank=9)
    assert evaluate_retrieval.as_text([row]).splitlines()[-1] == "| picture only | 1000 | 18.2 | 40.0 | 52.5 | 9 |"
