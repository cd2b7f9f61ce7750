"""A face is found by what is fine in it, wherever, however large and however turned it is drawn."""

import cv2
import numpy as np
import pytest
from PIL import Image

from storycli import faces

HEIGHT, WIDTH = 60, 44


def figure(eyes=True):
    """A plush figure uint8 (h,w,3): the upper half is its head, with two eyes and a nose off its middle."""
    drawn = np.full((HEIGHT, WIDTH, 3), (200, 130, 70), np.uint8)
    if eyes:
        for x in (14, 28):
            cv2.circle(drawn, (x, 12), 3, (30, 20, 20), -1, cv2.LINE_AA)
    cv2.ellipse(drawn, (19, 22), (5, 3), 0, 0, 360, (60, 30, 30), -1, cv2.LINE_AA)
    return drawn


def scene(drawn, top=40, left=50):
    """A frame uint8 (128,128,3) with something before a wall, and where it stands, bool (128,128)."""
    frame, shape = np.full((128, 128, 3), (120, 160, 220), np.uint8), np.zeros((128, 128), bool)
    where = np.s_[top : top + drawn.shape[0], left : left + drawn.shape[1]]
    frame[where], shape[where] = drawn, True
    return frame, shape


def resemblance(frame, shape, heads):
    return faces.resemblances([frame], [shape], heads)[0]


@pytest.fixture(scope="module")
def heads(tmp_path_factory):
    """Those of one transparent picture."""
    folder = tmp_path_factory.mktemp("hero")
    picture = np.zeros((100, 100, 4), np.uint8)
    picture[20 : 20 + HEIGHT, 30 : 30 + WIDTH] = np.dstack([figure(), np.full((HEIGHT, WIDTH), 255, np.uint8)])
    Image.fromarray(picture).save(folder / "01.png")
    Image.fromarray(picture).save(folder / "preview.png")  # as training leaves one there
    return faces.heads(folder, estimator=None)


def test_a_head_is_the_upper_part_of_a_picture_and_its_mirror_image(heads):
    head, mirrored = heads
    np.testing.assert_array_equal(head, mirrored[:, ::-1])
    height, width = head.shape
    assert height / width == pytest.approx(faces.HEAD * HEIGHT / WIDTH, rel=0.1)


@pytest.mark.parametrize("turn", faces.TURNS)
@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("size", [0.7, 1.0, 1.5])
def test_a_face_is_found_however_it_is_drawn(heads, size, mirrored, turn):
    drawn = [np.rot90(figure(eyes)[:, :: -1 if mirrored else 1], turn) for eyes in (True, False)]
    whole, blind = (
        resemblance(*scene(cv2.resize(one, None, fx=size, fy=size, interpolation=cv2.INTER_AREA), 20, 20), heads)
        for one in drawn
    )
    assert whole > 0.6
    assert blind < whole - 0.15


def test_a_face_is_found_on_a_figure_that_rides_in_something_wider(heads):
    car = np.full((40, 80, 3), (220, 40, 40), np.uint8)
    frame, shape = scene(car, 70, 30)
    over, also = scene(figure()[:40], 30, 48)
    frame[also], shape = over[also], shape | also
    assert resemblance(frame, shape, heads) > 0.6


@pytest.mark.parametrize("eye", [0, 1])
def test_a_nose_does_not_stand_for_an_eye_on_a_small_head(heads, eye):
    """A head of two fifths of its boat's width, as sailors have: a whole correlation hardly tells."""
    boat, small = np.full((20, 96, 3), (220, 80, 40), np.uint8), (38, 29)
    drawn = cv2.resize(figure()[:33], small, interpolation=cv2.INTER_AREA)
    winking = figure()[:33]
    winking[6:18, (8, 22)[eye] : (20, 34)[eye]] = winking[0, 0]
    winking = cv2.resize(winking, small, interpolation=cv2.INTER_AREA)

    def sailor(head):
        frame, shape = scene(boat, 60, 10)
        over, also = scene(head, 31, 40)
        frame[also] = over[also]
        return frame, shape | also

    assert resemblance(*sailor(drawn), heads) > resemblance(*sailor(winking), heads) + 0.15


def test_nobody_and_specks_have_no_face(heads):
    frame, shape = scene(figure())
    assert resemblance(frame, np.zeros_like(shape), heads) == 0
    assert resemblance(*scene(figure()[:3, :3]), heads) == 0


def test_a_folder_without_pictures_has_no_heads(tmp_path):
    (tmp_path / "character.safetensors").write_bytes(b"")
    assert faces.heads(tmp_path, estimator=None) == []
