import os
import stat
import subprocess
import sys
from pathlib import Path

import clips
import numpy as np
import pytest

from storycli.errors import StoryError
from storycli.media import ffmpeg, video

AWKWARD = [
    "-dash",
    "per%03dcent%s",
    "a 'quote\" b",
    "new\nline",
    "\u00fcn\u00ef \u4e2d\u6587",
    "http:x",
    "[clip]{x};,=",
    "concat:a|b",
]


@pytest.fixture(scope="module")
def ramp(tmp_path_factory):
    return clips.ramp(tmp_path_factory.mktemp("clips") / "ramp.mp4")


@pytest.fixture(scope="module")
def varying(tmp_path_factory):
    """Twenty frames at 10 a second, then twenty that stay on screen three times as long."""
    slow = "setpts='round(if(lt(N,20),N,20+(N-20)*3)/10/TB)'"
    return clips.ramp(tmp_path_factory.mktemp("clips") / "varying.mp4", "-vf", slow, "-fps_mode", "vfr")


def test_probe_describes_a_video(ramp):
    info = video.probe(ramp)
    assert (info.width, info.height, info.fps, info.num_frames) == (96, 64, 10, 40)
    assert info.duration == pytest.approx(4)
    assert (info.rotation, info.variable_rate, info.has_audio) == (0, False, False)
    assert (info.codec, info.pixel_format) == ("h264", "yuv420p")


@pytest.mark.parametrize(
    ("name", "encoding"),
    [
        ("b.webm", ("-c:v", "libvpx-vp9", "-b:v", "500k", "-g", "12")),
        ("b.avi", ("-c:v", "mpeg4", "-q:v", "2")),
        ("b.mkv", ("-c:v", "ffv1")),
        ("b.ts", ("-c:v", "libx264", "-bf", "2")),
    ],
)
def test_every_container_gives_the_same_frames_when_read_out_of_order(tmp_path, name, encoding):
    clip = clips.ramp(tmp_path / name, *encoding)
    assert video.probe(clip).num_frames == 40
    assert clips.numbers(video.read(clip, indices=[33, 0, 39, 12, 12, 13])) == [33, 0, 39, 12, 12, 13]


def test_probe_finds_sound(tmp_path, ramp):
    sounding = clips.remade(
        tmp_path / "s.mp4", ramp, "-c:v", "copy", "-shortest", before=("-f", "lavfi", "-i", "sine=d=4")
    )
    assert video.probe(sounding).has_audio


@pytest.mark.parametrize(
    ("turn", "rotation", "size", "where"),
    [
        ("90", 90, (64, 96), "lower left"),
        ("-90", 270, (64, 96), "upper right"),
        ("180", 180, (96, 64), "lower right"),
    ],
)
def test_rotation_in_the_metadata_is_applied(tmp_path, ramp, turn, rotation, size, where):
    turned = clips.remade(tmp_path / "t.mp4", ramp, "-c", "copy", before=("-display_rotation", turn))
    info = video.probe(turned)
    assert (info.rotation, (info.width, info.height)) == (rotation, size)
    frames = video.read(turned, indices=[7])
    assert frames.shape == (1, size[1], size[0], 3)
    assert (clips.corner(frames[0]), clips.numbers(frames)) == (where, [7])


def test_pixels_that_are_not_square_are_widened(tmp_path, ramp):
    wide = clips.remade(tmp_path / "w.mp4", ramp, "-vf", "setsar=2", "-c:v", "libx264")
    assert (video.probe(wide).width, video.probe(wide).height) == (192, 64)
    assert video.read(wide, indices=[0]).shape == (1, 64, 192, 3)


def test_frames_that_an_edit_list_hides_are_not_read(tmp_path, ramp):
    cut = clips.remade(tmp_path / "cut.mp4", ramp, "-c", "copy", before=("-ss", "1.55"))
    first = 40 - video.probe(cut).num_frames
    assert 12 < first < 20  # the file still holds the frames from the key frame 12 on
    assert clips.numbers(video.read(cut)) == list(range(first, 40))
    assert clips.numbers(video.read(cut, indices=[20, 3])) == [first + 20, first + 3]


