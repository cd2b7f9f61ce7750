"""Joining clips into a film: cuts or crossfades, a title, subtitles, sound, a frame of any proportions.

``timeline`` says when each clip is on screen, ``concat`` makes the film. Clips that are alike are joined as
they are, without encoding them again, as long as nothing is drawn over them.
"""

import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from math import ceil
from pathlib import Path
from typing import Any, Literal

import av
import ffmpeg

from storycli import provenance, subtitles
from storycli.media import sound
from storycli.media.ffmpeg import LOCAL_ONLY, REPRODUCIBLE, argument, has_option, replacing, run
from storycli.media.video import VideoInfo, as_yuv, encoding, exact_rate, probe
from storycli.subtitles import Caption

PAUSE = 0.2  # seconds of silence before and after what is said over a clip
SLOWEST = 2.0  # a clip is slowed down at most so much to last as long as its narration; then it stands still
TITLE_COLOUR = "0x14141c"
TITLE_FADE = 0.4  # seconds


@dataclass(frozen=True, kw_only=True, slots=True)
class FilmOptions:
    """How clips become a film."""

    transition: Literal["cut", "crossfade"] = "cut"
    transition_seconds: float = 0.5  # at most half of the shorter clip
    title: str = ""  # on a card before the first clip
    title_seconds: float = 2.5
    captions: tuple[Caption, ...] = ()
    subtitles: Literal["none", "soft", "burn", "srt"] = "none"  # srt: a file beside the film
    language: str = "und"  # of the captions, ISO 639-2
    narration: tuple[Path | None, ...] = ()  # a sound file per clip; the clip lasts as long
    music: Path | None = None
    aspect: Literal["clip", "1:1", "16:9", "9:16"] = "clip"
    background: Literal["blur", "black"] = "blur"  # beside clips of other proportions
    fps: float | None = None  # else that of the fastest clip
    crf: int = 16
    manifest: Mapping[str, Any] | None = field(default=None, repr=False)  # kept in the film


@dataclass(frozen=True, kw_only=True, slots=True)
class Piece:
    """A clip at its place in the film, counted in frames of the film."""

    path: Path
    info: VideoInfo
    start: int
    frames: int
    fade: int  # frames it shares with the piece before
    speech: Path | None


def timeline(paths: Sequence[Path | str], options: FilmOptions) -> list[tuple[float, float]]:
    """Return when each clip begins and ends in the film, in seconds: what captions are placed by.

    Raises StoryError when a clip or a narration cannot be read.
    """
    rate, pieces = _lay_out(paths, options)
    ends = [piece.start for piece in pieces[1:]] + [_length(pieces)]
    return [(float(piece.start / rate), float(end / rate)) for piece, end in zip(pieces, ends, strict=True)]


def concat(paths: Sequence[Path | str], out: Path | str, options: FilmOptions | None = None) -> None:
    """Join clips into the mp4 ``out``, which says in its metadata that it was generated.

    The sound of the clips themselves is not used. The film appears complete or not at all. Raises StoryError
    when a clip, a sound or a font is missing or broken, or when ffmpeg fails.
    """
    options, out = options or FilmOptions(), Path(out)
    if options.subtitles != "none" and not options.captions:
        raise ValueError("subtitles are made of captions")
    if options.music is not None:
        sound.seconds(options.music)  # says what is wrong with it before the work begins
    rate, pieces = _lay_out(paths, options)
    size = _canvas(pieces[0].info, options.aspect)
    with replacing(out) as temporary, tempfile.TemporaryDirectory(prefix="storycli-") as folder:
        work = Path(folder)
        if options.title:
            card = _title_card(work / "title.mp4", size, rate, options)
            pieces = [card, *pieces]
        picture, coding = _joined(pieces, size, rate, options, work)
        streams = [picture, *_sound(pieces, rate, options, work), *_soft_subtitles(options, work)]
        note = {"metadata:g:0": f"comment={provenance.NOTE}", "metadata:g:1": f"title={options.title}"}
        film = ffmpeg.output(*streams, argument(temporary), format="mp4", **coding, **_track_options(options), **note)
        subtitles.check_fonts(run(film.compile()[1:], doing=f"join {len(paths)} clips into {out}"))
        provenance.append(temporary, options.manifest, title=options.title)
        if options.subtitles == "srt":
            with replacing(out.with_suffix(".srt")) as beside:
                beside.write_text(subtitles.srt(options.captions), encoding="utf-8")


