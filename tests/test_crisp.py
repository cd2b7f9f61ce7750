"""Warp sharpening of rendered frames."""

import cv2
import numpy as np

from storycli.crisp import crisp


def blurred_disc() -> np.ndarray:
    """A soft white disc on blue: (1,128,128,3)."""
    picture = np.full((128, 128, 3), (30, 60, 160), np.uint8)
    cv2.circle(picture, (64, 64), 40, (240, 240, 240), -1)
    return cv2.GaussianBlur(picture, (0, 0), 4)[None]


def test_an_edge_becomes_steeper_without_a_halo():
    soft = blurred_disc()
    sharp = crisp(soft)
    steepness = [np.abs(np.diff(frames[0, 64, :, 0].astype(int))).max() for frames in (soft, sharp)]
    assert steepness[1] > 2 * steepness[0]
    assert sharp.min() >= soft.min() - 2
    assert sharp.max() <= soft.max() + 2


def test_the_edge_stays_where_it_was():
    middle = [np.argmax(frames[0, 64, :, 0] > 135) for frames in (blurred_disc(), crisp(blurred_disc()))]
    assert abs(middle[0] - middle[1]) <= 1


def test_a_plain_picture_is_left_as_it_is():
    plain = np.full((2, 32, 32, 3), 77, np.uint8)
    assert (crisp(plain) == plain).all()


def test_a_frame_does_not_hang_on_its_neighbours():
    clip = np.concatenate([blurred_disc(), np.roll(blurred_disc(), 9, axis=2)])
    assert (crisp(clip)[1] == crisp(clip[1:])[0]).all()