def test_a_turned_video_with_hidden_frames_is_turned_too(tmp_path, ramp):
    before = ("-display_rotation", "90", "-ss", "1.55")
    frame = video.read(clips.remade(tmp_path / "cut.mp4", ramp, "-c", "copy", before=before), indices=[2])[0]
    assert frame.shape == (96, 64, 3)
    assert clips.corner(frame) == "lower left"


def test_variable_rate_is_read_by_the_clock(varying):
    info = video.probe(varying)
    assert (info.variable_rate, info.num_frames, info.duration) == (True, 40, pytest.approx(8))
    assert clips.numbers(video.read(varying)) == list(range(40))
    seconds = np.arange(80) / 10
    shown = [int(10 * s + 0.5) if s < 1.95 else 20 + int((s - 2) / 0.3 + 0.02) for s in seconds]
    assert clips.numbers(video.read(varying, fps=10)) == shown


def test_part_of_a_variable_rate_is_read_by_the_clock(varying):
    assert clips.numbers(video.read(varying, start=20, end=24, fps=5)) == [20, 20, 21, 22, 22, 23]


@pytest.mark.parametrize("width", [8, 16, 24, 32, 48, 72, 96, 97, 128, 144])
def test_every_width_is_decoded_without_shear(tmp_path, width):
    source = clips.colours(1, (2 * width, 64))[..., [0, 0, 0]]
    video.write(tmp_path / "v.mp4", source, 8, crf=4)
    halved = source[0].reshape(32, 2, width, 2, 3).mean(axis=(1, 3))
    assert np.abs(video.read(tmp_path / "v.mp4", size=(width, 32))[0] - halved).mean() < 3


def test_both_decoders_agree(tmp_path):
    video.write(tmp_path / "v.mp4", clips.colours(6, (128, 64)), 8)
    stream = clips.remade(tmp_path / "v.ts", tmp_path / "v.mp4", "-c", "copy")
    seeking, in_order = (video.read(name, size=(64, 64)) for name in (tmp_path / "v.mp4", stream))
    assert np.abs(seeking.astype(int) - in_order).max() <= 2


def test_crop_keeps_the_middle_and_pad_adds_bars(tmp_path):
    frame = np.zeros((1, 60, 120, 3), np.uint8)
    frame[:, :, :30] = (255, 0, 0)
    frame[:, :, 90:] = (0, 0, 255)
    frame[:, :, 30:90] = (0, 255, 0)
    video.write(tmp_path / "v.mp4", frame, 8)
    cropped = video.read(tmp_path / "v.mp4", size=(60, 60))[0].astype(int)
    assert np.abs(cropped[:, 4:-4] - (0, 255, 0)).max() < 12
    padded = video.read(tmp_path / "v.mp4", size=(60, 60), fit="pad")[0].astype(int)
    assert not padded[:15].any() and not padded[45:].any()
    assert np.abs(padded[18:42, 2:12] - (255, 0, 0)).max() < 12


def test_one_frame_is_a_video(tmp_path):
    one = clips.ramp(tmp_path / "one.mp4", frames=1)
    assert video.probe(one).num_frames == 1
    assert video.read(one, num_frames=5, fps=8).shape == (5, 64, 96, 3)


def test_frames_are_picked_by_time():
    assert video.pick_indices(40, 10, 8, 5) == [0, 2, 4, 6, 8, 10, 12, 14]
    assert video.pick_indices(40, 10, 5, 20) == [0, 0, 1, 1, 2]
    assert video.pick_indices(120, 30000 / 1001, 4, 8) == [0, 3, 7, 11]


def test_short_clips_run_to_and_fro():
    assert video.pick_indices(4, 8, 10, 8) == [0, 1, 2, 3, 2, 1, 0, 1, 2, 3]
    assert video.pick_indices(1, 8, 3, 8) == [0, 0, 0]


