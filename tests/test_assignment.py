"""One clip for each plot, over all plots together."""

import itertools
import subprocess
import sys
from pathlib import Path

import numpy as np

from storycli.library.assignment import assign
from storycli.story import Candidate, Clip


def candidates(**scores):
    return [
        Candidate(clip=Clip(id=name, path=Path(name), start=0, end=9, fps=9, width=9, height=9), score=score)
        for name, score in scores.items()
    ]


def chosen(*plots):
    return [choice.clip.id for choice in assign(plots)]


def test_no_clip_is_used_twice_and_the_sum_is_largest():
    first, second = candidates(a=0.9, b=0.8), candidates(a=0.85, b=0.1)
    assert chosen(first, second) == ["b", "a"]  # taking the best first would end at 1.0, this is 1.65
    assert chosen(second, first) == ["a", "b"]


def test_no_other_choice_without_reuse_has_a_larger_sum():
    rng = np.random.default_rng(0)
    for _ in range(20):
        scores = rng.uniform(-0.2, 1, (4, 6))
        plots = [candidates(**{f"c{j}": score for j, score in enumerate(row)}) for row in scores]
        found = assign(plots)
        sums = (sum(scores[i, j] for i, j in enumerate(order)) for order in itertools.permutations(range(6), 4))
        assert len({choice.clip.id for choice in found}) == 4
        assert sum(choice.score for choice in found) == max(sums)


def test_clips_are_used_again_only_when_there_are_too_few():
    one, two = candidates(a=0.9), candidates(a=0.9, b=-0.9)
    assert chosen(one, one, one) == ["a", "a", "a"]
    assert sorted(chosen(one, two)) == ["a", "b"]
    assert sorted(chosen(two, two, two)) == ["a", "a", "b"]


def test_a_plot_with_one_candidate_gets_it():
    assert chosen(candidates(a=0.9, b=0.8), candidates(a=0.2)) == ["b", "a"]
    assert chosen() == []


def test_choices_carry_their_own_score():
    assert [c.score for c in assign([candidates(a=0.3), candidates(a=0.1, b=0.2)])] == [0.3, 0.2]


def test_choosing_needs_no_index():
    code = "import sys, storycli.library.assignment\nprint({'lancedb', 'pyarrow', 'torch'} & sys.modules.keys())"
    root = Path(__file__).parent.parent
    assert subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True).stdout == "set()\n"
