import json
import math
import os
import subprocess
import wave
import zlib
from dataclasses import replace
from pathlib import Path

import av
import clips
import numpy as np
import pytest
from PIL import Image

from storycli import film, provenance, subtitles
from storycli.errors import StoryError
from storycli.film import FilmOptions
from storycli.media import ffmpeg, filmstrip, sound, video
from storycli.subtitles import Caption

FRAMES, FPS = 16, 8


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    """Three clips of two seconds; their names would break a careless list or filter."""
    folder = tmp_path_factory.mktemp("it's [the]\nclips: 1,2")
    paths = [folder / f"-{number}'.mp4" for number in range(3)]
    for number, path in enumerate(paths):
        video.write(path, clips.colours(FRAMES, seed=number), FPS)
    return paths


def tone(path: Path, seconds: float, hertz: float, level: float = 0.3) -> Path:
    t = np.arange(int(seconds * 24000)) / 24000
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(24000)
        file.writeframes((np.sin(2 * np.pi * hertz * t) * level * 32767).astype("<i2").tobytes())
    return path


def heard(path: Path) -> np.ndarray:
    """Return the sound of a film, (channels, samples) at 48 kHz."""
    with av.open(str(path)) as container:
        return np.concatenate([frame.to_ndarray() for frame in container.decode(audio=0)], axis=1)


def level(samples: np.ndarray, start: float, end: float, hertz: float) -> float:
    """Return how loud a tone is between two moments."""
    part = samples[0, int(start * 48000) : int(end * 48000)]
    t = np.arange(len(part)) / 48000
    return float(abs((part * np.exp(-2j * math.pi * hertz * t)).mean()))


def captions_in(path: Path) -> list[tuple[float, float, str]]:
    with av.open(str(path)) as container:
        stream = container.streams.subtitles[0]
        found = []
        for packet in container.demux(stream):
            data = bytes(packet)
            text = data[2 : 2 + int.from_bytes(data[:2], "big")].decode()
            if text:
                start = float(packet.pts * packet.time_base)
                found.append((start, start + float(packet.duration * packet.time_base), text))
        return found


