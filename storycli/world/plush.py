"""Plush bodies for the heads of the storybook world, painted from shaded ellipsoids, limbs swinging."""

import math
from collections.abc import Sequence

import cv2
import numpy as np

from storycli.world.sprites import Sprite

PHASES = 12
FACE = 168  # width of a head, in units of the body canvas
BODY_WIDTH, BODY_HEIGHT = 216, 256
SWING = {"walk": 15.0, "run": 24.0}


def _ellipse(image, scale, centre, radii, colour, angle=0.0, shade=1.0) -> None:
    """Paint a shaded ellipsoid lit from the upper left, in units of the 216 x 256 body canvas."""
    (cx, cy), (rx, ry) = ((value[0] * scale, value[1] * scale) for value in (centre, radii))
    reach = max(rx, ry) + 2
    top, bottom = max(0, int(cy - reach)), min(image.shape[0], math.ceil(cy + reach))
    left, right = max(0, int(cx - reach)), min(image.shape[1], math.ceil(cx + reach))
    if top >= bottom or left >= right:
        return
    y = np.arange(top, bottom, dtype=np.float32)[:, None] + 0.5 - cy
    x = np.arange(left, right, dtype=np.float32)[None] + 0.5 - cx
    cosine, sine = math.cos(angle), math.sin(angle)
    u, v = (x * cosine + y * sine) / rx, (y * cosine - x * sine) / ry
    squared = u * u + v * v
    alpha = np.clip((1 - np.sqrt(squared)) * min(rx, ry) + 0.5, 0, 1)[..., None]
    towards = np.sqrt(np.clip(1 - squared, 0, 1))
    light = -0.35 * (u * cosine - v * sine) - 0.55 * (u * sine + v * cosine) + 0.75 * towards
    colour = np.clip(np.asarray(colour, np.float32) * (shade * (0.64 + 0.44 * np.clip(light, 0, 1)))[..., None], 0, 255)
    _over(image[top:bottom, left:right], np.concatenate([colour * alpha, alpha * 255], 2))


def _over(below: np.ndarray, above: np.ndarray) -> None:
    """Premultiplied RGBA over premultiplied RGBA, in place."""
    below *= 1 - above[..., 3:] / 255
    below += above


def _paste_head(image, scale, head, width, left, bottom, tilt) -> None:
    factor = width * scale / head.shape[1]
    height = head.shape[0] * factor
    matrix = cv2.getRotationMatrix2D((head.shape[1] / 2, head.shape[0] * 0.9), math.degrees(tilt), factor)
    matrix[0, 2] += left * scale + width * scale / 2 - head.shape[1] / 2
    matrix[1, 2] += bottom * scale - height * 0.1 - head.shape[0] * 0.9
    straight = head.astype(np.float32)
    straight[..., :3] *= straight[..., 3:] / 255
    if factor < 1:
        straight = cv2.GaussianBlur(straight, (0, 0), max(0.01, 0.42 * math.sqrt(1 / factor**2 - 1)))
    _over(image, cv2.warpAffine(straight, matrix, image.shape[1::-1], flags=cv2.INTER_LINEAR))


def _limbs(pose: str, phase: float) -> tuple[list, list]:
    """Legs and arms of one phase: (centre, radii, angle) each, in units of the body canvas."""
    swing, lift = math.sin(phase), math.cos(phase)
    if pose == "sit":
        legs = [((78, 232), (25, 19), 0.25), ((138, 232), (25, 19), -0.25)]
        arms = [((64, 192), (13, 25), 0.45), ((152, 192), (13, 25), -0.45)]
    elif pose in SWING:
        stride = SWING[pose]
        raise_left, raise_right = 13 * max(0.0, lift), 13 * max(0.0, -lift)
        legs = [
            ((91 + stride * swing, 230 - raise_left), (18, 23), -0.3 * swing),
            ((125 - stride * swing, 230 - raise_right), (18, 23), 0.3 * swing),
        ]
        arms = [
            ((64 - 0.5 * stride * swing, 186), (13, 27), 0.5 + 0.6 * swing),
            ((152 - 0.5 * stride * swing, 186), (13, 27), -0.5 + 0.6 * swing),
        ]
    else:
        step = 8 * swing if pose == "dance" else 0.0
        legs = [((90, 231 - max(0, step)), (18, 22), 0.0), ((126, 231 + min(0, step)), (18, 22), 0.0)]
        raised = {"dance": 16 * swing, "fly": -4.0}.get(pose)
        if pose == "hold":
            arms = [((74, 192), (13, 24), -0.7), ((142, 192), (13, 24), 0.7)]
        elif raised is not None:
            arms = [((56, 172 - raised), (13, 27), -1.0), ((160, 172 + raised), (13, 27), 1.0)]
        else:
            arms = [((66, 187), (13, 26), 0.4), ((150, 187), (13, 26), -0.4)]
    return legs, arms


