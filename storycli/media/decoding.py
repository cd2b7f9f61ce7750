"""How frames come out of a file: some of them by seeking, or all of them in their order."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
from av.video.reformatter import VideoReformatter

from storycli.errors import StoryError
from storycli.media.ffmpeg import argument
from storycli.media.probe import REPLACE_HINT, Scan, moving_picture, opened, scan

MISSING_FRAMES = 0.1  # the share of broken frames that a decoder may paper over
SKIPPING = frozenset({"h264", "hevc"})  # codecs in which frames that no other one needs can be left out
PLANES = frozenset({"yuv420p", "yuvj420p", "yuv422p", "yuvj422p", "yuv444p", "yuvj444p"})  # of one byte a sample
SAME_MOMENT = 1e-3  # seconds


class Undecodable(Exception):
    """A decoder gave up; the reader says where."""


@dataclass(frozen=True, slots=True)
class Picture:
    """A decoded frame before it is made pixels: one that is only glanced at costs next to nothing."""

    index: int
    frame: av.VideoFrame
    converter: VideoReformatter

    def pixels(self, size: tuple[int, int]) -> np.ndarray:
        """uint8 RGB (h, w, 3) of the whole picture as a viewer sees it, at ``size`` (width, height)."""
        return upright(self.frame, size, self.converter)

    def glance(self, size: tuple[int, int]) -> np.ndarray:
        """uint8 Y Cr Cb (h, w, 3) of the whole picture at a small ``size``, each field from a few of its pixels."""
        import cv2

        turns = round(self.frame.rotation / 90)
        lying = size[::-1] if turns % 2 else size
        frame = self.frame
        if frame.format.name not in PLANES:
            width, height = (min(have, 4 * want) for have, want in zip((frame.width, frame.height), lying, strict=True))
            frame = self.converter.reformat(frame, width, height, "yuv420p", interpolation="POINT")
        channels = [cv2.resize(thin(plane, lying), lying, interpolation=cv2.INTER_AREA) for plane in frame.planes]
        return np.rot90(np.dstack([channels[k] for k in (0, 2, 1)]), turns)


def thin(plane: av.video.plane.VideoPlane, size: tuple[int, int]) -> np.ndarray:
    """A plane without the rows and columns that a picture of ``size`` can do without."""
    rows = np.frombuffer(plane, np.uint8).reshape(plane.height, plane.line_size)[:, : plane.width]
    return rows[:: max(1, plane.height // (3 * size[1])), :: max(1, plane.width // (3 * size[0]))]


def upright(frame: av.VideoFrame, size: tuple[int, int], converter: VideoReformatter) -> np.ndarray:
    turns = round(frame.rotation / 90)
    width, height = size[::-1] if turns % 2 else size
    picture = converter.reformat(frame, width, height, "rgb24", interpolation="BICUBIC")
    return np.rot90(picture.to_ndarray(), turns)


def walk(path: Path, a_second: float) -> Iterator[Picture]:
    """About ``a_second`` frames a second of a video from its beginning to its end; one frame is in memory at a time.

    All frames of a video that has no more than that. Of others, those that no frame is predicted from are not even
    decoded where the codec tells them apart, so the distances vary a little. Raises StoryError when more than a tenth
    of what was decoded is broken.
    """
    found = scan(path)
    step = max(1, round(found.info.fps / a_second))
    converter, due, seen, broken = VideoReformatter(), 0, 0, 0
    for index, frame in _decoded(path, found, skipping=step > 1):
        seen += 1
        if frame is None or frame.is_corrupt:
            broken += 1
        elif index >= due:
            due = index + step
            yield Picture(index, frame, converter)
    if broken > MISSING_FRAMES * seen or not seen:
        raise StoryError(f"{path} is damaged: {broken} of {seen} frames cannot be decoded", REPLACE_HINT)


def _decoded(path: Path, found: Scan, *, skipping: bool) -> Iterator[tuple[int, av.VideoFrame | None]]:
    """(number, frame) in order; None for what cannot be decoded."""
    last = -1
    try:
        with opened(path) as container:
            stream = moving_picture(path, container)
            stream.thread_type = "NONE"  # others decode beside
            if skipping and found.origin is not None and found.info.codec in SKIPPING:
                stream.codec_context.skip_frame = "NONREF"
            for packet in container.demux(stream):
                try:
                    frames = packet.decode()
                except av.FFmpegError:
                    yield last, None
                    continue
                for frame in frames:
                    number = _number(frame, found, last)
                    if last < number < found.info.num_frames:
                        last = number
                        yield number, frame
    except av.FFmpegError as error:
        raise StoryError(f"{path} is damaged after frame {max(0, last)}", REPLACE_HINT) from error


def _number(frame: av.VideoFrame, found: Scan, last: int) -> int:
    """Which frame of the video this is, by its time where the file has a clock."""
    if found.origin is None or frame.pts is None:
        return last + 1
    seconds = float((frame.pts - found.origin) * frame.time_base)
    number = int(np.searchsorted(found.times, seconds - SAME_MOMENT))
    return number if number < len(found.times) and abs(found.times[number] - seconds) < SAME_MOMENT else -1


def picked(path: Path, found: Scan, indices: list[int], size: tuple[int, int]) -> Iterator[np.ndarray]:
    """The frames of increasing ``indices`` at ``size``. Raises Undecodable, or PyAV's errors, where it cannot go on."""
    return (_seeking if found.seekable else _in_order)(path, indices, size)


def _seeking(path: Path, indices: list[int], size: tuple[int, int]) -> Iterator[np.ndarray]:
    # A second and hundreds of megabytes, which those who only write need not spend; and torch before decord: loaded the
    # other way round it finds a BLAS (libnvblas) that dies at the first matrix product on machines without a GPU.
    import torch  # noqa: F401  # isort: skip
    import decord

    decord.logging.set_level(decord.logging.QUIET)
    width, height = size
    try:
        reader = decord.VideoReader(argument(path), width=width, height=height, fault_tol=MISSING_FRAMES)
        for index in indices:
            frame = reader[index].asnumpy()
            # decord takes padding at the end of a row for channels, in rows of a multiple of the width
            yield frame.reshape(height, -1)[:, : width * 3].reshape(height, width, 3)
    except (decord.DECORDError, decord.DECORDLimitReachedError, RuntimeError, StopIteration) as error:
        raise Undecodable from error


def _in_order(path: Path, indices: list[int], size: tuple[int, int]) -> Iterator[np.ndarray]:
    converter = VideoReformatter()
    with opened(path) as container:
        frames = enumerate(container.decode(moving_picture(path, container)))
        for wanted in indices:
            frame = next((frame for number, frame in frames if number == wanted), None)
            if frame is None:
                raise Undecodable
            yield upright(frame, size, converter)