def differences(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Return how far apart frames are, one number for each."""
    return np.abs(one.astype(int) - other).mean(axis=(1, 2, 3))


def test_clips_that_are_alike_are_joined_without_loss(tmp_path, scenes):
    film.concat(scenes, tmp_path / "film.mp4")
    info = video.probe(tmp_path / "film.mp4")
    assert (info.num_frames, info.fps, info.duration) == (48, FPS, 6)
    single = np.concatenate([video.read(path) for path in scenes])
    assert np.array_equal(video.read(tmp_path / "film.mp4"), single)


def test_a_title_is_joined_without_loss_too(tmp_path, scenes):
    film.concat(scenes, tmp_path / "film.mp4", FilmOptions(title="The {bear}", title_seconds=1))
    frames = video.read(tmp_path / "film.mp4")
    assert len(frames) == 8 + 48
    assert np.array_equal(frames[8:], np.concatenate([video.read(path) for path in scenes]))
    middle = frames[4, 20:44]
    assert middle.max() > 150 and frames[4, :12].max() < 40


def test_clips_that_differ_are_made_alike(tmp_path, scenes):
    other = tmp_path / "other.mp4"
    video.write(other, clips.colours(30, (96, 48), seed=5), 10)
    film.concat([scenes[0], other], tmp_path / "film.mp4", FilmOptions(background="black"))
    info = video.probe(tmp_path / "film.mp4")
    assert (info.width, info.height, info.fps, info.num_frames) == (64, 64, 10, 20 + 30)
    frames = video.read(tmp_path / "film.mp4")
    assert not (frames[20:, :15] > 8).any() and (frames[20:, 20:44] > 20).any()


def test_a_crossfade_blends_and_shortens(tmp_path, scenes):
    options = FilmOptions(transition="crossfade", transition_seconds=0.5)
    film.concat(scenes, tmp_path / "film.mp4", options)
    frames = video.read(tmp_path / "film.mp4")
    assert len(frames) == 48 - 2 * 4
    first, second, third = (video.read(path) for path in scenes)
    assert differences(frames[:12], first[:12]).max() < 4
    assert differences(frames[16:24], second[4:12]).max() < 4
    assert differences(frames[28:], third[4:]).max() < 4
    halfway = frames[14].astype(float)
    assert np.abs(halfway - (first[14] * 0.5 + second[2] * 0.5)).mean() < 4
    assert film.timeline(scenes, options) == [(0, 1.5), (1.5, 3), (3, 5)]


def test_a_fade_is_at_most_half_of_a_clip(tmp_path, scenes):
    video.write(tmp_path / "short.mp4", clips.colours(3), FPS)
    video.write(tmp_path / "still.mp4", clips.colours(1), FPS)
    options = FilmOptions(transition="crossfade", transition_seconds=5)
    assert film.timeline([scenes[0], tmp_path / "short.mp4", tmp_path / "still.mp4"], options) == [
        (0, 15 / 8),
        (15 / 8, 18 / 8),
        (18 / 8, 19 / 8),
    ]
    film.concat([scenes[0], tmp_path / "short.mp4", tmp_path / "still.mp4"], tmp_path / "film.mp4", options)
    assert video.probe(tmp_path / "film.mp4").num_frames == 19


def test_the_same_clips_give_the_same_bytes(tmp_path, scenes):
    options = FilmOptions(
        transition="crossfade",
        title="Twice",
        narration=(tone(tmp_path / "n.wav", 1, 440), None, None),
        manifest={"b": 1, "a": 2},
    )
    films = [tmp_path / "one" / "film.mp4", tmp_path / "two" / "film.mp4"]
    for path in films:
        film.concat(scenes, path, options)
    assert films[0].read_bytes() == films[1].read_bytes()


@pytest.mark.parametrize(("aspect", "size"), [("1:1", (64, 64)), ("16:9", (114, 64)), ("9:16", (64, 114))])
def test_the_film_takes_the_wanted_proportions(tmp_path, scenes, aspect, size):
    film.concat(scenes[:1], tmp_path / "film.mp4", FilmOptions(aspect=aspect, background="black"))
    info = video.probe(tmp_path / "film.mp4")
    assert (info.width, info.height) == size
    middle = video.read(tmp_path / "film.mp4", size=(64, 64), indices=[3])
    assert differences(middle, video.read(scenes[0], indices=[3])).max() < 8


def test_a_blurred_background_is_of_the_picture(tmp_path, scenes):
    film.concat(scenes[:1], tmp_path / "film.mp4", FilmOptions(aspect="16:9"))
    frame = video.read(tmp_path / "film.mp4", indices=[0])[0]
    assert frame[:, :20].mean() > 40 and np.abs(np.diff(frame[:, :20].astype(int), axis=0)).max() < 20


def test_soft_subtitles_keep_every_letter_and_time(tmp_path, scenes):
    texts = ["A <3 {bear} \\N", "\u5f88\u4e45\u4ee5\u524d", "\u041f\u0440\u0438\u0432\u0435\u0442\n\nfriend"]
    captions = subtitles.per_shot(texts, film.timeline(scenes, FilmOptions()))
    film.concat(scenes, tmp_path / "film.mp4", FilmOptions(subtitles="soft", captions=captions, language="eng"))
    found = captions_in(tmp_path / "film.mp4")
    assert [text.replace("\u2060", "") for _, _, text in found] == [
        *texts[:2],
        texts[2].replace("\n\n", "\n"),
    ]
    assert [(start, end) for start, end, _ in found] == [(0, 2), (2, 4), (4, 6)]
    with av.open(str(tmp_path / "film.mp4")) as container:
        assert container.streams.subtitles[0].language == "eng"


def test_burnt_subtitles_are_drawn_at_their_time_only(tmp_path, scenes):
    captions = (Caption(2, 4, "Words {here} \\N"),)
    film.concat(scenes, tmp_path / "film.mp4", FilmOptions(subtitles="burn", captions=captions))
    plain = np.concatenate([video.read(path) for path in scenes])
    change = np.abs(video.read(tmp_path / "film.mp4").astype(int) - plain).max(axis=(2, 3))
    assert change[18:30, 40:].max(axis=1).min() > 60  # the lower part, while the caption is on
    assert change[18:30, :30].max() < 30 and change[:16].max() < 30 and change[32:].max() < 30


@pytest.mark.parametrize(("letters", "last"), [("bbbb", -1), ("\u05d0" * 4, 0), ("\u0627\u0644" * 2, 0)])
def test_a_full_stop_stands_where_its_script_ends(tmp_path, letters, last):
    video.write(tmp_path / "plain.mp4", np.full((1, 512, 512, 3), 90, np.uint8), 2)
    options = FilmOptions(subtitles="burn", captions=(Caption(0, 1, f"{letters}."),))
    try:
        film.concat([tmp_path / "plain.mp4"], tmp_path / "film.mp4", options)
    except StoryError as error:
        pytest.skip(error.message)
    ink = video.read(tmp_path / "film.mp4")[0].min(axis=-1) > 200
    columns = np.flatnonzero(ink.any(axis=0))
    tops = ink[:, columns].argmax(axis=0)
    assert tops[last] > tops.min() + 8  # a dot is low
    assert tops[-1 - last] < tops[last] - 4


def test_letters_with_a_meaning_in_scripts_are_drawn_as_they_are():
    script = subtitles.ass([Caption(0, 1.5, "{teddy}\\N\n\n says")], (64, 64))
    assert script.endswith("Dialogue: 0,00:00:00.00,00:00:01.50,Story,,0,0,0,,\\{teddy\\}\\\u2060N\\Nsays\n")


def test_letters_that_no_font_has_are_an_error(tmp_path, scenes):
    captions = (Caption(0, 2, "\U0001f9f8 \U000e0fff\U0010fffd"),)
    with pytest.raises(StoryError, match=r"no font .* has these letters") as error:
        film.concat(scenes, tmp_path / "film.mp4", FilmOptions(subtitles="burn", captions=captions))
    assert "soft" in error.value.hint
    assert os.listdir(tmp_path) == []


def test_a_subtitle_file_stands_beside_the_film(tmp_path, scenes):
    captions = (Caption(0.5, 2, "One\n\ntwo"), Caption(3661.25, 3662, "\u00fc"))
    film.concat(scenes, tmp_path / "film.mp4", FilmOptions(subtitles="srt", captions=captions))
    assert (tmp_path / "film.srt").read_text(encoding="utf-8") == (
        "1\n00:00:00,500 --> 00:00:02,000\nOne\ntwo\n\n2\n01:01:01,250 --> 01:01:02,000\n\u00fc\n"
    )


def test_narration_is_heard_at_its_clip_which_lasts_as_long(tmp_path, scenes):
    spoken = (None, tone(tmp_path / "a.wav", 3.0, 440), tone(tmp_path / "b.wav", 0.5, 1000))
    options = FilmOptions(narration=spoken)
    shots = film.timeline(scenes, options)
    assert shots == [(0, 2), (2, 5.5), (5.5, 7.5)]
    film.concat(scenes, tmp_path / "film.mp4", options)
    assert video.probe(tmp_path / "film.mp4").num_frames == 60
    samples = heard(tmp_path / "film.mp4")
    assert samples.shape[0] == 2 and abs(samples.shape[1] / 48000 - 7.5) < 1 / FPS
    assert level(samples, 2.3, 5.1, 440) > 20 * max(level(samples, 0, 2.1, 440), level(samples, 5.7, 7.4, 440))
    assert level(samples, 5.8, 6.1, 1000) > 20 * level(samples, 2.3, 5.1, 1000)


def test_a_clip_that_waits_for_its_narration_moves_more_slowly(tmp_path, scenes):
    spoken = (tone(tmp_path / "a.wav", 3.6, 440), None, None)
    film.concat(scenes, tmp_path / "film.mp4", FilmOptions(narration=spoken))
    frames, clip = video.read(tmp_path / "film.mp4"), video.read(scenes[0])
    assert len(frames) == 32 + 32
    assert [int(np.argmin(differences(clip, frames[k][None]))) for k in (0, 10, 20)] == [0, 5, 10]


def test_music_makes_way_for_speech(tmp_path, scenes):
    music = tone(tmp_path / "music.wav", 0.7, 200, 0.5)
    spoken = (None, tone(tmp_path / "a.wav", 1.4, 1000, 0.5), None)
    film.concat(scenes, tmp_path / "film.mp4", FilmOptions(narration=spoken, music=music))
    samples = heard(tmp_path / "film.mp4")
    assert level(samples, 0.7, 1.9, 200) > 3 * level(samples, 2.6, 3.5, 200)
    assert level(samples, 5.9, 6.0, 200) < 0.2 * level(samples, 4.4, 4.5, 200)  # it fades out with the film


def test_the_loudness_is_that_of_web_video(tmp_path, scenes):
    film.concat(scenes, tmp_path / "film.mp4", FilmOptions(music=tone(tmp_path / "m.wav", 2, 997, 0.02)))
    command = [ffmpeg.find().path, "-nostdin", "-hide_banner", "-i", tmp_path / "film.mp4"]
    command += ["-af", "ebur128", "-f", "null", "-"]
    told = subprocess.run(command, capture_output=True, text=True, check=True, stdin=subprocess.DEVNULL).stderr
    integrated = float(told.rsplit("I:", 1)[1].split()[0])
    assert integrated == pytest.approx(sound.LOUDNESS, abs=0.5)


def test_a_sound_that_is_none_is_an_error(tmp_path, scenes):
    (tmp_path / "text.wav").write_text("hello")
    with pytest.raises(StoryError, match="not a sound file"):
        film.concat(scenes, tmp_path / "film.mp4", FilmOptions(narration=(tmp_path / "text.wav", None, None)))
    with pytest.raises(StoryError, match="has no sound"):
        sound.seconds(scenes[0])
    with pytest.raises(StoryError, match="does not exist"):
        film.concat(scenes, tmp_path / "film.mp4", FilmOptions(music=tmp_path / "none.mp3"))
    with wave.open(str(tmp_path / "empty.wav"), "wb") as file:  # ffmpeg would play it again and again for ever
        file.setparams((1, 2, 24_000, 0, "NONE", ""))
    with pytest.raises(StoryError, match="has no sound"):
        film.concat(scenes, tmp_path / "film.mp4", FilmOptions(music=tmp_path / "empty.wav"))


def test_a_clip_that_is_missing_is_named(tmp_path, scenes):
    with pytest.raises(StoryError, match=r"gone\.mp4 does not exist"):
        film.concat([scenes[0], tmp_path / "gone.mp4"], tmp_path / "film.mp4")
    assert os.listdir(tmp_path) == []


def test_everything_together_keeps_to_the_frame(tmp_path, scenes):
    options = FilmOptions(
        transition="crossfade",
        title="All",
        narration=(tone(tmp_path / "a.wav", 3, 440), None, None),
        music=tone(tmp_path / "m.wav", 1, 200),
        aspect="16:9",
        fps=24,
    )
    shots = film.timeline(scenes, options)
    options = replace(options, subtitles="burn", captions=subtitles.per_shot(["one", "two", "three"], shots))
    film.concat(scenes, tmp_path / "film.mp4", options)
    info = video.probe(tmp_path / "film.mp4")
    assert (info.fps, info.has_audio, info.pixel_format) == (24, True, "yuv420p")
    assert info.num_frames == round(shots[-1][1] * 24)
    assert abs(heard(tmp_path / "film.mp4").shape[1] / 48000 - info.duration) < 1 / 24


def test_a_film_says_that_it_is_generated_and_how(tmp_path, scenes):
    manifest = {"seed": 7, "story": "\u5f88\u4e45", "nested": {"list": [1, None]}, "long": "x" * 10**5}
    film.concat(scenes, tmp_path / "film.mp4", FilmOptions(manifest=manifest, title="A & B"))
    assert provenance.read_manifest(tmp_path / "film.mp4") == manifest
    with av.open(str(tmp_path / "film.mp4"), options={"export_xmp": "1"}) as container:
        assert provenance.GENERATED in container.metadata["xmp"] and "A &amp; B" in container.metadata["xmp"]
        assert container.metadata["comment"] == provenance.NOTE
        assert container.metadata["title"] == "A & B"


def test_another_manifest_takes_the_place_of_the_first_and_keeps_the_film(tmp_path, scenes):
    copy = tmp_path / "film.mp4"
    copy.write_bytes(scenes[0].read_bytes())
    with pytest.raises(StoryError, match="holds no manifest"):
        provenance.read_manifest(copy)
    provenance.append(copy, {"run": 1, "filler": "y" * 1000})
    provenance.append(copy, {"run": 2})
    assert provenance.read_manifest(copy) == {"run": 2}
    fresh = tmp_path / "fresh.mp4"
    fresh.write_bytes(scenes[0].read_bytes())
    provenance.append(fresh, {"run": 2})
    assert copy.read_bytes() == fresh.read_bytes()
    assert copy.read_bytes().startswith(scenes[0].read_bytes())
    assert np.array_equal(video.read(copy), video.read(scenes[0]))


def box(payload: bytes) -> bytes:
    return (24 + len(payload)).to_bytes(4, "big") + b"uuid" + provenance.MANIFEST_BOX.bytes + payload


@pytest.mark.parametrize(
    "payload",
    [
        b"not zlib",
        zlib.compress(b"{}")[:-4],
        zlib.compress(b"[1]"),
        zlib.compress(b"\xff"),
        zlib.compress(b"{}" + b" " * provenance.MAX_MANIFEST),
        zlib.compress(b"[" * 200_000),
    ],
    ids=["not packed", "cut off", "a list", "not text", "a bomb", "deep"],
)
def test_a_manifest_that_is_damaged_is_an_error(tmp_path, scenes, payload):
    (tmp_path / "film.mp4").write_bytes(scenes[0].read_bytes() + box(payload))
    with pytest.raises(StoryError, match="damaged manifest"):
        provenance.read_manifest(tmp_path / "film.mp4")


@pytest.mark.parametrize("data", [b"", b"hello world, hello world", b"\0\0\0\x08ftyp\0\0\0\x10mo", b"\0\0\0\x08free"])
def test_files_that_are_no_mp4_hold_no_manifest(tmp_path, data):
    (tmp_path / "film.mp4").write_bytes(data)
    with pytest.raises(StoryError, match=r"not an mp4|holds no manifest"):
        provenance.read_manifest(tmp_path / "film.mp4")
    with pytest.raises(StoryError, match="cannot be read"):
        provenance.read_manifest(tmp_path / "none.mp4")


def test_a_manifest_is_stored_as_json_in_a_fixed_order(tmp_path, scenes):
    (tmp_path / "film.mp4").write_bytes(scenes[0].read_bytes())
    provenance.append(tmp_path / "film.mp4", {"b": 1, "a": "\u00fc"})
    packed = (tmp_path / "film.mp4").read_bytes().split(provenance.MANIFEST_BOX.bytes)[1]
    assert json.loads(zlib.decompress(packed)) == {"a": "\u00fc", "b": 1}
    assert zlib.decompress(packed).startswith(b'{"a"')


def test_a_sheet_shows_rows_of_frames(tmp_path):
    red, green = (np.full((3, 20, 40, 3), colour, np.uint8) for colour in ((255, 0, 0), (0, 255, 0)))
    filmstrip.sheet({"red": red, "": list(green[:1])}, tmp_path / "s.png", height=30)
    page = np.asarray(Image.open(tmp_path / "s.png"))
    assert page.shape[1] == 3 * 60 + 4 * filmstrip.GAP
    assert (page == (255, 0, 0)).all(axis=-1).sum() == 3 * 60 * 30
    assert (page == (0, 255, 0)).all(axis=-1).sum() == 60 * 30
    filmstrip.sheet({"a very long label " * 20: red}, tmp_path / "s.jpg", columns=2)
    with Image.open(tmp_path / "s.jpg") as page:
        assert page.size == (2 * 256 + 3 * filmstrip.GAP, 128 + 3 * 6 + filmstrip.LABEL)
