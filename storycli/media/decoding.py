"""How frames come out of a file: some of them by seeking, or those that tell its shots, in their order."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import chain, islice, pairwise
from pathlib import Path

import av
import numpy as np
from av.video.reformatter import VideoReformatter

from storycli.errors import StoryError
from storycli.media.ffmpeg import argument
from storycli.media.probe import REPLACE_HINT, Scan, moving_picture, opened, scan

MISSING_FRAMES = 0.1  # the share of broken frames that a decoder may paper over
SKIPPING = frozenset({"h264", "hevc", "libdav1d"})  # codecs in which frames that no other one needs can be left out
DENSE = 2.0  # seconds from key frame to key frame, at most, as phones write them
BEGINNING = 3  # pictures, the fewest that show how movement changes
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


Alike = Callable[[Picture, Picture], bool]


def thin(plane: av.video.plane.VideoPlane, size: tuple[int, int]) -> np.ndarray:
    """A plane without the rows and columns that a picture of ``size`` can do without."""
    rows = np.frombuffer(plane, np.uint8).reshape(plane.height, plane.line_size)[:, : plane.width]
    return rows[:: max(1, plane.height // (3 * size[1])), :: max(1, plane.width // (3 * size[0]))]


def upright(frame: av.VideoFrame, size: tuple[int, int], converter: VideoReformatter) -> np.ndarray:
    turns = round(frame.rotation / 90)
    width, height = size[::-1] if turns % 2 else size
    picture = converter.reformat(frame, width, height, "rgb24", interpolation="BICUBIC")
    return np.rot90(picture.to_ndarray(), turns)


def walk(path: Path, a_second: float, alike: Alike | None = None) -> Iterator[Picture]:
    """About ``a_second`` frames a second of a video from its beginning to its end; a few are in memory at a time.

    All frames of a video that has no more than that. Of others, those that no frame is predicted from are not even
    decoded where the codec tells them apart, so the distances vary a little. Where key frames are dense, one and two
    frames more stand for all up to the next key frame if ``alike`` says that the last of them shows what that one does
    and no frame in between is hard to predict. Raises StoryError when more than a tenth of what was decoded is broken.
    """
    found = scan(path)
    step = max(1, round(found.info.fps / a_second))
    due, seen, broken = 0, 0, 0
    try:
        for picture in _decoded(path, found, step, alike):
            seen += 1
            if picture is None or picture.frame.is_corrupt:
                broken += 1
            elif picture.index >= due:
                due = picture.index + step
                yield picture
    except av.FFmpegError as error:
        raise StoryError(f"{path} is damaged after frame {max(0, due - step)}", REPLACE_HINT) from error
    if broken > MISSING_FRAMES * seen or not seen:
        raise StoryError(f"{path} is damaged: {broken} of {seen} frames cannot be decoded", REPLACE_HINT)


def _decoded(path: Path, found: Scan, step: int, alike: Alike | None) -> Iterator[Picture | None]:
    """What a walk needs of which it takes each ``step``-th frame; None for what cannot be decoded."""
    with opened(path) as container:
        stream = moving_picture(path, container)
        stream.thread_type = "NONE"  # others decode beside
        in_groups = alike and step > 1 and found.longest_group <= DENSE
        # Edges that are not smoothed do not show in small pictures. But what is predicted from them grows worse from
        # frame to frame until the next key frame; nothing much is predicted from bidirectional frames.
        stream.codec_context.options = {"skip_loop_filter": "all" if in_groups else "bidir"}
        if step > 1 and not in_groups and found.origin is not None and found.info.codec in SKIPPING:
            stream.codec_context.skip_frame = "NONREF"
        decoder, packets = Decoder(stream, found), container.demux(stream)
        yield from decoder.by_group(packets, step, alike) if in_groups else decoder.pictures(packets)


@dataclass(frozen=True, slots=True)
class Decoder:
    """Packets become pictures."""

    stream: av.VideoStream
    found: Scan
    converter: VideoReformatter = field(default_factory=VideoReformatter)

    def pictures(self, packets: Iterable[av.Packet | None]) -> Iterator[Picture | None]:
        """The frames in packets, the first of which is a key frame; None for what cannot be decoded."""
        last = -1
        self.stream.codec_context.flush_buffers()
        for packet in packets:
            try:
                frames = self.stream.codec_context.decode(packet)
            except av.FFmpegError:
                yield None
                continue
            for frame in frames:
                number = self.number(frame, last)
                if last < number < self.found.info.num_frames:
                    last = number
                    yield Picture(number, frame, self.converter)

    def number(self, frame: av.VideoFrame, last: int) -> int:
        """Which frame of the video this is, by its time where the file has a clock; -1 for a hidden one."""
        if self.found.origin is None or frame.pts is None:
            return last + 1
        times = self.found.times
        seconds = float((frame.pts - self.found.origin) * self.stream.time_base)
        number = int(np.searchsorted(times, seconds - SAME_MOMENT))
        return number if number < len(times) and abs(times[number] - seconds) < SAME_MOMENT else -1

    def by_group(self, packets: Iterator[av.Packet], step: int, alike: Alike) -> Iterator[Picture | None]:
        """How each key frame goes on, and then all up to the next one where there may be a cut in between."""
        begun = ((group, self.beginning(group, step)) for group in groups(packets))
        for (group, pictures), following in pairwise(chain(begun, [None])):
            yield from pictures
            left_out = len(group) > fewest(step)
            if left_out and (following is None or may_cut(group, pictures, following[1], alike)):
                yield from self.pictures([*group, None])

    def beginning(self, group: list[av.Packet], step: int) -> list[Picture | None]:
        few = group[: fewest(step)]
        return list(islice(self.pictures([*few, None]), 0, None, step))


def fewest(step: int) -> int:
    """How many frames of a group are decoded in any case."""
    return (BEGINNING - 1) * step + 1


def groups(packets: Iterator[av.Packet]) -> Iterator[list[av.Packet]]:
    """Each key frame with the frames that follow it."""
    group: list[av.Packet] = []
    for packet in packets:
        if packet.is_keyframe and group:
            yield group
            group = []
        if packet.size:
            group.append(packet)
    yield group


def may_cut(
    group: list[av.Packet], pictures: list[Picture | None], following: list[Picture | None], alike: Alike
) -> bool:
    """Whether there may be a cut between the ``pictures`` that a group begins with and those of the next one.

    A frame that shows something new takes about as much to store as a key frame, and others a third of that: so it
    is noticed even if the old comes back before the next key frame.
    """
    new = 2 * max((packet.size for packet in group[1:]), default=0) > group[0].size
    across = [*pictures[-1:], *following[:1]]
    return new or len(across) < 2 or None in across or not alike(*across)


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
