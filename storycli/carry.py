"""A figure keeps its face: whoever stands in front is drawn once, and carried along through the clip.

Frames are denoised together, yet a small model draws a moving face a little otherwise in each of them. The guide's
depth tells how a figure moves, so one frame lends the others its drawing, moved and bent to where the figure is by
then, as key frames are propagated in video stylisation (Jamriška et al. 2019, Yang et al. 2023): the frame that agrees
best with the others and, of a hero that is known by its pictures, has most of its face.
Where depth says that something else is there, limbs that cross or what comes into view, frames keep their own.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch

from models.confined import standing_apart
from storycli.depth import foreground
from storycli.faces import resemblances
from storycli.inbetween import moved

Array = np.ndarray
SMOOTH = 0.08  # of the picture's height, over which a figure moves as one
TOLERANCE = 0.2  # of depth, by which what is carried may differ from what is there
SEAM = 0.012  # of the picture's height, over which the carried and the own go into each other
FAR = -1.0  # depth of what is not in front
MISSING = 20.0  # grey levels: how wrong a place counts that nothing is carried to
FACE = 20.0  # grey levels: how much a whole face outweighs


@dataclass(frozen=True, kw_only=True, slots=True)
class Key:
    """A frame that lends its drawing: where each pixel of each frame finds it, and how far to believe that."""

    number: int
    paths: Array  # (f,h,w,2), steps across and down
    shares: Array  # (f,h,w) in [0, 1]
    wrong: Array  # (f,h,w), how far it is from what each frame shows itself, grey levels


def carried(frames: Array, depth: Array, heroes: Sequence[Sequence[Array]] = ()) -> Array:
    """Frames uint8 (f,H,W,3) -> the same with what is in front drawn alike; depth (f,h,w) in [0, 1] guided them.

    ``heroes`` are the heads of each hero in its pictures (``faces.heads``), from left to right as they stand. Each is
    lent its drawing by a frame of its own.
    """
    height, width = depth.shape[1:]
    in_front = foreground(depth)
    if len(frames) == 1 or not in_front.any():
        return frames
    onward, back = steps(depth, in_front)
    small = [cv2.resize(frame, (width, height), interpolation=cv2.INTER_AREA) for frame in frames]
    seen = np.concatenate([np.float32(small), np.where(in_front, depth, FAR)[..., None]], axis=-1)
    drawn = frames
    for heads, own in zip(heroes or [()], apart(depth, len(heroes)), strict=True):
        figure = in_front & own
        if figure.any():
            keys = (lend(number, seen, onward, back) for number in range(len(frames)))  # large: two at a time
            faces = resemblances(small, figure, heads)
            best = max(keys, key=lambda key: worth(key, figure, faces[key.number]))
            drawn = laid_over(drawn, frames[best.number], best, own)
    return drawn


def apart(depth: Array, heroes: int) -> Array:
    """Whose place it is, bool (heroes,f,h,w), where several stand side by side; all of it is one's or nobody's."""
    if heroes < 2:
        return np.ones((1, *depth.shape), bool)
    return standing_apart(torch.from_numpy(depth)[None, None], heroes, depth.shape[1:]).numpy() > 0.5


def worth(key: Key, figure: Array, face: float) -> float:
    """How good a frame that has so much of a face is to lend its drawing of a figure, bool (f,h,w), to the others."""
    return FACE * face - float(key.wrong[figure].mean())


def laid_over(frames: Array, lender: Array, key: Key, own: Array) -> Array:
    """Frames uint8 (f,H,W,3) where the drawing of the lender (H,W,3), one of them, is carried to a place (f,h,w)."""
    height, width = own.shape[1:]
    size, grown = frames.shape[2:0:-1], np.float32([frames.shape[2] / width, frames.shape[1] / height])
    drawn = []
    for frame, path, share in zip(frames, key.paths, key.shares * own, strict=True):
        soft = cv2.resize(cv2.GaussianBlur(share, (0, 0), SEAM * height), size)[..., None]
        lent = moved(lender, cv2.resize(path, size) * grown)
        drawn.append((soft * lent + (1 - soft) * frame + 0.5).astype(np.uint8))
    return np.stack(drawn)


def steps(depth: Array, in_front: Array) -> tuple[list[Array], list[Array]]:
    """How what is in front moves from each frame to the next, and back: (h,w,2) each, in pixels of the depth.

    By dense inverse search (Kroeger et al. 2016) on depth, averaged over ``SMOOTH`` of what is in front (f,h,w).
    """
    search = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    levels = (depth * 255).clip(0, 255).astype(np.uint8)
    reach = SMOOTH * depth.shape[1]

    def step(here: int, there: int) -> Array:
        weight = in_front[here] + np.float32(1e-3)
        flow = search.calc(levels[here], levels[there], None) * weight[..., None]
        return cv2.GaussianBlur(flow, (0, 0), reach) / cv2.GaussianBlur(weight, (0, 0), reach)[..., None]

    pairs = range(len(depth) - 1)
    return [step(i, i + 1) for i in pairs], [step(i + 1, i) for i in pairs]


def lend(number: int, seen: Array, onward: list[Array], back: list[Array]) -> Key:
    """What a frame has to lend to the others, by ``steps`` between neighbours joined to paths.

    ``seen`` is (f,h,w,4): the colours of each frame in grey levels, and the depth of what is in front, or ``FAR``.
    """
    paths = np.zeros((*seen.shape[:3], 2), np.float32)
    for i in reversed(range(number)):
        paths[i] = onward[i] + moved(paths[i + 1], onward[i])
    for i in range(number + 1, len(seen)):
        paths[i] = back[i - 1] + moved(paths[i - 1], back[i - 1])
    difference = np.abs(np.stack([moved(seen[number], path) for path in paths]) - seen)
    in_front = seen[..., 3] > FAR
    shares = np.exp(-((difference[..., 3] / TOLERANCE) ** 2)) * in_front
    wrong = shares * difference[..., :3].mean(-1) + (1 - shares) * MISSING
    return Key(number=number, paths=paths, shares=shares, wrong=wrong)
