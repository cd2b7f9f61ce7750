"""Shots: a video cut where the picture changes, and how things move in each part.

The frames pass by in their order, where key frames are dense not all of them, and what a shot is told by is kept: small
looks at it, and a few whole frames spread over it. PySceneDetect says where the cuts are; the change from look to look,
measured against how much detail there is to change, says how far things move, and the shift of the whole picture how
the camera does.
"""

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
from einops import rearrange
from scenedetect import FrameTimecode
from scenedetect.detectors import AdaptiveDetector

from storycli.errors import StoryError
from storycli.media.decoding import Picture, walk
from storycli.media.probe import Scan, VideoInfo, scan

LOOKS = 12.0  # a second
WIDTH = 64  # pixels of a look
NARROW, WIDE = 0.25, 4.0  # beyond these proportions a look is squeezed
SHORTEST = 0.4  # seconds; what is shorter is a flash between two cuts
LONGEST = 10.0  # seconds; a longer shot is taken apart, so that a query finds the moment and not the hour
KEPT = 16  # whole frames of a shot that are in memory, at most
THUMBNAIL = 72  # pixels, the shorter side


@dataclass(frozen=True, kw_only=True, slots=True)
class Span:
    """A part of a video without a cut: frames [start, end)."""

    start: int
    end: int
    seconds: float
    motion: float  # how far things move in a second, in picture widths
    shake: float  # how far the camera jerks in a second, in picture widths


@dataclass(frozen=True, slots=True)
class Shot:
    """A span, and whole frames spread over it: all of a short one, up to 16 of a long one."""

    span: Span
    pictures: tuple[Picture, ...]

    def nearest(self, indices: Sequence[int]) -> list[Picture]:
        """The kept frames nearest to some frames of the video.

        A sixteenth of the shot from them at most, or a second where key frames are dense and little changes.
        """
        return [min(self.pictures, key=lambda kept: abs(kept.index - index)) for index in indices]


@dataclass(slots=True)
class Reel:
    """A shot while its frames go by."""

    start: int
    end: int = 0
    indices: list[int] = field(default_factory=list)
    looks: list[np.ndarray] = field(default_factory=list)  # grey
    kept: list[Picture] = field(default_factory=list)
    apart: int = 1  # frames from one kept frame to the next, at least

    def add(self, picture: Picture, look: np.ndarray) -> None:
        """Takes the next frame in. When too many are kept, those are dropped that lie close to the one before."""
        self.kept = spread([*self.kept, picture], self.apart)
        while len(self.kept) > KEPT:
            self.apart *= 2
            self.kept = spread(self.kept, self.apart)
        self.indices.append(picture.index)
        self.looks.append(look)
        self.end = picture.index + 1

    def shot(self, found: Scan) -> Shot:
        """What is told of the shot when it is over."""
        seconds = np.diff(found.times[self.indices])
        motion, shift = movement(np.stack(self.looks))
        near = neighbours(self.indices)
        span = Span(
            start=self.start,
            end=self.end,
            seconds=lasts(found, self.start, self.end),
            motion=float(motion[near].sum() / seconds[near].sum() / WIDTH) if near.any() else 0.0,
            shake=jerk(shift / seconds[:, None] / WIDTH, near),
        )
        return Shot(span, tuple(self.kept))


def spread(pictures: list[Picture], apart: int) -> list[Picture]:
    """The pictures without those that lie less than ``apart`` frames after the one kept before."""
    kept: list[Picture] = []
    for picture in pictures:
        if not kept or picture.index - kept[-1].index >= apart:
            kept.append(picture)
    return kept


def find_shots(path: Path) -> Iterator[Shot]:
    """The shots of a video as they go by; one of over 10 seconds comes in parts.

    Shots of less than 0.4 seconds are left out, unless there is nothing else. A frame that lies between two looks with
    a cut between them is of neither shot. Raises StoryError when the file is damaged or has a single frame, in which
    nothing moves.
    """
    found = scan(path)
    if found.info.num_frames < 2:
        raise StoryError(f"{path} has a single frame: nothing moves in it")
    long_enough, flash = 0, None
    for reel in reels(path, found):
        if reel.end - reel.start > 1 and lasts(found, reel.start, reel.end) >= SHORTEST:
            long_enough += 1
            yield reel.shot(found)
        elif flash is None or reel.end - reel.start > flash.end - flash.start:
            flash = reel
    if not long_enough and flash:
        yield flash.shot(found)


