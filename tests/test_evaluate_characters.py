"""Table 2: from measures to rows, and the whole study in small, on a world of stand-ins."""

import dataclasses
import functools
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from storycli.evaluate import characters as evaluate_characters
from storycli.evaluate import together, trial
from storycli.evaluate.characters import DRAWS, as_text, interval, resampled, run, table
from storycli.evaluate.trial import CLASS_WORD, OURS, WORLD, Study
from storycli.training import recogniser as train_recogniser
from storycli.training.fit import FitSettings
from storycli.world.generator import World


def measures(identity, prompt=0.5, shape=(4, 5, 2)):
    """The same figures for every character, scene and seed, but for what differs between characters."""
    between = torch.linspace(-0.1, 0.1, shape[0])[:, None, None].expand(shape)
    return {
        "prompt": torch.full(shape, prompt),
        "scene": torch.full(shape, 0.75),
        "identity": identity + between,
        "recognised": torch.full(shape, 0.25),
        "steady": torch.full(shape, 0.9),
    }


def test_means_are_over_everything_and_intervals_over_characters():
    (row,) = table({CLASS_WORD: measures(0.4)})
    means = row.prompt, row.scene, row.identity, row.recognised, row.steady
    assert means == pytest.approx((0.5, 0.75, 0.4, 0.25, 0.9))
    assert row.prompt_between == pytest.approx((0.5, 0.5), abs=1e-5)
    low, high = row.identity_between
    assert 0.3 < low < 0.36 and 0.44 < high < 0.5
    assert row.identity_margin is None


def test_margins_compare_the_same_draws():
    """Characters differ far more than methods do, and yet the margin is certain."""
    rows = {row.method: row for row in table({WORLD: measures(0.9), "dreambooth": measures(0.4), OURS: measures(0.45)})}
    assert rows["dreambooth"].identity_margin == pytest.approx((0.05, 0.05), abs=1e-5)
    assert rows["dreambooth"].prompt_margin == pytest.approx((0, 0), abs=1e-5)
    assert rows[OURS].identity_margin is None and rows[WORLD].identity_margin is None


def test_a_bootstrap_draws_characters_and_the_scenes_that_all_of_them_play():
    values = np.zeros((2, 3))
    values[0] = 1
    means = resampled(values, seed=0)
    assert len(means) == DRAWS and set(means) == {0.0, 0.5, 1.0}  # whole characters
    assert means.mean() == pytest.approx(0.5, abs=0.03)
    scenes = resampled(np.array([[0.0, 0.0, 3.0]] * 8), seed=0)  # as many characters, and no more to go by
    assert set(scenes.round(6)) == {0.0, 1.0, 2.0, 3.0}
    assert interval(np.arange(1001) / 1000) == pytest.approx((0.025, 0.975))


def test_the_table_is_markdown_with_a_line_for_each_method():
    study = Study(assets=Path(), characters=("cat", "wolf"))
    lines = as_text(table({CLASS_WORD: measures(0.4), OURS: measures(0.6)}), study).splitlines()
    assert lines[0].startswith("2 characters x 10 scenes x 4 seeds of 4 frames")
    assert lines[-2].startswith("| class word alone | 0.500 [0.500, 0.500] | 75% | 0.400 [")
    assert "[+0.200, +0.200]" in lines[-2] and "+0.2" not in lines[-1]
    assert len({line.count("|") for line in lines[2:]}) == 1


