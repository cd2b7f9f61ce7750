"""Sprites of the storybook world: decoded emoji, and pasting them with depth.

The pictures are Microsoft's Fluent 3D emoji (MIT), taken from the npm package ``PACKAGE``.
"""

import math
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from storycli.errors import StoryError

PACKAGE, VERSION = "@lobehub/fluent-emoji-3d", "1.1.0"  # other drawings would make other pictures of a seed
_CACHE = "storybook-sprites.npz"


def fetch_assets(folder: Path) -> Path:
    """Install the emoji package with npm as a new ``folder``, whole or not at all (needed for training only)."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    command = ["npm", "install", "--no-audit", "--no-fund", "--ignore-scripts", f"{PACKAGE}@{VERSION}", "--prefix"]
    try:
        with tempfile.TemporaryDirectory(dir=folder.parent) as empty:
            partial = Path(empty) / folder.name
            subprocess.run([*command, partial], check=True, stdin=subprocess.DEVNULL, capture_output=True, text=True)
            return partial.replace(folder)
    except FileNotFoundError as error:
        raise StoryError("npm is not installed", "Install Node.js, or unpack the package yourself.") from error
    except subprocess.CalledProcessError as error:
        raise StoryError(
            f"npm could not fetch the emoji: {error.stderr.strip()[-300:]}", "Check the network."
        ) from error


def assets_in(folder: Path, given: Path | None) -> Path:
    """``given``, or else ``folder``/assets; the emoji are fetched when it is not there."""
    assets = given or folder / "assets"
    return assets if assets.exists() else fetch_assets(assets)


class Emoji:
    """Reads emoji by code point from ``folder`` and keeps the decoded ones in one .npz beside them."""

    def __init__(self, folder: Path):
        self._folder = Path(folder)
        self._cache = self._folder / _CACHE
        self._decoded: dict[str, np.ndarray] = {}
        if self._cache.exists():
            with np.load(self._cache, allow_pickle=False) as stored:
                self._decoded = {key: stored[key] for key in stored.files}

    def read(self, code: str) -> np.ndarray:
        """Straight-alpha RGBA (height, width, 4) uint8, cropped to what is visible."""
        if code not in self._decoded:
            with Image.open(self._path(code)) as image:
                self._decoded[code] = visible(np.array(image.convert("RGBA")))
        return self._decoded[code]

    def save(self, codes: Sequence[str]) -> Path:
        """Write the decoded form of ``codes``; a world then needs this one file only."""
        arrays = {code: self.read(code) for code in codes}
        partial = self._cache.with_name(f"partial-{_CACHE}")
        np.savez_compressed(partial, **arrays)
        return partial.replace(self._cache)

    def _paths(self, code: str) -> list[Path]:
        folder = self._folder / "node_modules" / PACKAGE / "assets"
        return [folder / f"{name}.webp" for name in (code, f"{code}-fe0f")]

    def _path(self, code: str) -> Path:
        for path in self._paths(code):
            if path.exists():
                return path
        raise StoryError(
            f"emoji {code} is not in {self._folder}", "Fetch them: storycli.world.generator.fetch_assets(new_folder)."
        )


@dataclass(frozen=True, slots=True)
class Sprite:
    """Animation phases, each a pyramid of (premultiplied RGBA uint8, bulge uint8), largest first."""

    phases: tuple[tuple[tuple[np.ndarray, np.ndarray], ...], ...]
    height: int
    width: int

    @classmethod
    def from_pictures(cls, pictures: Sequence[np.ndarray], limit: int) -> "Sprite":
        """``pictures``: RGBA (h, w, 4) of one size; ``limit``: the tallest this sprite is ever drawn, in pixels."""
        ratio = min(1.0, limit / pictures[0].shape[0])
        phases = tuple(_pyramid(picture, ratio) for picture in pictures)
        height, width = phases[0][0][0].shape[:2]
        return cls(phases, height, width)


def visible(picture: np.ndarray) -> np.ndarray:
    rows, columns = np.where(picture[..., 3] > 20)
    return np.ascontiguousarray(picture[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1])


def cropped(picture: np.ndarray, part: tuple[float, float, float, float]) -> np.ndarray:
    """The part (left, top, right, bottom) of a picture, in shares of it; round below when it cuts off a neck."""
    height, width = picture.shape[:2]
    left, top, right, bottom = part
    cut = picture[round(top * height) : round(bottom * height), round(left * width) : round(right * width)].copy()
    if bottom < 1:
        y = np.linspace(-1, 1, cut.shape[0])[:, None].clip(0)
        x = np.linspace(-1, 1, cut.shape[1])[None]
        cut[..., 3] = np.where(np.abs(x) ** 2.4 + y**2.4 <= 1, cut[..., 3], 0)
    return cut


def _pyramid(picture: np.ndarray, ratio: float) -> tuple[tuple[np.ndarray, np.ndarray], ...]:
    straight = picture.astype(np.float32)
    alpha = straight[..., 3:] / 255
    colour = np.concatenate([straight[..., :3] * alpha, straight[..., 3:]], 2)
    relief = bulge(picture[..., 3])
    if ratio < 1:
        size = (max(2, round(picture.shape[1] * ratio)), max(2, round(picture.shape[0] * ratio)))
        colour = cv2.resize(colour, size, interpolation=cv2.INTER_AREA)
        relief = cv2.resize(relief, size, interpolation=cv2.INTER_AREA)
    levels = []
    while True:
        levels.append(((colour + 0.5).astype(np.uint8), (relief * 255 + 0.5).astype(np.uint8)))
        height, width = colour.shape[:2]
        if min(height, width) < 16:
            return tuple(levels)
        colour = cv2.resize(colour, (width // 2, height // 2), interpolation=cv2.INTER_AREA)
        relief = cv2.resize(relief, (width // 2, height // 2), interpolation=cv2.INTER_AREA)


def bulge(alpha: np.ndarray) -> np.ndarray:
    """How far a plush shape with this outline comes forward: a quarter circle over its rim, (h, w) in [0, 1]."""
    solid = np.pad((alpha > 127).astype(np.uint8), 1)
    distance = cv2.distanceTransform(solid, cv2.DIST_L2, 3)[1:-1, 1:-1]
    radius = max(2.0, 0.24 * min(alpha.shape))
    rim = np.clip(distance / radius, 0, 1)
    return cv2.GaussianBlur(np.sqrt(rim * (2 - rim)), (0, 0), max(0.6, 0.012 * min(alpha.shape)))


# ---- pasting -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Canvas:
    """What is painted on: premultiplied colour (h, w, 3 or 4), depth (h, w) in [0, 1], mask (h, w); float32."""

    colour: np.ndarray
    depth: np.ndarray
    mask: np.ndarray | None = None


@dataclass(frozen=True, slots=True)
class View:
    """From units of the 128 canvas to pixels: pixel = scale * unit + offset."""

    scale: float
    dx: float = 0.0
    dy: float = 0.0


def paste(
    canvas: Canvas,
    view: View,
    sprite: Sprite,
    x: float,
    y: float,
    height: float,
    *,
    near: float,
    relief: float,
    phase: int = 0,
    rotation: float = 0.0,
    stretch: tuple[float, float] = (1.0, 1.0),
    flip: bool = False,
    tone: float = 1.0,
    centred: bool = False,
    foreground: float = 0.0,
) -> None:
    """Paste ``sprite`` with its foot (or its centre) at (x, y), ``height`` units tall, at depth ``near`` + bulge."""
    pixels = height * view.scale
    levels = sprite.phases[phase % len(sprite.phases)]
    level = 0
    while level + 1 < len(levels) and levels[level][0].shape[0] > 1.5 * pixels:
        level += 1
    picture, raised = levels[level]
    rows, columns = picture.shape[:2]
    ratio = pixels / rows
    across, down = ratio * stretch[0] * (-1 if flip else 1), ratio * stretch[1]
    cosine, sine = math.cos(rotation), math.sin(rotation)
    linear = np.array([[cosine * across, -sine * down], [sine * across, cosine * down]])
    anchor = np.array([columns / 2, rows / 2 if centred else rows])
    target = np.array([view.scale * x + view.dx, view.scale * y + view.dy])
    corners = (np.array([[0, 0], [columns, 0], [0, rows], [columns, rows]]) - anchor) @ linear.T + target
    left, top = np.maximum(np.floor(corners.min(0)).astype(int) - 1, 0)
    right, bottom = np.minimum(np.ceil(corners.max(0)).astype(int) + 1, canvas.depth.shape[::-1])
    if right - left < 2 or bottom - top < 2:
        return
    # cv2 puts pixel centres at whole numbers, so shift by half a pixel on both sides.
    offset = target - linear @ (anchor - 0.5) - (left + 0.5, top + 0.5)
    matrix = np.column_stack([linear, offset])
    size = (int(right - left), int(bottom - top))
    warped = cv2.warpAffine(picture, matrix, size, flags=cv2.INTER_LINEAR).astype(np.float32)
    forward = cv2.warpAffine(raised, matrix, size, flags=cv2.INTER_LINEAR)
    region = (slice(top, bottom), slice(left, right))
    alpha = warped[..., 3] * (1 / 255)
    if tone != 1:
        warped[..., :3] *= tone
    clear = 1 - alpha
    colour = canvas.colour[region]
    colour *= clear[..., None]
    colour += warped[..., : colour.shape[2]]
    depth = canvas.depth[region]
    depth *= clear
    depth += alpha * (near + relief / 255 * forward)
    if canvas.mask is not None:
        mask = canvas.mask[region]
        mask *= clear
        mask += alpha * foreground


def shadow(canvas: Canvas, view: View, x: float, y: float, width: float, strength: float) -> None:
    """Darken the ground softly under something ``width`` units wide that stands at (x, y)."""
    cx, cy, rx = view.scale * x + view.dx, view.scale * y + view.dy, view.scale * width / 2
    ry = 0.26 * rx
    top, bottom = max(0, int(cy - ry)), min(canvas.depth.shape[0], math.ceil(cy + ry))
    left, right = max(0, int(cx - rx)), min(canvas.depth.shape[1], math.ceil(cx + rx))
    if top >= bottom or left >= right:
        return
    v = (np.arange(top, bottom, dtype=np.float32)[:, None] + 0.5 - cy) / ry
    u = (np.arange(left, right, dtype=np.float32)[None] + 0.5 - cx) / rx
    canvas.colour[top:bottom, left:right] *= 1 - strength * np.clip(1 - u * u - v * v, 0, 1)[..., None]
