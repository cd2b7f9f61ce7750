"""In-betweens: frames between those that a model makes, so that 8 a second move as smoothly as 24.

Motion is estimated both ways by dense inverse search (Kroeger et al. 2016, OpenCV's DIS). A moment between two frames
is reached from each of them along its own share of the motion (Jiang et al. 2018, eq. 4); where the two motions
contradict each other something is hidden in one frame, and the other one is believed.
"""

import cv2
import numpy as np

Array = np.ndarray
FLOW_SIDE = 256  # pixels of the shorter side at which motion is estimated
AGREEMENT = 4.0  # pixels by which the two motions may differ


def inbetween(frames: Array, factor: int) -> Array:
    """Frames uint8 (f,h,w,3) -> (f * factor,h,w,3): every frame, and ``factor`` - 1 moments after each.

    After the last frame there is nothing to move to, so it is held: the clip lasts as long as before.
    """
    if factor == 1:
        return frames
    film = []
    for here, there in zip(frames[:-1], frames[1:], strict=True):
        film.append(here)
        film += between(here, there, [step / factor for step in range(1, factor)])
    return np.stack([*film, *[frames[-1]] * factor])


def between(here: Array, there: Array, moments: list[float]) -> list[Array]:
    """The pictures at ``moments`` in 0 ... 1 on the way from one frame uint8 (h,w,3) to the next."""
    forth, back = motion(here, there), motion(there, here)
    doubt_here, doubt_there = disagreement(forth, back), disagreement(back, forth)
    pictures = []
    for t in moments:
        from_here = t * (t * back - (1 - t) * forth)
        from_there = (1 - t) * ((1 - t) * forth - t * back)
        weight_here = (1 - t) * trust(moved(doubt_here, from_here))
        weight_there = t * trust(moved(doubt_there, from_there))
        share = (weight_there / (weight_here + weight_there))[..., None]
        picture = moved(here, from_here) * (1 - share) + moved(there, from_there) * share
        pictures.append((picture + 0.5).astype(np.uint8))
    return pictures


def motion(here: Array, there: Array) -> Array:
    """Where each pixel of one frame is in the other, as steps (h,w,2) across and down."""
    height, width = here.shape[:2]
    scale = max(1.0, min(height, width) / FLOW_SIDE)
    size = round(width / scale), round(height / scale)
    grey = [cv2.cvtColor(cv2.resize(f, size, interpolation=cv2.INTER_AREA), cv2.COLOR_RGB2GRAY) for f in (here, there)]
    flow = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM).calc(*grey, None)
    return cv2.resize(flow, (width, height)) * np.float32([width / size[0], height / size[1]])


def disagreement(forth: Array, back: Array) -> Array:
    """How far from where it started a pixel ends that goes forth and back, (h,w)."""
    return np.linalg.norm(forth + moved(back, forth), axis=-1)


def trust(doubt: Array) -> Array:
    """Weights above 0, with no seam where they change."""
    return cv2.GaussianBlur(np.exp(-((doubt / AGREEMENT) ** 2)), (0, 0), 2) + 1e-3


def moved(picture: Array, flow: Array) -> Array:
    """What each pixel sees that looks ``flow`` (h,w,2) away in a picture (h,w) or (h,w,c)."""
    height, width = flow.shape[:2]
    across, down = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
    return cv2.remap(picture, across + flow[..., 0], down + flow[..., 1], cv2.INTER_LINEAR, None, cv2.BORDER_REPLICATE)
