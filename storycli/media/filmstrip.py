"""Strips of frames to look at, and frames between frames."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from storycli.errors import UsageError
from storycli.media.ffmpeg import replacing
from storycli.media.video import pick_indices

PAPER, INK = (250, 249, 246), (40, 40, 44)
SUFFIXES = {".png", ".jpg", ".jpeg", ".webp"}
GAP = 6  # pixels
LABEL = 16  # pixels, the height of a label's letters


def check_name(path: Path | None) -> None:
    """Raises UsageError for a sheet that could not be saved under that name."""
    if path is not None and path.suffix.lower() not in SUFFIXES:
        raise UsageError(f"{path}: a sheet is a picture", f"name it so: {path.stem or 'sheet'}.png, or .jpg")


def sheet(
    rows: Mapping[str, Sequence[np.ndarray] | np.ndarray],
    path: Path | str,
    *,
    columns: int = 8,
    height: int = 128,
) -> None:
    """Save rows of frames as one picture, a label over each; PNG or JPEG by the name of ``path``, atomic.

    A row is uint8 RGB frames (f, h, w, 3) of any size; of more than ``columns`` frames, as many evenly spread
    ones are shown. An empty label takes no room.
    """
    if not rows or not all(len(frames) for frames in rows.values()):
        raise ValueError("every row of a sheet has at least one frame")
    strips = [(label, _strip(frames, columns, height)) for label, frames in rows.items()]
    heads = [LABEL + GAP if label else 0 for label, _ in strips]
    width = max(strip.shape[1] for _, strip in strips) + 2 * GAP
    page = Image.new("RGB", (width, sum(heads) + len(strips) * (height + GAP) + GAP), PAPER)
    draw, font = ImageDraw.Draw(page), ImageFont.load_default(LABEL - 3)
    top = GAP
    for (label, strip), head in zip(strips, heads, strict=True):
        if label:
            draw.text((GAP, top), _shortened(label, width - 2 * GAP, draw, font), fill=INK, font=font)
        page.paste(Image.fromarray(strip), (GAP, top + head))
        top += head + height + GAP
    path = Path(path)
    with replacing(path) as temporary:
        page.save(temporary, quality=90) if path.suffix.lower() in (".jpg", ".jpeg") else page.save(temporary)


def _strip(frames: Sequence[np.ndarray] | np.ndarray, columns: int, height: int) -> np.ndarray:
    shown = [frames[i] for i in pick_indices(len(frames), 1, min(columns, len(frames)))]
    gap = np.full((height, GAP, 3), PAPER, np.uint8)
    parts = []
    for frame in shown:
        size = (max(1, round(frame.shape[1] * height / frame.shape[0])), height)
        shrinks = frame.shape[0] > height
        resized = cv2.resize(frame, size, interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC)
        parts += [resized, gap]
    return np.concatenate(parts[:-1], axis=1)


def _shortened(label: str, width: int, draw: ImageDraw.ImageDraw, font: ImageFont.ImageFont) -> str:
    line = " ".join(label.split())
    while draw.textlength(line, font=font) > width and len(line) > 4:
        line = line[:-4] + "..."
    return line
