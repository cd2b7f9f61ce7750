"""A guide with one figure for a plot with several heroes: each gets that figure's motion, and a place of its own.

Heroes of one clip stand side by side, each on a figure of the guide. Most clips show one figure; its depth is then cut
out, made smaller until all have room, and shown once for each hero, every other time the other way round.
"""

import cv2
import numpy as np

from storycli.depth import behind, foreground

Array = np.ndarray
COUNTS = 0.3  # of the largest figure's area is a figure, too
ROOM = 0.9  # of a hero's share of the width, which a figure may fill: small faces are drawn badly
EDGE = 3  # pixels of a figure's soft outline


def in_company(depth: Array, heroes: int) -> Array:
    """Depth (f,h,w) in [0, 1] with a figure for each hero; as it is where it shows so many already, or none."""
    if heroes < 2:
        return depth
    found = [figures(frame) for frame in depth]
    if not 0 < np.median([len(these) for these in found]) < heroes:
        return depth
    nobody = np.zeros(depth.shape[1:], np.uint8)
    soft = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * EDGE + 1, 2 * EDGE + 1))
    scenery = [without(frame, cv2.dilate(sum(these, nobody), soft)) for frame, these in zip(depth, found, strict=True)]
    masks = np.stack([these[0] if these else nobody for these in found])
    drawn = [
        np.max([empty, *(placed(frame, mask, where) for where in wheres)], axis=0)
        for frame, mask, empty, wheres in zip(depth, masks, scenery, places(masks, heroes), strict=True)
    ]
    return np.stack(drawn)


def figures(depth: Array) -> list[Array]:
    """What stands in front in one frame (h,w), as masks uint8 (h,w) of parts that do not touch, the largest first.

    Scenery close behind a figure is nearer than the rest of its row, too, but not half as near as the figure is.
    """
    in_front = foreground(depth)
    if not in_front.any():
        return []
    solid = in_front & (depth > (behind(depth) + np.quantile(depth[in_front], 0.75)) / 2)
    mask = cv2.morphologyEx(np.uint8(solid), cv2.MORPH_OPEN, np.ones((5, 5), np.uint8))
    _, parts, stats, _ = cv2.connectedComponentsWithStats(mask)
    areas = stats[1:, cv2.CC_STAT_AREA]
    return [np.uint8(parts == 1 + i) for i in np.argsort(-areas) if areas[i] >= COUNTS * areas.max()]


def without(frame: Array, mask: Array) -> Array:
    """Depth (h,w) as if nothing were under a mask (h,w): along its row, where the ground is equally far, it goes over
    from what is on one side to what is on the other.
    """
    hidden, filled = mask > 0, frame.copy()
    for row, gone in zip(filled, hidden, strict=True):
        bridge(row, gone)
    rows = hidden.all(axis=1)
    for column in filled.T:
        bridge(column, rows)
    return np.where(hidden, cv2.GaussianBlur(filled, (0, 0), EDGE), frame)


def bridge(line: Array, gone: Array) -> None:
    """Put straight lines between what is left where values are ``gone``; where nothing is left, nothing is done."""
    if not gone.all():
        line[gone] = np.interp(np.flatnonzero(gone), np.flatnonzero(~gone), line[~gone])


def places(masks: Array, heroes: int) -> list[list[Array]]:
    """For each frame of masks (f,h,w) the affine maps (2,3) that bring its figure to the place of each hero.

    Figures keep on their ground, and go to and fro in the proportion of a hero's share to the whole width.
    """
    width = masks.shape[-1]
    shown = [np.nonzero(mask) for mask in masks if mask.any()]
    foot = np.mean([down.max() for down, _ in shown])
    scale = min(1.0, ROOM * width / heroes / max(np.ptp(across) + 1 for _, across in shown))
    middles = [np.nonzero(mask)[1].mean() if mask.any() else width / 2 for mask in masks]
    maps = []
    for middle in middles:
        aside = (middle - np.mean(middles)) / heroes
        homes = (np.arange(heroes) + 0.5) * width / heroes + aside
        turned = scale * (-1.0) ** np.arange(heroes)
        maps.append([np.float32([[a, 0, to - a * middle], [0, scale, foot - scale * foot]])
                     for a, to in zip(turned, homes, strict=True)])  # fmt: skip
    return maps


def placed(frame: Array, mask: Array, where: Array) -> Array:
    """What a frame of depth (h,w) shows under a mask, brought elsewhere; 0 around it."""
    size = frame.shape[::-1]
    return cv2.warpAffine(np.float32(frame), where, size) * (cv2.warpAffine(np.float32(mask), where, size) > 0.5)
