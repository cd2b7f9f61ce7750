"""The paper's measurements, on clips whose answers are known."""

import numpy as np
import pytest

from storycli import catalogue, evaluate
from storycli.config import EXAMPLES
from storycli.errors import StoryError

MODEL = catalogue.named("storybook")


@pytest.fixture(scope="module")
def samples():
    return evaluate.captioned([EXAMPLES / "clips.csv"], MODEL, 12)


class Perfect:
    """A renderer that gives back the clips whose captions it is asked for, or noise when depth is to be ignored."""

    def __init__(self, clips):
        self.clips = clips

    def render(self, prompt, depth, *, seed, tau, **_):
        if tau == 1:
            return np.random.default_rng(seed).integers(0, 255, (*depth.shape, 3), dtype=np.uint8)
        return self.clips[prompt]


def test_a_perfect_renderer_scores_as_the_clips_themselves_and_noise_scores_worse(samples, monkeypatch):
    clips = {sample.caption: sample.frames for sample in samples}
    monkeypatch.setattr(evaluate, "Renderer", lambda model, device: Perfect(clips))
    told = []
    truth, text_only, with_depth, with_tau = evaluate.table(MODEL, samples, progress=lambda *now: told.append(now))
    assert told[-1] == (18, 18)
    for row in (with_depth, with_tau):
        assert (row.fvd, row.kvd, row.prompt_fit) == pytest.approx((truth.fvd, truth.kvd, truth.prompt_fit))
        assert row.structure_fit == pytest.approx(1.0)
    assert text_only.fvd > truth.fvd
    assert text_only.structure_fit < with_depth.structure_fit - 0.2
    assert text_only.flicker > 10 * truth.flicker


def test_flicker_counts_change_where_depth_stands_still():
    depth = np.zeros((3, 8, 8), np.float32)
    depth[1, :, 4:] = 0.5  # the right half moves
    clip = np.zeros((3, 32, 32, 3), np.uint8)
    clip[1, :, :16] = 10
    clip[1, :, 16:] = 200
    assert evaluate.flicker(clip, depth) == pytest.approx(10)


def test_too_few_clips_are_refused(samples):
    with pytest.raises(StoryError, match="too few"):
        evaluate.table(MODEL, samples[:7])


def test_clips_without_captions_are_refused(tmp_path):
    with pytest.raises(StoryError, match="caption"):
        evaluate.captioned([tmp_path], MODEL, 8)


def test_the_table_is_markdown():
    row = evaluate.Row(condition="text only", fvd=1.5, kvd=0.25, prompt_fit=0.5, structure_fit=0.9, flicker=2.0)
    assert evaluate.as_text([row]).splitlines()[-1] == "| text only | 1.500 | 0.2500 | 50% | 0.90 | 2.0 |"
