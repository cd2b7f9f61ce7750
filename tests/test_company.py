"""A guide with one figure becomes one with a figure for each hero; any other stays as it is."""

import cv2
import numpy as np
import pytest

from storycli.company import in_company

SIZE, LEFTS = 96, (30, 34, 38)  # of the picture, and of the figure in it, frame by frame


def guide(*lefts):
    """Frames of a wide figure with one arm raised to the right, on ground that comes nearer, before a far tree."""
    frames = np.empty((len(lefts), SIZE, SIZE), np.float32)
    frames[:] = np.linspace(0.1, 0.5, SIZE)[:, None]
    frames[:, 20:50, 78:90] = 0.4
    for frame, left in zip(frames, lefts, strict=True):
        cv2.rectangle(frame, (left, 25), (left + 35, 75), 0.95, -1)
        cv2.rectangle(frame, (left + 28, 12), (left + 35, 25), 0.95, -1)
    return frames


def shown(frame):
    """The figures of a frame as masks, from left to right."""
    count, parts = cv2.connectedComponents(np.uint8(frame > 0.8))
    return sorted((parts == part for part in range(1, count)), key=lambda mask: np.nonzero(mask)[1].mean())


def middles(frame):
    return [np.nonzero(mask)[1].mean() for mask in shown(frame)]


@pytest.mark.parametrize("heroes", [2, 3])
def test_each_hero_has_a_figure_that_moves_as_the_one_of_the_guide(heroes):
    stood = np.array([middles(frame) for frame in in_company(guide(*LEFTS), heroes)])
    homes = (np.arange(heroes) + 0.5) * SIZE / heroes
    assert stood.shape == (3, heroes)
    assert np.abs(stood.mean(0) - homes).max() < 3
    assert (np.diff(stood, axis=0) > 0.5).all()


def test_figures_keep_their_feet_and_turn_to_each_other():
    one, two = guide(30)[0], in_company(guide(30), 2)[0]
    masks = shown(two)
    feet = [np.nonzero(mask)[0].max() for mask in (*shown(one), *masks)]
    assert np.ptp(feet) <= 2
    tops = [np.flatnonzero(mask[np.nonzero(mask)[0].min() + 2]).mean() for mask in masks]
    assert tops[0] > SIZE / 4 + 5
    assert tops[1] < 3 * SIZE / 4 - 5  # the raised arm is to the right of one, to the left of the other


def test_where_the_figure_stood_is_scenery_as_far_as_its_row():
    frame = guide(30)[0]
    gap = in_company(guide(30), 2)[0][25:75, SIZE // 2 - 1 : SIZE // 2 + 1]
    assert np.abs(gap - frame[25:75, :1]).max() < 0.15


def test_a_guide_with_figures_enough_and_one_with_nobody_stay_as_they_are():
    two = np.maximum(guide(4), guide(56))
    nobody = np.zeros((2, SIZE, SIZE), np.float32) + np.linspace(0, 1, SIZE, dtype=np.float32)[:, None]
    for depth, heroes in ((guide(*LEFTS), 1), (two, 2), (nobody, 2)):
        np.testing.assert_array_equal(in_company(depth, heroes), depth)
