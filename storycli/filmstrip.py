"""Strips of frames to look at, and frames between frames."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from storycli.ffmpeg import replacing
from storycli.video import pick_indices

PAPER, INK = (250, 249, 246), (40, 40, 44)
GAP = 6  # pixels
LABEL = 16  # pixels, the height of a label's letters


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


def interpolate(frames: np.ndarray, factor: int) -> np.ndarray:
    """Return uint8 frames (f, h, w, 3) with ``factor`` - 1 new ones between each two.

    The given frames stay as they are, so there are (f - 1) * factor + 1. Every new frame is both neighbours
    moved towards each other along the optical flow between them and blended. Source of the flow: Kroeger et
    al., "Fast Optical Flow using Dense Inverse Search", ECCV 2016 (OpenCV's DISOpticalFlow).
    """
    if factor < 1:
        raise ValueError("factor is at least 1")
    flow = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    greys = [cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in frames]
    made = [frames[0]]
    for k in range(len(frames) - 1 if factor > 1 else 0):
        ahead, back = flow.calc(greys[k], greys[k + 1], None), flow.calc(greys[k + 1], greys[k], None)
        for share in np.arange(1, factor, dtype=np.float32) / factor:
            earlier = _moved(frames[k], back, share).astype(np.float32)
            later = _moved(frames[k + 1], ahead, 1 - share).astype(np.float32)
            made.append(np.rint(earlier * (1 - share) + later * share).astype(np.uint8))
        made.append(frames[k + 1])
    return np.stack(made) if factor > 1 else frames.copy()


def _moved(frame: np.ndarray, flow: np.ndarray, share: np.float32) -> np.ndarray:
    """Fetch each pixel from ``share`` of its flow away: where it was, or will be, in ``frame``."""
    height, width = flow.shape[:2]
    x, y = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
    source = x + share * flow[..., 0], y + share * flow[..., 1]
    return cv2.remap(frame, *source, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


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
