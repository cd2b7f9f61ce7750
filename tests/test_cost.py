"""What ``--dry-run`` tells: every clip that may be rendered, and who has to be trained."""

import shutil

import pytest
from studio import MODEL

from models import precision
from storycli import catalogue, cost
from storycli.config import EXAMPLES, Settings
from storycli.errors import StoryError
from storycli.story import Character, Plot, Story


def story(*characters: Character, **wishes) -> Story:
    return Story(title="t", plots=(Plot(text="a", query="a", prompt="a", **wishes),), characters=characters)


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(precision, "quick_in_bf16", lambda device: True)


@pytest.mark.parametrize(
    ("wishes", "steps", "at_most"),
    [
        ({}, 3, False),
        ({"retries": 2}, 3 * 3, True),
        ({"tau": "auto"}, 4 * 8 + 3, False),
        ({"tau": "auto", "frames": 2}, (4 * 8 + 3) / 2, False),
        ({"tau": "auto", "frames": 8}, 4 * 8 + 2 * 3, False),
        ({"tau": "auto", "retries": 1}, 4 * 8 + 2 * 3, True),
    ],
)
def test_clips_that_are_tried_or_may_be_rendered_again_take_time(studio, quick, wishes, steps, at_most):
    told = cost.of(story(), Settings(**wishes))
    assert told.seconds == round(steps / MODEL.steps * MODEL.seconds)
    assert told.at_most is at_most


def test_cores_that_are_slow_in_bf16_take_three_times_as_long(studio, quick, monkeypatch):
    told = cost.of(story(), Settings(device="cpu"))
    monkeypatch.setattr(precision, "quick_in_bf16", lambda device: False)
    assert cost.of(story(), Settings(device="cpu")).seconds == 3 * told.seconds


def test_what_is_learnt_takes_as_long_as_its_model_says(studio, quick, teddy):
    plain = cost.of(story(), Settings(device="cpu")).seconds
    film = story(Character(name="teddy", dir=teddy))
    assert cost.of(film, Settings(device="cpu")).seconds == plain + MODEL.training_seconds


def test_a_model_that_needs_a_gpu_takes_an_hour_for_a_clip_without(quick, monkeypatch):
    lvdm = catalogue.MODELS["lvdm"]
    monkeypatch.setattr(catalogue, "choose", lambda name, device: lvdm)
    assert 45 * 60 < cost.of(story(), Settings(device="cpu")).seconds < 1.4 * 3600
    assert cost.of(story(), Settings(device="mps")).seconds == lvdm.seconds


def test_a_plot_s_own_tau_is_tried_too(studio):
    assert cost.of(story(tau="auto"), Settings()) == cost.of(story(), Settings(tau="auto"))


def test_people_are_told_when_it_may_take_less(run, studio, script):
    assert "time:     about " in run("render", script, "--llm", "none", "--dry-run").out
    assert "time:     at most " in run("render", script, "--llm", "none", "--dry-run", "--retries", 2).out


def test_who_was_trained_for_other_pictures_has_to_be_trained_and_who_is_damaged_is_told(tmp_path):
    folder = shutil.copytree(EXAMPLES / "teddy", tmp_path / "teddy")
    film = story(Character(name="teddy", dir=folder))
    assert cost.of(film, Settings(model="storybook")).to_train == ()
    next(folder.glob("*.png")).unlink()
    assert cost.of(film, Settings(model="storybook")).to_train == ("teddy",)
    (folder / "character.safetensors").write_bytes(b"damaged")
    with pytest.raises(StoryError, match="cannot be read"):
        cost.of(film, Settings(model="storybook"))
    shutil.rmtree(folder)
    folder.mkdir()
    with pytest.raises(StoryError, match="there are no pictures"):
        cost.of(film, Settings(model="storybook"))