def reels(path: Path, found: Scan) -> Iterator[Reel]:
    """A video taken apart at its cuts, and where a shot becomes too long."""
    reel = Reel(0)
    for picture, look, cut in seen(path, found.info):
        too_long = found.times[picture.index] - found.times[reel.start] >= LONGEST
        if reel.looks and (cut or too_long):
            start = picture.index if cut else int(np.searchsorted(found.times, found.times[reel.start] + LONGEST))
            reel.end = reel.end if cut else start
            yield reel
            reel = Reel(start)
        reel.add(picture, look)
    reel.end = found.info.num_frames
    yield reel


def seen(path: Path, info: VideoInfo) -> Iterator[tuple[Picture, np.ndarray, bool]]:
    """Frames, a grey look (h, w) at each, and whether a shot begins with it."""
    detector = AdaptiveDetector(min_scene_len=2)
    size = WIDTH, round(WIDTH / np.clip(info.width / info.height, NARROW, WIDE))
    undecided: deque[tuple[Picture, np.ndarray]] = deque()
    cuts: set[int] = set()

    def alike(a: Picture, b: Picture) -> bool:
        """Whether the detector would see no cut from one to the other, whatever comes before and after."""
        hues = (cv2.cvtColor(coloured(each.glance(size)), cv2.COLOR_BGR2HSV) for each in (a, b))
        return cv2.absdiff(*hues).mean() < detector.min_content_val

    for picture in walk(path, LOOKS, alike):
        look = picture.glance(size)
        undecided.append((picture, look[..., 0]))
        found = detector.process_frame(FrameTimecode(picture.index, info.fps), coloured(look))
        cuts.update(cut.frame_num for cut in found)
        if len(undecided) > detector.event_buffer_length:
            picture, look = undecided.popleft()
            yield picture, look, picture.index in cuts
    yield from ((picture, look, picture.index in cuts) for picture, look in undecided)


def coloured(look: np.ndarray) -> np.ndarray:
    """A look as PySceneDetect wants it, uint8 BGR (h, w, 3)."""
    return cv2.cvtColor(look, cv2.COLOR_YCrCb2BGR)


def lasts(found: Scan, start: int, end: int) -> float:
    """Seconds for which frames [start, end) are on screen."""
    return float((found.times[end] if end < len(found.times) else found.info.duration) - found.times[start])


def movement(looks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """From each grey look (f, h, w) to the next: how far things move (f - 1,) and all shifts (f - 1, 2), in pixels.

    A change of one grey level on a slope of one level a pixel is a movement of one pixel. The shift is the one that
    explains the change of the whole picture best (Lucas and Kanade 1981).
    """
    grey = looks.astype(np.float32)
    flat = len(looks) - 1, looks[0].size
    down, right = (slope.reshape(flat) for slope in np.gradient(grey[1:], axis=(1, 2)))
    change = np.diff(grey, axis=0).reshape(flat)
    motion = np.abs(change).mean(1) / (np.sqrt(down * down + right * right).mean(1) + 1)

    def product(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return np.einsum("fn,fn->f", a, b)

    across = product(right, down)
    normal = np.array([[product(right, right) + 1, across], [across, product(down, down) + 1]])
    wanted = np.array([product(right, change), product(down, change)])
    shift = np.linalg.solve(rearrange(normal, "a b f -> f a b"), -rearrange(wanted, "a f -> f a 1"))
    return motion, shift[..., 0]


def neighbours(indices: list[int]) -> np.ndarray:
    """From which looks to the next (f - 1,) movement can be measured: no frames were passed over there."""
    gaps = np.diff(indices)
    return gaps <= 2 * np.median(gaps) if len(gaps) else gaps.astype(bool)


def jerk(velocity: np.ndarray, near: np.ndarray) -> float:
    """The mean change of the camera's movement (f, 2), where it is ``near`` (f,); a steady pan has none."""
    changes = np.linalg.norm(np.diff(velocity, axis=0), axis=1)[near[1:] & near[:-1]]
    return float(changes.mean()) if len(changes) else 0.0


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


def thumbnail(frame: np.ndarray) -> bytes:
    """A small JPEG of a frame uint8 RGB (h, w, 3)."""
    scale = THUMBNAIL / min(frame.shape[:2])
    width, height = (max(1, round(side * scale)) for side in (frame.shape[1], frame.shape[0]))
    small = cv2.resize(frame, (width, height), interpolation=cv2.INTER_AREA)
    return cv2.imencode(".jpg", small[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 70])[1].tobytes()