def _lay_out(paths: Sequence[Path | str], options: FilmOptions) -> tuple[Fraction, list[Piece]]:
    """Place every clip; the first begins after the title."""
    if not paths:
        raise ValueError("a film has at least one clip")
    narration = options.narration or (None,) * len(paths)
    if len(narration) != len(paths):
        raise ValueError(f"{len(narration)} narrations for {len(paths)} clips")
    infos = [probe(path) for path in paths]
    rate = Fraction(exact_rate(options.fps or max(info.fps for info in infos)))
    wish = round(options.transition_seconds * rate) if options.transition == "crossfade" else 0
    end = before = _title_frames(rate, options)
    pieces: list[Piece] = []
    for path, info, speech in zip(paths, infos, narration, strict=True):
        frames = max(1, round(info.duration * rate))
        if speech is not None:
            frames = max(frames, ceil((sound.seconds(speech) + 2 * PAUSE) * rate) + wish)
        fade = min(wish, before // 2, frames // 2)
        pieces.append(Piece(path=Path(path), info=info, start=end - fade, frames=frames, fade=fade, speech=speech))
        end, before = end - fade + frames, frames
    return rate, pieces


def _length(pieces: Sequence[Piece]) -> int:
    return pieces[-1].start + pieces[-1].frames


def _title_frames(rate: Fraction, options: FilmOptions) -> int:
    return max(1, round(options.title_seconds * rate)) if options.title else 0


def _canvas(info: VideoInfo, aspect: str) -> tuple[int, int]:
    """The smallest even size of the wanted proportions that holds a clip unscaled."""
    width, height = info.width, info.height
    if aspect != "clip":
        across, down = map(int, aspect.split(":"))
        width, height = max(width, ceil(height * across / down)), max(height, ceil(width * down / across))
    return width + width % 2, height + height % 2


def _joined(pieces: Sequence[Piece], size: tuple[int, int], rate: Fraction, options: FilmOptions, work: Path):
    """Return the film's picture and how to encode it."""
    burn = options.subtitles == "burn"
    if not burn and _alike(pieces, size, rate):
        return _copied(pieces, work), {"c:v": "copy", **REPRODUCIBLE}
    picture, *others = (_prepared(piece, size, rate, options.background) for piece in pieces)
    for piece, other in zip(pieces[1:], others, strict=True):
        if piece.fade:
            times = {"duration": float(piece.fade / rate), "offset": float(piece.start / rate)}
            picture = ffmpeg.filter([picture, other], "xfade", transition="fade", **times)
        else:
            picture = ffmpeg.concat(picture, other)
        picture = picture.filter("settb", 1 / rate)
    if burn:
        picture = _drawn(picture, subtitles.ass(options.captions, size), work / "captions.ass")
    picture = picture.filter("trim", end_frame=_length(pieces)).filter("format", "yuv420p")
    return picture, encoding(options.crf)


def _alike(pieces: Sequence[Piece], size: tuple[int, int], rate: Fraction) -> bool:
    """Whether the pieces follow each other as they are, in one H.264 stream."""
    (_, _, reordered), *others = {_header(piece.path) for piece in pieces}
    return not (reordered or others) and all(
        piece.info.codec == "h264"
        and (piece.info.width, piece.info.height) == size
        and Fraction(exact_rate(piece.info.fps)) == rate
        and piece.info.num_frames == piece.frames
        and not (piece.info.rotation or piece.info.variable_rate or piece.fade)
        for piece in pieces
    )


def _header(path: Path) -> tuple[bytes | None, Fraction | None, bool]:
    """What a decoder is told before the first frame, the unit of time, and whether frames are reordered."""
    with av.open(argument(path), options={"protocol_whitelist": LOCAL_ONLY}) as container:
        stream = container.streams.video[0]
        return stream.codec_context.extradata, stream.time_base, bool(stream.codec_context.has_b_frames)


def _copied(pieces: Sequence[Piece], work: Path):
    """Name the clips to ffmpeg's concat demuxer by links, as its list cannot hold every name."""
    names = [f"{number}.mp4" for number in range(len(pieces))]
    for name, piece in zip(names, pieces, strict=True):
        try:
            os.symlink(piece.path.absolute(), work / name)
        except OSError:  # a system without links
            shutil.copyfile(piece.path, work / name)
    (work / "clips.txt").write_text("".join(f"file {name}\n" for name in names), encoding="ascii")
    return ffmpeg.input(str(work / "clips.txt"), format="concat", protocol_whitelist=LOCAL_ONLY).video


def _prepared(piece: Piece, size: tuple[int, int], rate: Fraction, background: str):
    """A clip at the film's size, rate and colours, with exactly as many frames as its place in the film."""
    picture = ffmpeg.input(argument(piece.path), protocol_whitelist=LOCAL_ONLY).video
    slower = min(SLOWEST, float(piece.frames / rate) / piece.info.duration)
    if slower * piece.info.num_frames >= piece.info.num_frames + 1:
        picture = picture.filter("setpts", f"PTS*{slower:.6f}").filter("minterpolate", fps=rate, scd="none")
    picture = picture.filter("fps", rate, start_time=0)
    if (piece.info.width, piece.info.height) != size:
        picture = _on_canvas(picture, size, background)
    picture = as_yuv(picture).filter("tpad", stop_mode="clone", stop=piece.frames)
    return picture.filter("trim", end_frame=piece.frames).filter("settb", 1 / rate)


def _on_canvas(picture, size: tuple[int, int], background: str):
    """Put a picture of other proportions into the middle of the canvas, on black or on its blurred self."""
    fitting = {"force_original_aspect_ratio": "decrease", "force_divisible_by": 2}
    if background == "black":
        return picture.filter("scale", *size, **fitting).filter("pad", *size, "(ow-iw)/2", "(oh-ih)/2")
    copies = picture.filter_multi_output("split")
    behind = copies[0].filter("scale", *size, force_original_aspect_ratio="increase").filter("crop", *size)
    behind = behind.filter("gblur", sigma=max(size) / 40).filter("eq", brightness=-0.1, saturation=0.8)
    return ffmpeg.overlay(behind, copies[1].filter("scale", *size, **fitting), x="(W-w)/2", y="(H-h)/2")


def _title_card(path: Path, size: tuple[int, int], rate: Fraction, options: FilmOptions) -> Piece:
    frames = _title_frames(rate, options)
    seconds = float(frames / rate)
    card = ffmpeg.input(f"color=c={TITLE_COLOUR}:s={size[0]}x{size[1]}:r={rate}", format="lavfi").video
    card = _drawn(card, subtitles.title_ass(options.title, seconds, size), path.with_suffix(".ass"))
    for way, begins in (("in", 0.0), ("out", max(0.0, seconds - TITLE_FADE))):
        card = card.filter("fade", type=way, start_time=begins, duration=TITLE_FADE)
    output = as_yuv(card.filter("trim", end_frame=frames)).output(str(path), format="mp4", **encoding(options.crf))
    subtitles.check_fonts(run(output.compile()[1:], doing="draw the title"))
    return Piece(path=path, info=probe(path), start=0, frames=frames, fade=0, speech=None)


def _drawn(picture, script: str, path: Path):
    """Draw a subtitle script; lines of a script without spaces break only where ffmpeg is new enough."""
    path.write_text(script, encoding="utf-8")
    wrap = {"wrap_unicode": 1} if has_option("subtitles", "wrap_unicode") else {}
    return picture.filter("subtitles", filename=str(path), **wrap)


def _sound(pieces: Sequence[Piece], rate: Fraction, options: FilmOptions, work: Path) -> list:
    speeches = [sound.Speech(float(piece.start / rate) + PAUSE, piece.speech) for piece in pieces if piece.speech]
    if not speeches and options.music is None:
        return []
    return [sound.track(speeches, options.music, float(_length(pieces) / rate), work)]


def _soft_subtitles(options: FilmOptions, work: Path) -> list:
    if options.subtitles != "soft":
        return []
    script = work / "soft.srt"
    script.write_text(subtitles.srt(options.captions, literally=True), encoding="utf-8")
    return [ffmpeg.input(str(script), protocol_whitelist=LOCAL_ONLY)["s"]]


def _track_options(options: FilmOptions) -> dict[str, str | int]:
    chosen: dict[str, str | int] = {}
    if any(options.narration) or options.music:
        chosen |= {"c:a": "aac", "b:a": "160k", "ac": 2, "ar": sound.RATE, "flags:a": "+bitexact"}
    if options.subtitles == "soft":
        chosen |= {"c:s": "mov_text", "metadata:s:s:0": f"language={options.language}"}
    return chosen
