"""Shots: a video cut where the picture changes, and how things move in each part.

Every frame is looked at once, small. PySceneDetect says where the cuts are; the change from frame to frame, measured
against how much detail there is to change, says how far things move, and the shift of the whole picture how the
camera does.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scenedetect import FrameTimecode
from scenedetect.detectors import AdaptiveDetector

from storycli import video
from storycli.errors import StoryError

LOOK = (64, 48)  # width and height at which a frame is looked at
AT_ONCE = 512  # frames in memory
SHORTEST = 0.4  # seconds; what is shorter is a flash between two cuts
LONGEST = 10.0  # seconds; a longer shot is taken apart, so that a query finds the moment and not the hour


@dataclass(frozen=True, kw_only=True, slots=True)
class Span:
    """A part of a video without a cut: frames [start, end)."""

    start: int
    end: int
    motion: float  # how far things move in a second, in picture widths
    shake: float  # how far the camera jerks in a second, in picture widths


def find_shots(path: Path, info: video.VideoInfo) -> list[Span]:
    """The shots of a video, those over 10 seconds in equal parts; at least one.

    Raises StoryError when the file is damaged or has a single frame, in which nothing moves.
    """
    if info.num_frames < 2:
        raise StoryError(f"{path} has a single frame: nothing moves in it")
    detector = AdaptiveDetector(min_scene_len=max(2, round(SHORTEST * info.fps)))
    cuts: list[int] = []
    moves = []
    for at, frames in looks(path, info.num_frames):
        for i in range(at == 0, len(frames)):  # the first frame of a later part was the last of the part before
            found = detector.process_frame(FrameTimecode(at + i, info.fps), frames[i, ..., ::-1])
            cuts += [cut.frame_num for cut in found]
        moves.append(movement(frames))
    motion, shift = (np.concatenate(part) for part in zip(*moves, strict=True))
    scale = info.fps / LOOK[0]
    return [
        Span(
            start=start,
            end=end,
            motion=float(motion[start : end - 1].mean() * scale),
            shake=float(jerk(shift[start : end - 1]) * scale),
        )
        for start, end in parts(info.num_frames, cuts, info.fps)
    ]


def looks(path: Path, num_frames: int) -> Iterator[tuple[int, np.ndarray]]:
    """(index of the first, small frames uint8 (f, h, w, 3)); each part begins with the last frame of the one before."""
    for start in range(0, num_frames - 1, AT_ONCE):
        end = min(num_frames, start + AT_ONCE + 1)
        yield start, video.read(path, start=start, end=end, size=LOOK)


def movement(frames: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """From each frame to the next: how far things move (f - 1,) and how the whole picture shifts (f - 1, 2), in pixels.

    A change of one grey level on a slope of one level a pixel is a movement of one pixel. The shift is the one that
    explains the change of the whole picture best (Lucas and Kanade 1981).
    """
    grey = frames.mean(-1, dtype=np.float32)
    down, right = np.gradient(grey, axis=(1, 2))
    change = np.diff(grey, axis=0)
    motion = np.abs(change).mean((1, 2)) / (np.hypot(down, right)[1:].mean((1, 2)) + 1)
    slopes = np.stack([right[1:], down[1:]])
    normal = np.einsum("afhw,bfhw->fab", slopes, slopes) + np.eye(2)
    shift = np.linalg.solve(normal, -np.einsum("afhw,fhw->fa", slopes, change)[..., None])[..., 0]
    return motion, shift


def jerk(shift: np.ndarray) -> float:
    """The mean change of the camera's movement; a steady pan has none."""
    return float(np.linalg.norm(np.diff(shift, axis=0), axis=1).mean()) if len(shift) > 1 else 0.0


def parts(num_frames: int, cuts: list[int], fps: float) -> list[tuple[int, int]]:
    """Frames [0, num_frames) cut at ``cuts``: no flashes (unless there is nothing else), long shots in equal parts."""
    edges = [0, *cuts, num_frames]
    shots = list(zip(edges, edges[1:], strict=False))
    shots = [(a, b) for a, b in shots if b - a >= max(2, SHORTEST * fps)] or [
        max(shots, key=lambda shot: shot[1] - shot[0])
    ]
    pieces = []
    for start, end in shots:
        count = int(np.ceil((end - start) / fps / LONGEST))
        inner = np.linspace(start, end, max(1, count) + 1).astype(int).tolist()
        pieces += zip(inner, inner[1:], strict=False)
    return pieces


def look(frames: np.ndarray) -> int:
    """64 bits that say what a shot looks like on the whole: where its mean picture, 9 x 8 fields large, grows brighter.

    Two shots that differ in few bits look the same, however they are encoded (the "difference hash").
    """
    mean = frames.mean((0, 3))
    rows, columns = (np.linspace(0, side, n + 1).astype(int) for side, n in zip(mean.shape, (8, 9), strict=True))
    fields = [
        [mean[a : max(b, a + 1), c : max(d, c + 1)].mean() for c, d in zip(columns, columns[1:], strict=False)]
        for a, b in zip(rows, rows[1:], strict=False)
    ]
    bits = np.packbits(np.diff(fields, axis=1) > 0)
    return int.from_bytes(bits.tobytes(), "big", signed=True)
