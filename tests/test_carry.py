"""Whoever moves is drawn alike in all frames; the scenery, and what was hidden, stay as each frame has them."""

import cv2
import numpy as np
import pytest

from storycli.carry import carried

SIZE, SIDE, TOP = 96, 36, 30
LEFTS = (12, 16, 20, 25)  # of the figure, frame by frame


@pytest.fixture
def depth():
    """A round-shouldered figure that walks to the right before a wall."""
    ground = np.full((len(LEFTS), SIZE, SIZE), 0.2, np.float32)
    across, down = np.meshgrid(np.linspace(-1, 1, SIDE), np.linspace(-1, 1, SIDE))
    body = np.float32(0.6 - 0.1 * (across**2 + down**2))
    for frame, left in zip(ground, LEFTS, strict=True):
        frame[TOP : TOP + SIDE, left : left + SIDE] = body
    return ground


@pytest.fixture
def frames(depth):
    """The wall is of another grey in each frame, and so are the figure's eyes: in one frame they are white."""
    drawn = np.empty((*depth.shape, 3), np.uint8)
    for number, left in enumerate(LEFTS):
        drawn[number] = 40 + number
        figure = drawn[number, TOP : TOP + SIDE, left : left + SIDE]
        figure[:] = (200, 120, 60)
        for eye in (10, 22):
            cv2.circle(figure, (eye, 14), 4, (255,) * 3 if number == 1 else (10 * number,) * 3, -1)
    return drawn


def figures(frames, scale=1):
    """The figure as each frame shows it, without its outline."""
    cut = [frame[scale * (TOP + 5) : scale * (TOP + 26), scale * (left + 5) : scale * (left + 31)]
           for frame, left in zip(frames, LEFTS, strict=True)]  # fmt: skip
    return np.stack(cut).astype(float)


def unlike(figures):
    """How much they change from frame to frame, grey levels."""
    return np.abs(np.diff(figures, axis=0)).mean()


def test_a_figure_that_moves_is_drawn_alike_in_all_frames(frames, depth):
    assert unlike(figures(frames)) > 20
    assert unlike(figures(carried(frames, depth))) < 5


def test_the_drawing_is_that_of_the_frame_which_agrees_best_with_the_others(frames, depth):
    eyes = figures(carried(frames, depth))[:, 9, 5]
    assert eyes.max() < 60  # one frame of four has white eyes


def test_a_hero_known_by_its_pictures_lends_the_frame_with_its_face(frames, depth):
    """One frame alone has white eyes, as the pictures do: without them it would be the last to be chosen."""
    head = np.float32(cv2.cvtColor(frames[1], cv2.COLOR_RGB2GRAY))[TOP : TOP + SIDE, LEFTS[1] : LEFTS[1] + SIDE]
    eyes = figures(carried(frames, depth, [[head]]))[:, 9, 5]
    assert eyes.min() > 200
    np.testing.assert_array_equal(carried(frames, depth, [[]]), carried(frames, depth))


def test_each_of_two_heroes_is_lent_the_frame_with_its_own_face(frames, depth):
    """To the right there stands another, of whom another frame has the white eyes."""
    both = np.concatenate([frames, np.roll(frames, 2, axis=0)], axis=2)
    guide = np.concatenate([depth, np.roll(depth, 2, axis=0)], axis=2)
    head = np.float32(cv2.cvtColor(frames[1], cv2.COLOR_RGB2GRAY))[TOP : TOP + SIDE, LEFTS[1] : LEFTS[1] + SIDE]
    film = carried(both, guide, [[head], [head]])
    assert figures(film[:, :, :SIZE])[:, 9, 5].min() > 200
    assert figures(np.roll(film[:, :, SIZE:], -2, axis=0))[:, 9, 5].min() > 200


def test_the_scenery_stays_as_each_frame_has_it(frames, depth):
    wall = np.ones((SIZE, SIZE), bool)
    wall[TOP - 6 : TOP + SIDE + 6] = False
    np.testing.assert_array_equal(carried(frames, depth)[:, wall], frames[:, wall])


def test_what_was_hidden_keeps_its_own_drawing(frames, depth):
    """In the last frame something nearer comes into view before the figure's eyes."""
    depth[-1, TOP + 8 : TOP + 20, LEFTS[-1] + 4 : LEFTS[-1] + 32] = 1
    frames[-1, TOP + 8 : TOP + 20, LEFTS[-1] + 4 : LEFTS[-1] + 32] = (0, 0, 255)
    seen = carried(frames, depth)[-1, TOP + 14, LEFTS[-1] + 18]
    assert np.abs(seen.astype(int) - (0, 0, 255)).max() < 16


def test_frames_may_be_larger_than_their_depth(frames, depth):
    large = np.stack([cv2.resize(frame, None, fx=4, fy=4, interpolation=cv2.INTER_NEAREST) for frame in frames])
    film = carried(large, depth)
    assert film.shape == large.shape and film.dtype == np.uint8
    assert unlike(figures(film, 4)) < unlike(figures(large, 4)) / 4


def test_a_clip_with_nobody_in_front_and_a_single_frame_stay_as_they_are(frames, depth):
    assert carried(frames, np.full_like(depth, 0.3)) is frames
    np.testing.assert_array_equal(carried(frames[:1], depth[:1]), frames[:1])