def test_without_a_rate_frames_are_spread_evenly():
    assert video.pick_indices(40, 10, 4) == [5, 15, 25, 35]
    assert video.pick_indices(3, 10, 6) == [0, 0, 1, 1, 2, 2]
    assert video.pick_indices(5, 10) == [0, 1, 2, 3, 4]


def test_a_rate_alone_keeps_the_duration():
    assert video.pick_indices(30, 30, None, 8) == [0, 3, 7, 11, 15, 18, 22, 26]


def test_reading_past_the_end_is_an_error(ramp):
    with pytest.raises(StoryError, match="has 40 frames; frame 40"):
        video.read(ramp, indices=[0, 40])
    with pytest.raises(StoryError, match="part 50 to 40"):
        video.read(ramp, start=50)


def test_answers_too_large_for_memory_are_refused(ramp):
    with pytest.raises(StoryError, match="GiB of memory") as error:
        video.read(ramp, num_frames=10**5, fps=8, size=(1920, 1080))
    assert "smaller" in error.value.hint


def damaged(path: Path, source: Path) -> Path:
    data = bytearray(source.read_bytes())
    first, last = len(data) // 3, len(data) // 2
    data[first:last] = np.random.default_rng(0).bytes(last - first)
    path.write_bytes(data)
    return path


def test_broken_files_are_told_apart(tmp_path, ramp):
    def shortened(name, source, share):
        (tmp_path / name).write_bytes(source.read_bytes()[: int(source.stat().st_size * share)])
        return tmp_path / name

    streamable = clips.remade(tmp_path / "f.mp4", ramp, "-c", "copy", "-movflags", "+faststart")
    webm = clips.ramp(tmp_path / "w.webm", "-c:v", "libvpx-vp9", "-b:v", "500k", "-g", "12")
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "text.mp4").write_text("hello " * 1000)
    (tmp_path / "text.txt").write_text("hello " * 1000)
    ffmpeg.run(["-f", "lavfi", "-i", "sine=d=1", str(tmp_path / "sound.m4a")], doing="make sound")
    clips.ramp(tmp_path / "still.png", "-frames:v", "1", "-update", "1")
    reasons = {
        tmp_path / "none.mp4": "does not exist",
        tmp_path: "is a folder",
        tmp_path / "empty.mp4": "is empty",
        tmp_path / "text.mp4": "is not a video, or it is damaged",
        tmp_path / "text.txt": "is not a video",
        tmp_path / "still.png": "is not a video",
        tmp_path / "sound.m4a": "has sound but no moving picture",
        shortened("t.mp4", ramp, 0.5): "is cut off",
        shortened("t.webm", webm, 0.6): "is cut off: .* of 4.0 seconds",
        shortened("tf.mp4", streamable, 0.6): "is cut off",
        shortened("end.mp4", streamable, 0.99): "is cut off: 3. of 40 frames",
    }
    for path, reason in reasons.items():
        with pytest.raises(StoryError, match=reason) as error:
            video.probe(path)
        assert str(path) in error.value.message


def test_damage_in_the_middle_is_an_error_not_repeated_frames(tmp_path):
    noise = np.random.default_rng(0).integers(0, 255, (30, 64, 64, 3), dtype=np.uint8)
    video.write(tmp_path / "noise.mp4", noise, 8)
    with pytest.raises(StoryError, match="is damaged"):
        video.read(damaged(tmp_path / "broken.mp4", tmp_path / "noise.mp4"))


def test_a_pipe_is_refused_without_waiting_for_it(tmp_path):
    os.mkfifo(tmp_path / "pipe.mp4")
    with pytest.raises(StoryError, match="not a file"):
        video.probe(tmp_path / "pipe.mp4")


def test_a_playlist_does_not_lead_elsewhere(tmp_path):
    (tmp_path / "list.m3u8").write_text("#EXTM3U\n#EXTINF:1,\nhttp://127.0.0.1:9/x.ts\n#EXT-X-ENDLIST\n")
    with pytest.raises(StoryError, match="not a video"):
        video.probe(tmp_path / "list.m3u8")


