"""The sound of a film: narration at its places, music that makes way for it, one loudness."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import av
import ffmpeg

from storycli.errors import StoryError
from storycli.media.ffmpeg import LOCAL_ONLY, argument, run

RATE = 48000
LOUDNESS = -16.0  # LUFS, what players of web video expect
SILENCE = -70.0  # LUFS, below which there is nothing to make louder
MAX_GAIN = 30.0  # dB
PEAK = 0.84  # -1.5 dB
MUSIC_VOLUME = 0.5
DUCKING = {"threshold": 0.02, "ratio": 8, "attack": 80, "release": 600}
FADE_SECONDS = 1.5
# What music may come in: no playlists, which name further files.
CONTAINERS = frozenset(
    {"mp3", "wav", "flac", "ogg", "mov", "aac", "matroska", "aiff", "asf", "ac3", "eac3", "amr", "caf", "w64", "au",
     "avi", "ape", "wv", "tta", "mpeg", "mpegts"}
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Speech:
    """A recording that begins at ``start`` seconds of the film."""

    start: float
    path: Path


def seconds(path: Path | str) -> float:
    """Return how long a sound file is. Raises StoryError when it has no sound or cannot be read."""
    path = Path(path)
    if not path.is_file():
        raise StoryError(f"{path} is not a sound file: it does not exist or is a folder")
    try:
        with av.open(argument(path), options={"protocol_whitelist": LOCAL_ONLY}) as container:
            if not CONTAINERS.intersection(container.format.name.split(",")):
                raise StoryError(
                    f"{path} is not a sound file but {container.format.long_name or container.format.name}"
                )
            if not container.streams.audio:
                raise StoryError(f"{path} has no sound")
            samples = sum(frame.samples for frame in container.decode(audio=0))
            if not samples:
                raise StoryError(f"{path} has no sound")
            return samples / container.streams.audio[0].rate
    except av.FFmpegError as error:
        raise StoryError(f"{path} is not a sound file, or it is damaged ({error.strerror})") from error


def track(speeches: Sequence[Speech], music: Path | None, duration: float, work: Path):
    """Return ffmpeg-python's stream of a film's sound, exactly ``duration`` seconds of stereo.

    Speech and music are mixed into a file in the folder ``work``, which is measured and then brought to one
    loudness by a single gain, with a limiter for its peaks.
    """
    if not speeches and music is None:
        raise ValueError("a sound track has speech or music")
    mixed = work / "mix.wav"
    options = {"c:a": "pcm_f32le", "fflags": "+bitexact", "format": "wav"}
    mix = _lasting(_stereo(_mix(speeches, music, duration)), duration).output(str(mixed), **options)
    run(mix.compile()[1:], doing="mix the sound")
    gain = max(-MAX_GAIN, min(MAX_GAIN, LOUDNESS - _loudness(mixed)))
    louder = _opened(mixed).audio.filter("volume", f"{gain:.2f}dB")
    return louder.filter("alimiter", limit=PEAK, level=0, latency=1)


def _mix(speeches: Sequence[Speech], music: Path | None, duration: float):
    if not speeches:
        return _music_track(music, duration)
    speech = _speech_track(speeches, duration)
    if music is None:
        return speech
    copies = speech.filter_multi_output("asplit")
    ducked = ffmpeg.filter([_music_track(music, duration), copies[0]], "sidechaincompress", **DUCKING)
    return ffmpeg.filter([copies[1], ducked], "amix", inputs=2, normalize=0)


def _loudness(path: Path) -> float:
    """Measure the loudness of a sound file in LUFS (EBU R 128); silence counts as loud enough."""
    measure = _opened(path).audio.filter("loudnorm", print_format="json").output("-", format="null")
    told = run(["-loglevel", "info", *measure.compile()[1:]], doing="measure the loudness")
    integrated = float(re.search(r'"input_i"\s*:\s*"(-?[\d.]+|-inf)"', told)[1])
    return integrated if integrated > SILENCE else LOUDNESS


def _speech_track(speeches: Sequence[Speech], duration: float):
    voices = [
        _stereo(_opened(each.path).audio).filter("adelay", delays=round(each.start * 1000), all=1) for each in speeches
    ]
    speech = voices[0] if len(voices) == 1 else ffmpeg.filter(voices, "amix", inputs=len(voices), normalize=0)
    return _lasting(speech, duration)


def _music_track(path: Path, duration: float):
    """Music from its start, again and again, fading out with the film."""
    music = _lasting(_stereo(_opened(path, stream_loop=-1).audio), duration).filter("volume", MUSIC_VOLUME)
    fade = min(FADE_SECONDS, duration)
    return music.filter("afade", type="out", start_time=duration - fade, duration=fade)


def _opened(path: Path, **options):
    return ffmpeg.input(argument(path), protocol_whitelist=LOCAL_ONLY, **options)


def _stereo(sound):
    return sound.filter("aresample", RATE).filter("aformat", sample_fmts="fltp", channel_layouts="stereo")


def _lasting(sound, duration: float):
    return sound.filter("apad", whole_dur=duration).filter("atrim", end=duration)