def plush(head: np.ndarray, colours: Sequence[tuple[int, int, int]], pose: str, bust: bool, limit: int) -> Sprite:
    """A head (or a head-and-shoulders emoji) on a plush body, turned a little to the right when it moves.

    ``colours``: body, limbs, belly. ``pose``: idle, walk, run, dance, sit, hold or fly.
    """
    scale = min(limit * 1.02, 440) / BODY_HEIGHT
    turn = 7 if pose in SWING else 0
    pictures = []
    for index in range(1 if pose in ("idle", "hold") else PHASES):
        phase = 2 * math.pi * index / PHASES
        image = np.zeros((round(BODY_HEIGHT * scale), round(BODY_WIDTH * scale), 4), np.float32)
        bob = {"walk": 3, "run": 4}.get(pose, 0) * abs(math.cos(phase)) + (
            2 * math.sin(phase) if pose == "dance" else 0
        )
        legs, arms = _limbs(pose, phase)
        for centre, radii, angle in legs:
            _ellipse(image, scale, centre, radii, colours[1], angle, 0.95)
        far, near = (((x, y + bob), radii, angle) for (x, y), radii, angle in arms)
        if not bust:
            _ellipse(image, scale, far[0], far[1], colours[0], far[2], 0.9)
        _ellipse(image, scale, (108, 192 + bob), (42, 44), colours[0])
        if not bust:
            _ellipse(image, scale, (108 + turn, 200 + bob), (25, 28), colours[2])
            _ellipse(image, scale, near[0], near[1], colours[0], near[2], 0.97)
        tilt = -0.05 * math.sin(phase) if pose in ("walk", "run", "dance") else 0.0
        width = FACE * (head.shape[1] / max(head.shape[:2]))
        bottom = (212 if bust else 171) + bob
        if bust:
            width *= 1.16
        _paste_head(image, scale, head, width, 108 - width / 2 + turn, bottom, tilt)
        if bust:
            _ellipse(image, scale, (108 + turn / 2, 207 + bob), (54, 27), colours[0])
        pictures.append(np.clip(_straight(image), 0, 255).astype(np.uint8))
    return Sprite.from_pictures(_crop_together(pictures), limit)


def _crop_together(pictures: list[np.ndarray]) -> list[np.ndarray]:
    visible = np.max([picture[..., 3] for picture in pictures], 0) > 20
    top = np.where(visible.any(1))[0][0]
    columns = np.where(visible.any(0))[0]
    half = max(visible.shape[1] / 2 - columns[0], columns[-1] + 1 - visible.shape[1] / 2)
    left = max(0, int(visible.shape[1] / 2 - half))
    return [np.ascontiguousarray(p[top:, left : p.shape[1] - left]) for p in pictures]


def _straight(image: np.ndarray) -> np.ndarray:
    alpha = np.maximum(image[..., 3:], 1e-3) / 255
    return np.concatenate([np.minimum(image[..., :3] / alpha, 255), image[..., 3:]], 2)


def matching_colours(head: np.ndarray) -> tuple[tuple[float, ...], ...]:
    """Body, limbs and belly in the mean colour of the lower cheeks of a head: as it is, darker, and lighter."""
    part = head[int(head.shape[0] * 0.55) : int(head.shape[0] * 0.95)]
    mean = part[part[..., 3] > 200][:, :3].mean(0)
    return tuple(mean), tuple(0.82 * mean), tuple(0.5 * mean + 127)
