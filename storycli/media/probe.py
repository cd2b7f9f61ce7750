"""What a video file says of itself: sizes as seen, frames and their times, and whether it is whole.

PyAV reads every packet but decodes only one frame, so an hour of video takes about a second.
"""

import contextlib
import functools
import math
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np

from storycli.errors import StoryError
from storycli.media import shards
from storycli.media.ffmpeg import LOCAL_ONLY, argument

# What a library of clips may hold: no playlists, image sequences or scripts, which name further files.
CONTAINERS = frozenset({"mov", "matroska", "avi", "mpeg", "mpegts", "flv", "ogg", "asf", "gif", "h264", "hevc"})
MISSING_SECONDS = 0.5  # less at the end of a file is rounding, more is a file that was cut off
CLOCK_ROUNDING = 0.0021  # seconds between frames that differ by less are the same: some files count in 1/1000 s
REPLACE_HINT = "replace the file, or leave it out"


@dataclass(frozen=True, kw_only=True, slots=True)
class VideoInfo:
    """What a viewer sees: sizes are after rotation and with square pixels."""

    width: int
    height: int
    fps: float  # the average, where the rate varies
    num_frames: int
    duration: float  # seconds
    rotation: int  # degrees counterclockwise that the file asks players to turn it: 0, 90, 180 or 270
    variable_rate: bool
    has_audio: bool
    codec: str
    pixel_format: str


class Stored(NamedTuple):
    """A frame as the file stores it; moments are in the unit of the file, which may only guess them."""

    begins: int | None
    lasts: int
    clock: bool  # whether the file says when the frame is shown, or only when to decode it
    hidden: bool  # by an edit list
    key: bool  # decodable without others


@dataclass(frozen=True, slots=True)
class Scan:
    """A whole file read once without decoding it."""

    info: VideoInfo
    times: np.ndarray  # (f,) seconds at which each frame appears, from 0
    origin: int | None  # the first of them as the file counts; None when it has no clock
    longest_group: float  # seconds from a key frame to the next, at most; infinite where frames are stored out of order
    seekable: bool  # by decord: not MPEG streams, hidden frames of an edit list, or members of a shard


def scan(path: Path) -> Scan:
    """Read a video's packets. Raises StoryError with the reason unless a whole moving picture is in it."""
    try:
        found = shards.state(path)
    except FileNotFoundError as error:
        raise StoryError(f"{path} does not exist") from error
    except OSError as error:
        raise StoryError(f"{path} cannot be read: {error.strerror}") from error
    if not stat.S_ISREG(found.st_mode):
        raise StoryError(f"{path} is {'a folder' if path.is_dir() else 'not a file'}, not a video")
    if not os.access(path, os.R_OK) and not shards.is_member(path):
        raise StoryError(f"{path} cannot be read: it is another user's")
    if not found.st_size:
        raise StoryError(f"{path} is empty")
    return _scan_once(path.absolute(), found.st_size, found.st_mtime_ns)


@functools.lru_cache(maxsize=16)  # an hour of video takes a second, and its shots are read one by one
def _scan_once(path: Path, size: int, modified: int) -> Scan:
    try:
        with opened(path) as container:
            stream = moving_picture(path, container)
            stream.thread_type = "NONE"  # for a single frame, threads cost more than they save
            frame = next(container.decode(stream))
        with opened(path) as container:
            return _described(path, container, frame)
    except UnicodeEncodeError as error:
        raise StoryError(f"{str(path)!a} has a name that is not text", "rename it") from error
    except (av.FFmpegError, StopIteration) as error:
        raise StoryError(f"{path} {_why_not(path, error)}", REPLACE_HINT) from error


@contextlib.contextmanager
def opened(path: Path) -> Iterator[av.container.InputContainer]:
    """Open a local file, which may not refer to anything but local files, or a member of a shard."""
    with contextlib.ExitStack() as stack:
        file = stack.enter_context(shards.opened(path)) if shards.is_member(path) else argument(path)
        options = {"protocol_whitelist": LOCAL_ONLY}
        yield stack.enter_context(av.open(file, options=options, metadata_errors="replace"))


def moving_picture(path: Path, container: av.container.InputContainer) -> av.VideoStream:
    """Return the first video stream that is not the cover of an album."""
    covers = av.stream.Disposition.attached_pic
    pictures = [stream for stream in container.streams.video if not stream.disposition & covers]
    if not pictures and container.streams.audio:
        raise StoryError(f"{path} has sound but no moving picture")
    if not pictures or not CONTAINERS.intersection(container.format.name.split(",")):
        raise StoryError(f"{path} is not a video but {container.format.long_name or container.format.name}")
    return pictures[0]


