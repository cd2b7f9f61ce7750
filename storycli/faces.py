"""Has a figure its hero's face? What is fine in a drawing, eyes, nose and mouth, is looked for in the hero's pictures.

Networks that tell what a picture shows hardly see that an eye is missing. So the upper part of the figure in each
picture is laid over the drawing, in several sizes, mirrored and lying, where its fine structure correlates best (Lewis
1995), and there they are compared by structural similarity (Wang et al. 2004). That is local: a nose in its place does
not stand for the eyes.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import cv2
import numpy as np

from storycli.depth import DepthEstimator, figure
from storycli.media.pictures import MOST, among, read

Array = np.ndarray
Look = tuple[int, float, int]  # which head, its share of the width of what stands in front, and in which turn

SIDE = 128  # of the pictures
HEAD = 0.55  # of a figure's height; what is drawn in this world is half head
FACE = ((0.12, 0.95), (0.14, 0.86))  # of a head's height and width: without its outline, which depth decides
LEAST = 8  # pixels of a head
FINE = (0.03, 0.12)  # of a head's width: details are between these, coarser shading is left out
WINDOW = 0.04  # of a head's width, over which drawing and picture are compared
GREY = 4.0  # squared grey levels that are nothing to compare
SIZES = tuple(np.geomspace(0.36, 1, 12))  # of the width of what stands in front, which may be a car
TURNS = (0, 1, 3)  # quarters: standing, or lying on a side
PROBED, LIKELY = 4, 24  # every so many frames tell in which looks, at most, the hero may be drawn in all of them


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


def resemblances(frames: Sequence[Array], shapes: Sequence[Array], heads: Sequence[Array]) -> list[float]:
    """How much the figure in each frame of a clip has the face of one of ``heads``: up to 1.

    A frame is uint8 (h,w,3), and its figure, or what it rides in, a shape bool (h,w). 0 where no head is known, nothing
    stands in front, or it is smaller than any face.
    """
    if not heads:
        return [0.0] * len(frames)
    drawn = [cut_out(frame, shape) for frame, shape in zip(frames, shapes, strict=True)]
    with ThreadPoolExecutor() as pool:  # OpenCV lets others work meanwhile
        fits: dict[Look, float] = {}
        for found in pool.map(partial(looks, heads=heads), drawn[::PROBED]):
            fits |= {look: max(fit, fits.get(look, 0.0)) for look, fit in found.items()}
        likely = sorted(fits, key=fits.__getitem__)[-LIKELY:]
        return list(pool.map(partial(resemblance, heads=heads, likely=likely), drawn))


def looks(drawn: Array, heads: Sequence[Array]) -> dict[Look, float]:
    """How well every look of a hero fits somewhere on a figure, grey float32 (h,w): by correlation as a whole."""
    if not drawn.size:
        return {}
    fits = {}
    for size in SIZES:
        width = size * drawn.shape[1]
        fine = detail(drawn, width)
        for number, head in enumerate(heads):
            if (face := face_of(head, width)) is not None:
                fits |= {(number, size, turn): place(fine, np.rot90(face, turn))[0] for turn in TURNS}
    return fits


def resemblance(drawn: Array, heads: Sequence[Array], likely: Sequence[Look]) -> float:
    """How much a figure, grey float32 (h,w), has of a face in one of its likely looks."""
    if not drawn.size:
        return 0.0
    best, fine = 0.0, {size: detail(drawn, size * drawn.shape[1]) for size in {size for _, size, _ in likely}}
    for number, size, turn in likely:
        width = size * drawn.shape[1]
        if (face := face_of(heads[number], width)) is not None:
            face = np.ascontiguousarray(np.rot90(face, turn))
            fit, where = place(fine[size], face)
            if fit > 0:
                best = max(best, similarity(fine[size][where], face, WINDOW * width))
    return best


def face_of(head: Array, width: float) -> Array | None:
    """What is fine in the face of a head that is drawn so wide; None of one that is too small to have any."""
    scale = width / head.shape[1]
    if min(head.shape) * scale < LEAST:
        return None
    sized = cv2.resize(head, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    rows, columns = (
        slice(round(low * side), round(high * side)) for (low, high), side in zip(FACE, sized.shape, strict=True)
    )
    return detail(sized, width)[rows, columns]


def place(fine: Array, face: Array) -> tuple[float, tuple[slice, slice]]:
    """The correlation of a face with what it fits best in a drawing, and where that is; 0 where it is larger."""
    (h, w), (height, width) = face.shape, fine.shape
    if h > height or w > width:
        return 0.0, np.s_[:0, :0]
    _, fit, _, (x, y) = cv2.minMaxLoc(cv2.matchTemplate(fine, np.ascontiguousarray(face), cv2.TM_CCOEFF_NORMED))
    return fit, np.s_[y : y + h, x : x + w]


def similarity(drawn: Array, face: Array, window: float) -> float:
    """Structural similarity of details (h,w), whose local mean is none, where the face has any: up to 1."""
    own, other, both = (
        cv2.GaussianBlur(product, (0, 0), window) for product in (face * face, drawn * drawn, face * drawn)
    )
    return float(np.average((2 * both + GREY) / (own + other + GREY), weights=own**0.5))


def cut_out(pixels: Array, shape: Array) -> Array:
    """What pixels uint8 (h,w,3) show in a shape, bool (h,w), and nothing around it: grey float32, as large as that."""
    if not shape.any():
        return np.zeros((0, 0), np.float32)
    top, bottom, left, right = box(shape)
    return only(pixels, shape)[top:bottom, left:right]


def only(pixels: Array, shape: Array) -> Array:
    """Pixels uint8 (h,w,3) in grey, float32 (h,w), with the mean of a shape, bool (h,w), around it."""
    grey = np.float32(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY))
    return np.where(shape, grey, grey[shape].mean())


def detail(grey: Array, width: float) -> Array:
    """What is fine in a head that is so wide: a difference of Gaussians."""
    fine, coarse = (cv2.GaussianBlur(grey, (0, 0), share * width) for share in FINE)
    return fine - coarse


def box(shape: Array) -> tuple[int, int, int, int]:
    """Top, bottom, left and right of a shape, bool (h,w)."""
    down, across = np.nonzero(shape.any(1))[0], np.nonzero(shape.any(0))[0]
    return int(down[0]), int(down[-1]) + 1, int(across[0]), int(across[-1]) + 1