@pytest.fixture(scope="module")
def studied(assets, tmp_path_factory):
    """A study of two characters, and what was found."""
    patch = pytest.MonkeyPatch()
    quick = FitSettings(samples=64, batch_size=32)
    patch.setattr(train_recogniser, "train", functools.partial(train_recogniser.train, settings=quick, pictures=2))
    patch.setattr(trial, "JUDGING", FitSettings(samples=8, batch_size=4))
    patch.setattr(trial, "JUDGED_ON", 4)
    wishes = {"batch": 1, "class_batch": 1, "views": 1}
    patch.setattr(trial, "config_for", functools.partial(trial.config_for, **wishes))
    study = Study(
        assets=assets, characters=("cat", "wolf"), methods=("textual-inversion", OURS), scenes=2, seeds=2,
        train_steps=1, steps=2, frames=2,
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("study")
    told = []
    found = run(study, folder, report=lambda *now: told.append(now))
    yield study, folder, found, told
    patch.undo()


def test_every_character_plays_every_scene_in_every_way(studied):
    _, folder, found, told = studied
    assert list(found) == [WORLD, CLASS_WORD, "textual-inversion", OURS]
    for measured in found.values():
        assert measured["identity"].shape == (2, 2, 2) and measured["frames"].shape == (2, 2, 2, 128, 128, 3)
        assert measured["identity"].abs().max() <= 1 + 1e-4
        assert set(measured["recognised"].flatten().tolist()) <= {0, 0.5, 1}  # of two frames
    assert told[-1] == ("learn and play", 8, 8)
    assert len(list((folder / "cells").glob("*.safetensors"))) == 8


def test_a_clip_is_of_its_scene_when_no_other_sentence_is_nearer(studied, monkeypatch):
    study, folder, *_ = studied
    stage, clips = trial.staged(study, folder), np.zeros((2, 2, 128, 128, 3), np.uint8)
    shown = {trial.SCENES[0]: np.float32([1, 0]), trial.SCENES[1]: np.float32([0, 1])}
    told = {stage.sentence("cat", scene): vector for scene, vector in shown.items()}
    monkeypatch.setattr(stage.encoder, "embed_text", lambda sentences: np.stack([told[each] for each in sentences]))
    monkeypatch.setattr(stage.encoder, "embed_clips", lambda clips: np.float32([[0.8, 0.6], [0.6, 0.8]]))
    found = stage.measure(clips, stage.embed(stage.pictures("cat")), "cat", trial.SCENES[0])
    assert found["prompt"].tolist() == pytest.approx([0.8, 0.6]) and found["scene"].tolist() == [1, 0]


def test_the_judge_has_met_those_that_are_held_out(studied, monkeypatch):
    study, folder, *_ = studied
    assert trial.staged(study, folder).encoder.path == folder / "judge.safetensors"
    met = []
    real = World.scene
    monkeypatch.setattr(World, "scene", lambda *a, **how: met.append(real(*a, **how)) or met[-1])
    monkeypatch.setattr(trial, "JUDGED_ON", 24)
    (folder / "other").mkdir()
    trial.judge(study.assets, folder / "other")
    held = set(World(study.assets).held_out_characters)
    assert len(met) == 24 and 3 <= sum(scene.character in held for scene in met) <= 9  # of 12 in the held-out split


def test_those_on_which_something_was_chosen_are_held_out_last(assets):
    assert evaluate_characters.held_out(assets, 3) == ("cat", "raccoon", "polar bear")
    assert set(evaluate_characters.held_out(assets, 10)[-2:]) == {"teddy", "wolf"}


def test_what_is_done_is_not_done_again_and_what_is_missing_is_as_it_was(studied, monkeypatch):
    study, folder, found, _ = studied
    path = next((folder / "cells").glob(f"wolf--{CLASS_WORD.replace(' ', '-')}--*"))
    before = load_file(path)
    path.unlink()
    made = []
    real = trial.Stage.measure
    monkeypatch.setattr(trial.Stage, "measure", lambda *a: made.append(a[3]) or real(*a))
    again = run(study, folder)
    assert made == ["wolf", "wolf"]  # two scenes
    assert all(torch.equal(before[key], load_file(path)[key]) for key in before)
    assert all(torch.equal(found[way][key], again[way][key]) for way in found for key in found[way])


def test_another_study_shares_no_cells(studied):
    study, folder, _, _ = studied
    stage = trial.staged(study, folder)
    other = trial.Stage(dataclasses.replace(study, steps=3), folder)
    assert len({stage.key(("cat", OURS)), other.key(("cat", OURS)), stage.key(("wolf", OURS))}) == 3


def test_figures_are_drawn(studied, monkeypatch):
    study, folder, found, _ = studied
    monkeypatch.setattr(evaluate_characters, "LONG", 2)
    monkeypatch.setattr(evaluate_characters, "TAUS", (0.0, 1.0))
    paths = evaluate_characters.figures(study, folder, found)
    assert [path.name for path in paths] == ["figure-5.png", "figure-6.png", "figure-7.png"]
    for path in paths:
        with Image.open(path) as sheet:
            assert sheet.width > 200


def test_two_characters_are_compared_with_and_without_regions(studied):
    study, folder, _, _ = studied
    apart, mixed = together.table(study, folder, scenes=1)
    assert (apart.kind, mixed.kind) == ("each in its region", "both everywhere")
    assert apart.own != mixed.own


def test_a_figure_is_recognised_where_it_is_nearer_to_the_right_one_of_the_two(monkeypatch, tmp_path):
    own = torch.tensor([[0.9, 0.8, 0.7, 0.1], [0.5, 0.1, 0.1, 0.1]])[:, None, None]  # (kinds, scenes, figures, frames)
    save_file({"own": own, "other": torch.full_like(own, 0.4)}, tmp_path / "cell")
    monkeypatch.setattr(together, "pair", lambda *_: tmp_path / "cell")
    rows = together.table(Study(assets=Path(), characters=("cat", "wolf")), tmp_path)
    assert [row.recognised for row in rows] == [0.75, 0.25]