def _described(path: Path, container: av.container.InputContainer, frame: av.VideoFrame) -> Scan:
    """Read all packets; ``frame`` is the first one, decoded."""
    stream = moving_picture(path, container)
    stored = _stored(path, container, stream)
    begins, origin, duration = _frame_times(stored, stream)
    gaps = np.diff(begins)
    variable = len(gaps) > 1 and float(np.ptp(gaps)) > max(CLOCK_ROUNDING, 0.05 * float(np.median(gaps)))
    rotation = round(frame.rotation / 90) * 90 % 360
    width, height = round(frame.width * float(stream.sample_aspect_ratio or 1)), frame.height
    info = VideoInfo(
        width=height if rotation % 180 else width,
        height=width if rotation % 180 else height,
        fps=len(begins) / duration if variable else float(_nominal_rate(stream)),
        num_frames=len(begins),
        duration=duration,
        rotation=rotation,
        variable_rate=variable,
        has_audio=bool(container.streams.audio),
        codec=stream.codec_context.name,
        pixel_format=frame.format.name,
    )
    streaming = container.format.name in ("mpeg", "mpegts")
    hidden = any(frame.hidden for frame in stored)
    seekable = not (hidden or streaming or shards.is_member(path))
    return Scan(info, begins, origin, _longest_group(stored, begins, duration), seekable)


def _stored(path: Path, container: av.container.InputContainer, stream: av.VideoStream) -> list[Stored]:
    """Read the frames' packets in the order of the file. Raises StoryError when the file is cut off."""
    stored, last_second = [], 0.0
    for packet in container.demux():
        begins = packet.dts if packet.pts is None else packet.pts
        lasts = packet.duration or 0
        if packet.size and begins is not None:
            last_second = max(last_second, float((begins + lasts) * packet.time_base))
        if packet.size and packet.stream_index == stream.index:
            stored.append(Stored(begins, lasts, packet.pts is not None, packet.is_discard, packet.is_keyframe))
    _check_complete(path, container, stream, len(stored), last_second)
    return stored


def _frame_times(stored: list[Stored], stream: av.VideoStream) -> tuple[np.ndarray, int | None, float]:
    """Return when each frame that is shown appears, the first moment as the file counts, and how long all last."""
    shown = [frame for frame in stored if not frame.hidden]
    frame_time = float(1 / _nominal_rate(stream))
    if any(frame.begins is None for frame in shown):  # a raw stream has no clock
        return np.arange(len(shown)) * frame_time, None, len(shown) * frame_time
    shown.sort()
    times = np.array([float((frame.begins - shown[0].begins) * stream.time_base) for frame in shown])
    last_frame = float(shown[-1].lasts * stream.time_base) or frame_time
    clock = all(frame.clock for frame in stored)
    return times, shown[0].begins if clock else None, float(times[-1]) + last_frame


def _longest_group(stored: list[Stored], times: np.ndarray, duration: float) -> float:
    """Return the most seconds from a key frame to the next, or infinity where frames are stored out of order."""
    begins = [frame.begins for frame in stored]
    keys = [frame.key for frame in stored]
    in_order = all(frame.clock and not frame.hidden for frame in stored) and begins == sorted(begins)
    return float(np.diff([*times[keys], duration]).max()) if in_order and keys[0] else math.inf


def _nominal_rate(stream: av.VideoStream) -> Fraction:
    return stream.average_rate or stream.guessed_rate or Fraction(25)


def _check_complete(
    path: Path,
    container: av.container.InputContainer,
    stream: av.VideoStream,
    num_packets: int,
    last_second: float,
) -> None:
    if num_packets < stream.frames and container.format.name != "avi":  # which counts frames that it leaves out
        raise StoryError(f"{path} is cut off: {num_packets} of {stream.frames} frames are there", REPLACE_HINT)
    promised = (container.duration or 0) / av.time_base + max(0, container.start_time or 0) / av.time_base
    if last_second < promised - MISSING_SECONDS:
        there = f"{last_second:.1f} of {promised:.1f} seconds are there"
        raise StoryError(f"{path} is cut off: {there}", REPLACE_HINT)


def _why_not(path: Path, error: Exception) -> str:
    with shards.opened(path) as file:
        if file.read(8)[4:] == b"ftyp":
            return "begins like an mp4 but is cut off or damaged"
    if isinstance(error, StopIteration):
        return "has no picture that can be decoded"
    return f"is not a video, or it is damaged ({getattr(error, 'strerror', None) or error})"