@pytest.mark.parametrize("name", AWKWARD)
def test_any_name_can_be_written_and_read(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    video.write(f"{name}.mp4", clips.colours(3), 8)
    assert os.listdir() == [f"{name}.mp4"]
    assert video.read(f"{name}.mp4").shape == (3, 64, 64, 3)


def test_written_frames_come_back_in_their_colours(tmp_path):
    frames = clips.colours(16, (64, 48))
    video.write(tmp_path / "v.mp4", iter(frames), 8, crf=4)
    info = video.probe(tmp_path / "v.mp4")
    assert (info.width, info.height, info.fps, info.num_frames) == (64, 48, 8, 16)
    assert (info.codec, info.pixel_format, info.variable_rate) == ("h264", "yuv420p", False)
    difference = np.abs(video.read(tmp_path / "v.mp4").astype(int) - frames)
    assert difference.mean() < 2.5 and difference.max() < 16


def test_the_same_frames_give_the_same_bytes(tmp_path):
    frames = clips.colours(8)
    for name in ("a.mp4", "b.mp4"):
        video.write(tmp_path / name, frames, 8, metadata={"comment": "x"})
    assert b"Lavf" not in (tmp_path / "a.mp4").read_bytes()  # nor the name of the program
    assert (tmp_path / "a.mp4").read_bytes() == (tmp_path / "b.mp4").read_bytes()
    video.write(tmp_path / "c.mp4", frames[::-1], 8, metadata={"comment": "x"})
    assert (tmp_path / "a.mp4").read_bytes() != (tmp_path / "c.mp4").read_bytes()


def test_the_index_comes_before_the_pictures(tmp_path):
    video.write(tmp_path / "v.mp4", clips.colours(4), 8)
    data = (tmp_path / "v.mp4").read_bytes()
    assert 0 < data.index(b"moov") < data.index(b"mdat")


def test_odd_sizes_gain_a_copy_of_their_edge(tmp_path):
    frames = clips.colours(3, (97, 65))
    video.write(tmp_path / "v.mp4", frames, 24000 / 1001, crf=4)
    info = video.probe(tmp_path / "v.mp4")
    assert (info.width, info.height, info.fps) == (98, 66, pytest.approx(23.976, abs=1e-3))
    read = video.read(tmp_path / "v.mp4").astype(int)
    assert np.abs(read[:, :65, :97] - frames).mean() < 2
    assert np.abs(read[:, :65, 97] - frames[:, :, 96]).mean() < 4


def failing(frames, error):
    yield from frames
    raise error


def test_nothing_is_left_when_the_frames_fail(tmp_path):
    (tmp_path / "v.mp4").write_bytes(b"before")
    with pytest.raises(KeyboardInterrupt):
        video.write(tmp_path / "v.mp4", failing(clips.colours(4), KeyboardInterrupt()), 8)
    assert os.listdir(tmp_path) == ["v.mp4"] and (tmp_path / "v.mp4").read_bytes() == b"before"


def test_frames_of_another_size_are_a_mistake(tmp_path):
    with pytest.raises(ValueError, match="expected a uint8 frame of shape"):
        video.write(tmp_path / "v.mp4", [*clips.colours(1), *clips.colours(1, (32, 32))], 8)
    with pytest.raises(ValueError, match="at least one"):
        video.write(tmp_path / "v.mp4", [], 8)
    assert os.listdir(tmp_path) == []


@pytest.fixture
def fake_ffmpeg(tmp_path, monkeypatch):
    """Put a shell script in ffmpeg's place."""

    def install(script: str) -> None:
        folder = tmp_path / "bin"
        folder.mkdir()
        program = folder / "ffmpeg"
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(program.stat().st_mode | stat.S_IXUSR)
        monkeypatch.setattr(ffmpeg, "find", lambda: ffmpeg.Ffmpeg(path=program, version="0"))

    return install


def test_a_full_disk_is_told_and_leaves_nothing(tmp_path, fake_ffmpeg):
    script = 'for last; do :; done; head -c 100 > "$last"; echo "write: No space left on device" >&2; exit 228'
    fake_ffmpeg(script)
    with pytest.raises(StoryError, match="the disk is full"):
        video.write(tmp_path / "out" / "v.mp4", clips.colours(4), 8)
    assert os.listdir(tmp_path / "out") == []


def test_an_ffmpeg_that_dies_is_told_in_its_own_words(tmp_path, fake_ffmpeg):
    fake_ffmpeg("echo 'the cause' >&2; head -c 1000 > /dev/null; kill -9 $$")
    with pytest.raises(StoryError, match="ended by signal 9\n  the cause"):
        video.write(tmp_path / "out" / "v.mp4", clips.colours(200), 8)
    assert os.listdir(tmp_path / "out") == []


def test_metadata_is_not_logged(tmp_path, caplog):
    with caplog.at_level("DEBUG", "storycli.media.ffmpeg"):
        video.write(tmp_path / "v.mp4", clips.colours(1), 8, metadata={"comment": "a secret story"})
    assert "comment=..." in caplog.text and "secret" not in caplog.text


def test_writing_over_a_folder_is_refused(tmp_path):
    (tmp_path / "v.mp4").mkdir()
    with pytest.raises(StoryError, match="is a folder"):
        video.write(tmp_path / "v.mp4", clips.colours(1), 8)


def test_the_static_ffmpeg_is_used_when_the_systems_cannot_encode(tmp_path, monkeypatch):
    (tmp_path / "ffmpeg").write_text("#!/bin/sh\necho ' V....D mpeg4 '\n")
    (tmp_path / "ffmpeg").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    assert ffmpeg.find.__wrapped__().path != tmp_path / "ffmpeg"


def test_without_any_ffmpeg_the_error_tells_the_fix(monkeypatch):
    monkeypatch.setattr(ffmpeg, "_candidates", lambda: iter([("/no/ffmpeg", "/no/ffmpeg")]))
    with pytest.raises(StoryError, match="no usable ffmpeg: /no/ffmpeg") as error:
        ffmpeg.find.__wrapped__()
    assert "imageio-ffmpeg" in error.value.hint


def test_decoders_do_not_print(capfd, tmp_path):
    (tmp_path / "text.mp4").write_text("hello " * 1000)
    with pytest.raises(StoryError):
        video.read(tmp_path / "text.mp4")
    assert capfd.readouterr() == ("", "")


def test_matrices_can_be_multiplied_after_a_video_was_read(tmp_path):
    path = tmp_path / "clip.mp4"
    video.write(path, np.zeros((4, 64, 64, 3), np.uint8), 8)
    program = (
        "import sys; from storycli.media import video; video.read(sys.argv[1], indices=[0]);"
        "import torch; print(torch.nn.Linear(128, 384)(torch.ones(512, 128)).shape)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, path],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).parent.parent,
    )
    assert (done.returncode, done.stdout) == (0, "torch.Size([512, 384])\n"), done.stderr


@pytest.mark.parametrize(
    ("part", "fps", "seconds", "first"),
    [
        ((0, 240), 24, 2, 96),
        ((100, 148), 24, 2, 100),
        ((100, 120), 24, 2, 100),  # shorter than wanted
        ((0, 11), 8, 1, 1),
        ((10, 20), 29.97, 0.01, 14),  # a frame at least
    ],
)
def test_where_the_middle_of_a_part_begins(part, fps, seconds, first):
    assert video.middle(*part, fps, seconds) == first


def test_of_a_video_its_middle_can_be_read(tmp_path):
    ramp = np.repeat(np.arange(48, dtype=np.uint8)[:, None, None, None] * 5, 3, -1) * np.ones((1, 32, 32, 1), np.uint8)
    video.write(tmp_path / "ramp.mp4", ramp, 24)
    frames = video.read_middle(tmp_path / "ramp.mp4", 4, 8, (32, 32))
    shown = np.round(frames.mean((1, 2, 3)) / 5)
    np.testing.assert_allclose(shown, [18, 21, 24, 27], atol=1)  # half a second about the middle
