"""Video files and uint8 frames: probe, read, write.

Frames are RGB uint8 arrays (f, h, w, 3). decord decodes, ffmpeg encodes. Every file is a local one, and
whatever is wrong with it comes out as a StoryError that names it.
"""

import itertools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Literal

import av
import ffmpeg
import numpy as np

from storycli.errors import StoryError
from storycli.media.decoding import Undecodable, picked
from storycli.media.ffmpeg import LOCAL_ONLY, REPRODUCIBLE, argument, replacing, run
from storycli.media.probe import REPLACE_HINT, Scan, VideoInfo, scan

MAX_BYTES = 4 * 2**30  # of decoded frames in one answer


def probe(path: Path | str) -> VideoInfo:
    """Return what there is to know of a video: its packets are counted, one frame is decoded.

    Raises StoryError with the reason when the file is missing, empty, unreadable, cut off, or has no moving
    picture.
    """
    return scan(Path(path)).info


def pick_indices(
    num_frames_available: int,
    fps_available: float,
    wanted_frames: int | None = None,
    wanted_fps: float | None = None,
) -> list[int]:
    """Choose frames of a clip.

    With ``wanted_fps``, frame k is the one on screen at second k / wanted_fps; past its end the clip runs
    backwards, then forwards again (ping-pong), so motion never jumps. Without, ``wanted_frames`` are the
    middles of as many equal parts of the clip. With neither, all.
    """
    if num_frames_available < 1:
        raise ValueError("a clip has at least one frame")
    if wanted_fps is None:
        wanted = num_frames_available if wanted_frames is None else wanted_frames
        return [(2 * k + 1) * num_frames_available // (2 * wanted) for k in range(wanted)]
    step = Fraction(fps_available).limit_denominator(10**4) / Fraction(wanted_fps).limit_denominator(10**4)
    if wanted_frames is None:
        wanted_frames = max(1, round(num_frames_available / step))
        return [min(int(k * step), num_frames_available - 1) for k in range(wanted_frames)]
    period = max(1, 2 * (num_frames_available - 1))
    phases = (int(k * step) % period for k in range(wanted_frames))
    return [min(phase, period - phase) if num_frames_available > 1 else 0 for phase in phases]


def middle(start: int, end: int, fps: float, seconds: float) -> int:
    """The first frame of the ``seconds`` in the middle of the frames [``start``, ``end``) of a video."""
    return start + max(0, end - start - math.ceil(seconds * fps)) // 2


def read_middle(
    path: Path | str, num_frames: int, fps: float, size: tuple[int, int], *, start: int = 0, end: int | None = None
) -> np.ndarray:
    """``num_frames`` frames at ``fps`` from the middle of a video, or of a part of it, as ``read`` gives them."""
    info = probe(path)
    first = middle(start, info.num_frames if end is None else end, info.fps, num_frames / fps)
    return read(path, start=first, end=end, num_frames=num_frames, fps=fps, size=size)


def read(
    path: Path | str,
    *,
    indices: Sequence[int] | None = None,
    start: int = 0,
    end: int | None = None,
    num_frames: int | None = None,
    fps: float | None = None,
    size: tuple[int, int] | None = None,
    fit: Literal["crop", "pad"] = "crop",
) -> np.ndarray:
    """Return frames of a video as uint8 RGB (f, h, w, 3), decoded at ``size`` (width, height).

    Give ``indices`` of decoded frames, or a part [``start``, ``end``) of them to pick from with
    ``num_frames`` and ``fps`` as in ``pick_indices``; in a video of variable rate the picks are moments, not
    counts. ``fit`` says what happens where ``size`` has other proportions: the middle is cut out, or black
    bars are added.

    Raises StoryError when the video cannot be read, has no such frames, or the answer would not fit into
    memory.
    """
    path = Path(path)
    found = scan(path)
    if indices is None:
        indices = _picks(path, found, start, end, num_frames, fps)
    wrong = [i for i in indices if not 0 <= i < found.info.num_frames]
    if wrong or not len(indices):
        asked = f"frame {wrong[0]}" if wrong else "no frame"
        raise StoryError(f"{path} has {found.info.num_frames} frames; {asked} was asked for")
    size = size or (found.info.width, found.info.height)
    needed = len(indices) * size[0] * size[1] * 3
    if needed > MAX_BYTES:
        raise StoryError(
            f"{len(indices)} frames of {path} at {size[0]}x{size[1]} need {needed / 2**30:.0f} GiB of memory",
            "ask for fewer frames or a smaller size",
        )
    wanted, places = np.unique(np.asarray(indices, dtype=np.int64), return_inverse=True)
    frames = np.zeros((len(wanted), size[1], size[0], 3), np.uint8)
    decoded = _decode(path, found, wanted, _decode_size(found.info, size, fit))
    for target, frame in zip(frames, decoded, strict=True):
        _place(frame, target)
    return frames if np.array_equal(places, np.arange(len(wanted))) else frames[places]


def write(
    path: Path | str,
    frames: Iterable[np.ndarray],
    fps: float,
    *,
    crf: int = 16,
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Encode uint8 RGB frames (h, w, 3) one by one: H.264 4:2:0 at a constant rate in a streamable mp4.

    The same frames give the same bytes. Odd sizes gain one row or column, a copy of the last. The file
    appears complete or not at all: StoryError when the disk is full or ffmpeg dies.
    """
    path = Path(path)
    stream = iter(frames)
    first = next(stream, None)
    if first is None:
        raise ValueError("a video has at least one frame")
    height, width = first.shape[:2]
    picture = ffmpeg.input(
        "pipe:0",
        format="rawvideo",
        pixel_format="rgb24",
        video_size=(width + width % 2, height + height % 2),
        framerate=exact_rate(fps),
        protocol_whitelist=LOCAL_ONLY,
    )
    tags = {f"metadata:g:{k}": f"{key}={value}" for k, (key, value) in enumerate((metadata or {}).items())}
    with replacing(path) as temporary:
        output = as_yuv(picture).output(argument(temporary), format="mp4", **encoding(crf), **tags)
        run(
            output.compile()[1:],
            doing=f"write {path}",
            feed=(_raw(frame, (height, width, 3)) for frame in itertools.chain([first], stream)),
        )


def as_yuv(picture):
    """Convert a stream of ffmpeg-python to square pixels in HD colours, the same on every machine."""
    flags = "bicubic+accurate_rnd+full_chroma_int+bitexact"
    picture = picture.filter("scale", out_color_matrix="bt709", out_range="tv", flags=flags)
    return picture.filter("format", "yuv420p").filter("setsar", 1)


def encoding(crf: int) -> dict[str, str | int]:
    """Return ffmpeg's output options for every video made here: H.264 that plays everywhere, reproducibly.

    One thread and no B-frames: the bytes do not depend on the machine's cores, and clips can be joined
    without encoding them again.
    """
    codec = {"c:v": "libx264", "preset": "medium", "crf": crf, "bf": 0, "threads": 1, "fps_mode": "cfr"}
    colour = {"color_primaries": "bt709", "color_trc": "bt709", "colorspace": "bt709", "color_range": "tv"}
    return codec | colour | REPRODUCIBLE


def exact_rate(fps: float) -> str:
    """Return a frame rate as the fraction that ffmpeg reads."""
    return str(Fraction(fps).limit_denominator(10**4))


def _raw(frame: np.ndarray, shape: tuple[int, ...]) -> memoryview:
    if frame.dtype != np.uint8 or frame.shape != shape:
        raise ValueError(f"expected a uint8 frame of shape {shape}, not {frame.dtype} {frame.shape}")
    odd = [(0, shape[0] % 2), (0, shape[1] % 2), (0, 0)]
    return np.ascontiguousarray(np.pad(frame, odd, mode="edge")).data


def _picks(
    path: Path, found: Scan, start: int, end: int | None, num_frames: int | None, fps: float | None
) -> list[int]:
    end = found.info.num_frames if end is None else min(end, found.info.num_frames)
    if not 0 <= start < end:
        raise StoryError(f"{path} has {found.info.num_frames} frames; part {start} to {end} was asked for")
    if not found.info.variable_rate or (num_frames is None and fps is None):
        return [start + i for i in pick_indices(end - start, found.info.fps, num_frames, fps)]
    edges = np.append(found.times, found.info.duration)[start : end + 1] - found.times[start]
    rate = min(240.0, 1 / np.diff(edges).clip(1e-6).min())  # fine enough to hit every frame
    ticks = pick_indices(max(1, round(edges[-1] * rate)), rate, num_frames, fps)
    on_screen = np.searchsorted(edges[:-1], np.asarray(ticks) / rate + 1e-4, side="right") - 1
    return [start + int(i) for i in on_screen]


def _decode_size(info: VideoInfo, size: tuple[int, int], fit: str) -> tuple[int, int]:
    """The size at which the picture covers ``size`` (crop) or lies within it (pad), proportions kept."""
    scales = size[0] / info.width, size[1] / info.height
    scale = max(scales) if fit == "crop" else min(scales)
    return max(1, round(info.width * scale)), max(1, round(info.height * scale))


def _place(frame: np.ndarray, target: np.ndarray) -> None:
    """Copy the middle of ``frame`` to the middle of ``target``."""
    inside, outside = [], []
    for have, want in zip(frame.shape[:2], target.shape[:2], strict=True):
        common = min(have, want)
        inside.append(slice((have - common) // 2, (have - common) // 2 + common))
        outside.append(slice((want - common) // 2, (want - common) // 2 + common))
    target[tuple(outside)] = frame[tuple(inside)]


def _decode(path: Path, found: Scan, indices: np.ndarray, size: tuple[int, int]) -> Iterator[np.ndarray]:
    """Yield the frames of increasing ``indices``, scaled to ``size`` by the decoder."""
    done = 0
    try:
        for frame in picked(path, found, [int(index) for index in indices], size):
            yield frame
            done += 1
    except (Undecodable, av.FFmpegError) as error:
        raise StoryError(
            f"{path} is damaged: frame {indices[done]} of {found.info.num_frames} cannot be decoded",
            REPLACE_HINT,
        ) from error
