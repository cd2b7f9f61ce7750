"""In-betweens: how many, when nothing moves, and where things are half-way."""

import clips
import cv2
import numpy as np
import pytest

from storycli.inbetween import inbetween


def scene(shift: float, size: int = 160) -> np.ndarray:
    """A textured patch, ``shift`` pixels to the right, over another texture that stands still."""
    rng = np.random.default_rng(0)
    wall, patch = (cv2.resize(rng.integers(0, 255, (20, 20, 3), np.uint8), (size, size)) for _ in range(2))
    inside = np.zeros((size, size), np.float32)
    inside[50:110, 40:100] = 1
    matrix = np.float32([[1, 0, shift], [0, 1, 0]])
    patch, inside = cv2.warpAffine(patch, matrix, (size, size)), cv2.warpAffine(inside, matrix, (size, size))
    return (wall * (1 - inside[..., None]) + patch * inside[..., None]).astype(np.uint8)


def psnr(image: np.ndarray, truth: np.ndarray) -> float:
    return float(10 * np.log10(255**2 / np.square(image.astype(float) - truth).mean()))


@pytest.mark.parametrize("factor", [1, 2, 3])
def test_the_frames_of_the_model_stay_and_the_clip_lasts_as_long(factor):
    frames = np.stack([scene(shift) for shift in (0, 6, 12)])
    film = inbetween(frames, factor)
    assert film.shape == (3 * factor, *frames.shape[1:]) and film.dtype == np.uint8
    np.testing.assert_array_equal(film[::factor], frames)
    np.testing.assert_array_equal(film[2 * factor :], np.stack([frames[2]] * factor))


def test_what_stands_still_stays_as_it_is():
    frames = np.stack([scene(0)] * 2)
    np.testing.assert_array_equal(inbetween(frames, 3), np.stack([scene(0)] * 6))


@pytest.mark.parametrize("step", [6, 12])
def test_between_two_frames_things_are_on_their_way(step):
    film = inbetween(np.stack([scene(0), scene(step)]), 3)
    for index, moment in ((1, 1 / 3), (2, 2 / 3)):
        truth = scene(step * moment)
        blend = scene(0) * (1 - moment) + scene(step) * moment
        assert psnr(film[index], truth) > psnr(blend, truth) + 4


def test_pictures_of_any_proportion_are_done():
    frames = np.stack([scene(0, 320)[:181, :290], scene(4, 320)[:181, :290]])
    assert inbetween(frames, 2).shape == (4, 181, 290, 3)


def test_interpolated_frames_are_where_motion_takes_them():
    picture = clips.colours(1, (160, 96))[0]
    frames = np.stack([picture[:, 40 - 8 * k : 136 - 8 * k] for k in range(3)])
    made = inbetween(frames, 4)[:9]
    assert made.shape == (9, 96, 96, 3)
    assert np.array_equal(made[::4], frames)
    for k in range(9):
        exact = picture[:, 40 - 2 * k : 136 - 2 * k]
        assert np.abs(made[k].astype(int) - exact)[:, 12:-12].mean() < 2
    assert np.array_equal(inbetween(frames, 1), frames)
