"""Has a figure its hero's face? What is fine in a drawing, eyes, nose and mouth, is looked for in the hero's pictures.

Networks that tell what a picture shows hardly see that an eye is missing. Normalised cross-correlation (Lewis 1995)
does: the upper part of the figure in each picture is laid over the drawing, in several sizes, mirrored and lying, and
where it fits best says how much of the face is there.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np

from storycli.depth import DepthEstimator, figure
from storycli.media.pictures import MOST, among, read

Array = np.ndarray
SIDE = 128  # of the pictures
HEAD = 0.55  # of a figure's height; what is drawn in this world is half head
FACE = ((0.12, 0.95), (0.14, 0.86))  # of a head's height and width: without its outline, which depth decides
LEAST = 8  # pixels of a head
FINE = 0.12  # of a head's width; coarser shading is left out
SIZES = (0.55, 0.7, 0.85, 1.0)  # of the width of what stands in front, which may be a car
TURNS = (0, 1, 3)  # quarters: standing, or lying on a side


def heads(folder: Path, estimator: DepthEstimator) -> list[Array]:
    """The head in each of the pictures in a character's folder, and its mirror image, grey float32 (h,w).

    There are none where weights have come without pictures, or nothing stands out from them. Raises StoryError for a
    file that is no picture.
    """
    found = []
    for path in among(folder)[:MOST]:
        pixels, opacity = read(path, SIDE)
        shape = figure(estimator.estimate(pixels[None])[0]) if opacity is None else opacity > 0.5
        if shape.any():
            alone = only(pixels, shape)
            top, bottom, left, right = box(shape)
            bottom = top + max(1, round(HEAD * (bottom - top)))
            left, right = box(shape[top:bottom])[2:]
            head = alone[top:bottom, left:right]
            found += [head, np.ascontiguousarray(head[:, ::-1])]
    return found


def resemblance(frame: Array, shape: Array, heads: Sequence[Array]) -> float:
    """How much what stands in front, bool (h,w), in a frame uint8 (h,w,3) has the face of one of ``heads``: up to 1.

    0 where no head is known, nothing stands in front, or it is smaller than any face.
    """
    if not heads or not shape.any():
        return 0.0
    top, bottom, left, right = box(shape)
    drawn, best = only(frame, shape)[top:bottom, left:right], 0.0
    for size in SIZES:
        width = size * (right - left)
        fine = detail(drawn, FINE * width)
        for face in faces(heads, width):
            if face.shape[0] <= fine.shape[0] and face.shape[1] <= fine.shape[1]:
                best = max(best, float(cv2.matchTemplate(fine, face, cv2.TM_CCOEFF_NORMED).max()))
    return best


def faces(heads: Sequence[Array], width: float) -> Iterator[Array]:
    """What is fine in the faces of ``heads`` that are so wide, in all turns; none of what is too small to have any."""
    for head in heads:
        scale = width / head.shape[1]
        if min(head.shape) * scale < LEAST:
            continue
        sized = cv2.resize(head, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        rows, columns = (
            slice(round(low * side), round(high * side)) for (low, high), side in zip(FACE, sized.shape, strict=True)
        )
        face = detail(sized, FINE * width)[rows, columns]
        for turn in TURNS:
            yield np.ascontiguousarray(np.rot90(face, turn))


def only(pixels: Array, shape: Array) -> Array:
    """Pixels uint8 (h,w,3) in grey, float32 (h,w), with the mean of a shape, bool (h,w), around it."""
    grey = np.float32(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY))
    return np.where(shape, grey, grey[shape].mean())


def detail(grey: Array, fine: float) -> Array:
    return grey - cv2.GaussianBlur(grey, (0, 0), fine)


def box(shape: Array) -> tuple[int, int, int, int]:
    """Top, bottom, left and right of a shape, bool (h,w)."""
    down, across = np.nonzero(shape.any(1))[0], np.nonzero(shape.any(0))[0]
    return int(down[0]), int(down[-1]) + 1, int(across[0]), int(across[-1]) + 1
