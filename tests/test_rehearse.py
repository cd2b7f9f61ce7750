"""Choosing tau and taking again, with a renderer and a judge whose answers are known."""

from pathlib import Path

import numpy as np
import pytest

from storycli.judge import Scores, correlation
from storycli.rehearse import FRAMES, GATE, STEPS, TAUS, UNSEEN, perform
from storycli.story import Take

DEPTH = np.random.default_rng(0).random((8, 4, 4), dtype=np.float32)
TAKE = Take(
    seed=5, sampler="dpm", steps=20, guidance=4, tau=0.2, negative="", frames=8, fps=8, size=(64, 64), retries=0
)  # fmt: skip


class Renderer:
    """Remembers what it was asked for; a clip tells its tau and seed in its pixels."""

    def __init__(self):
        self.asked = []

    def __call__(self, depth, *, seed, steps, tau, progress="told"):
        self.asked.append((len(depth), seed, steps, tau, progress))
        return np.full((len(depth), 8, 8, 3), (seed, round(100 * tau), 0), dtype=np.uint8)


class Judge:
    """Gives the scores of a clip by its tau and seed, from a table."""

    blind = False

    def __init__(self, table):
        self.table = table

    def likeness(self, folder: Path):
        return np.ones((1, 2)) / 2**0.5

    def scores(self, frames, depth, sentence, likenesses):
        seed, tau, _ = frames[0, 0, 0].tolist()
        identity, prompt, structure = self.table(seed, tau / 100)
        return Scores(identity=identity if likenesses else None, prompt=prompt, structure=structure)


def take(**wishes):
    return Take(**{name: getattr(TAKE, name) for name in Take.__dataclass_fields__} | wishes)


def filmed(judge, plan, cast=True):
    render = Renderer()
    frames = perform(render, judge, "{teddy} walks", {"teddy": Path("teddy/w")} if cast else {}, DEPTH, plan)
    return render, frames[0, 0, 0].tolist()[:2]


def test_auto_is_the_tau_that_shows_the_character_best_and_still_keeps_the_structure():
    found = {0.0: (0.5, 0, 1.0), 0.2: (0.6, 0, 0.95), 0.4: (0.7, 0, 0.9), 0.6: (0.9, 0, 0.5)}
    render, (seed, tau) = filmed(Judge(lambda seed, tau: found[tau]), take(tau="auto"))
    assert (seed, tau) == (5, 40)
    rehearsals, last = render.asked[:-1], render.asked[-1]
    assert rehearsals == [(FRAMES, 5, STEPS, tau, None) for tau in TAUS]
    assert last == (8, 5, 20, 0.4, "told")


def test_auto_keeps_the_structure_whole_where_no_tau_shows_any():
    found = {0.0: (0.5, 0, -0.05), 0.2: (0.6, 0, -0.2), 0.4: (0.7, 0, -0.2), 0.6: (0.9, 0, -0.1)}
    _, (_, tau) = filmed(Judge(lambda seed, tau: found[tau]), take(tau="auto"))
    assert tau == 0


def test_without_a_character_auto_goes_by_the_prompt():
    found = {0.0: (0, 0.5, 1.0), 0.2: (0, 0.8, 0.95), 0.4: (0, 0.7, 0.9), 0.6: (0, 0.9, 0.5)}
    _, (_, tau) = filmed(Judge(lambda seed, tau: found[tau]), take(tau="auto"), cast=False)
    assert tau == 20


def test_where_nobody_sees_a_character_auto_tries_nothing_and_retries_go_by_the_motion():
    class Blind(Judge):
        blind, likeness = True, None

    structure = {5: 0.1, 6: 0.9}
    blind = Blind(lambda seed, tau: (0, 0, structure[seed]))
    render, told = filmed(blind, take(tau="auto", retries=3))
    assert told == [6, round(100 * UNSEEN)]
    assert [asked[1] for asked in render.asked] == [5, 6]


def test_a_clip_is_taken_again_until_it_is_consistent():
    good = {5: 0.1, 6: 0.2, 7: GATE, 8: 1.0}
    render, (seed, _) = filmed(Judge(lambda seed, tau: (good[seed], 0, 1.0)), take(retries=3))
    assert seed == 7
    assert [asked[1] for asked in render.asked] == [5, 6, 7]


def test_of_takes_that_all_fail_the_best_is_kept():
    structure = {5: 0.1, 6: 0.3, 7: 0.3}
    render, (seed, _) = filmed(Judge(lambda seed, tau: (1.0, 0, structure[seed])), take(retries=2))
    assert seed == 6 and len(render.asked) == 3


def test_without_retries_nothing_is_judged():
    class Silent(Judge):
        def scores(self, *_):
            raise AssertionError

    render, _ = filmed(Silent(None), take())
    assert render.asked == [(8, 5, 20, 0.2, "told")]


def test_correlation_is_one_of_like_depths_and_nothing_of_flat_ones():
    assert correlation(DEPTH, 2 * DEPTH + 1) == pytest.approx(1)
    assert correlation(DEPTH, 1 - DEPTH) == pytest.approx(-1)
    assert correlation(DEPTH, np.zeros_like(DEPTH)) == 0
