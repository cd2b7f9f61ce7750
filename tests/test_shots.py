"""Videos cut into shots in one pass: where, how much moves in each, and which frames stand for it."""

import clips
import library
import numpy as np
import pytest
from PIL import Image

from storycli.errors import StoryError
from storycli.library import shots
from storycli.library.shots import find_shots
from storycli.media import decoding, video
from storycli.media.probe import scan


def spans(path):
    return [(shot.span.start, shot.span.end) for shot in find_shots(path)]


def phone_like(path, source):
    """Its frames stored in their order, with a key frame each second at 24 a second, as phones do."""
    return clips.remade(path, source, "-c:v", "libx264", "-bf", "0", "-g", "24", "-sc_threshold", "0")


def stills(path, *lengths, rising=0):
    """A video at 24 frames a second of grainy pictures that stand still, but for a brightness that rises."""
    grain = np.random.default_rng(0).integers(0, 60, (len(lengths), 12, 16, 1), dtype=np.uint8)
    parts = [np.broadcast_to((grain[n] + n % 2 * 150), (frames, 12, 16, 1)) for n, frames in enumerate(lengths)]
    frames = np.concatenate(parts) + rising * np.arange(sum(lengths), dtype=np.uint8)[:, None, None, None]
    video.write(path.with_suffix(".mkv"), frames.repeat(8, 1).repeat(8, 2).repeat(3, 3), 24)
    return phone_like(path, path.with_suffix(".mkv"))


def edited(path, *lengths, fps=12):
    """A video of parts that show different things."""
    parts = [library.moving(n, frames, (192, 144)) ^ (n % 2 * 255) for n, frames in enumerate(lengths)]
    video.write(path, np.concatenate(parts), fps)
    return path


def test_a_video_is_cut_where_the_picture_changes(tmp_path):
    assert spans(edited(tmp_path / "v.mp4", 20, 31, 13)) == [(0, 20), (20, 51), (51, 64)]


def test_a_frame_that_was_not_looked_at_beside_a_cut_is_of_neither_shot(tmp_path):
    assert spans(edited(tmp_path / "v.mp4", 41, 60, fps=24)) == [(0, 41), (42, 101)]


@pytest.mark.parametrize(
    "encoding",
    [("-bf", "3"), ("-bf", "0"), ("-c:v", "libx265", "-x265-params", "log-level=none"), ("-c:v", "libsvtav1")],
)
def test_shots_of_any_encoding_keep_clear_of_the_cut(tmp_path, encoding):
    whole = edited(tmp_path / "v.mp4", 50, 70, fps=25)
    (first, second) = spans(clips.remade(tmp_path / "w.mp4", whole, *encoding))
    assert first[0] == 0 and 46 <= first[1] <= 50
    assert 50 <= second[0] <= 54 and second[1] == 120


def test_a_long_shot_comes_in_parts_and_flashes_are_left_out(tmp_path, monkeypatch):
    monkeypatch.setattr(shots, "LONGEST", 2.0)
    assert spans(edited(tmp_path / "v.mp4", 60)) == [(0, 24), (24, 48), (48, 60)]
    assert spans(edited(tmp_path / "w.mp4", 20, 4, 20)) == [(0, 20), (24, 44)]


def test_a_video_that_is_only_a_flash_is_a_shot(tmp_path):
    assert spans(edited(tmp_path / "v.mp4", 3)) == [(0, 3)]


def test_kept_frames_are_spread_over_the_shot(tmp_path):
    path = clips.ramp(tmp_path / "v.mp4", frames=45)
    (shot,) = find_shots(path)
    assert shots.KEPT / 2 < len(shot.pictures) <= shots.KEPT
    wanted = [5, 16, 28, 39]
    assert max(abs(kept.index - want) for kept, want in zip(shot.nearest(wanted), wanted, strict=True)) <= 45 / 16
    for kept in shot.pictures:
        assert clips.numbers(kept.pixels((96, 64))[None]) == [kept.index]


def test_every_frame_of_a_short_shot_is_kept(tmp_path):
    (shot,) = find_shots(clips.ramp(tmp_path / "v.mp4", frames=16))
    assert [kept.index for kept in shot.pictures] == list(range(16))


def test_a_turned_video_is_seen_as_a_viewer_sees_it(tmp_path):
    plain = clips.ramp(tmp_path / "v.mp4", frames=12)
    turned = clips.remade(tmp_path / "t.mp4", plain, "-c", "copy", before=("-display_rotation", "90"))
    picture = next(decoding.walk(turned, 12))
    assert picture.pixels((32, 48)).shape == (48, 32, 3)
    assert clips.corner(picture.pixels((64, 96))) == "lower left"
    look = picture.glance((32, 48))
    assert look.shape == (48, 32, 3)
    assert look[-4, 4, 0] > 200 and look[4, 4, 0] < 60


@pytest.mark.parametrize("pixels", ["yuv420p", "yuv422p", "yuv444p", "yuv420p10le"])
def test_a_glance_has_the_brightness_of_the_picture(tmp_path, pixels):
    shown = clips.colours(4, (160, 96))
    video.write(tmp_path / "v.mp4", shown, 8)
    encoding = ("-c:v", "libx264", "-crf", "4", "-pix_fmt", pixels)
    other = clips.remade(tmp_path / "w.mp4", tmp_path / "v.mp4", *encoding)
    look = next(decoding.walk(other, 8)).glance((32, 24))[..., 0]
    fields = shown[0].reshape(24, 4, 32, 5, 3).mean((1, 3)) @ (0.2126, 0.7152, 0.0722)
    assert np.abs(16 + fields * 219 / 255 - look).mean() < 4


def test_only_frames_that_others_need_are_decoded_and_they_keep_their_numbers(tmp_path):
    path = clips.ramp(tmp_path / "v.mp4", "-c:v", "libx264", "-g", "40", "-bf", "3", "-b_strategy", "0")
    looked = list(decoding.walk(path, 5))
    assert 8 <= len(looked) <= 20
    assert clips.numbers(np.stack([each.pixels((96, 64)) for each in looked])) == [each.index for each in looked]


def test_three_pictures_stand_for_a_second_that_begins_as_the_next_one(tmp_path):
    path = stills(tmp_path / "v.mp4", 96, rising=2)
    few = list(decoding.walk(path, 12, lambda a, b: True))
    assert [each.index for each in few] == [0, 2, 4, 24, 26, 28, 48, 50, 52, *range(72, 96, 2)]
    brightness = [each.pixels((128, 96)).mean() for each in few]
    assert np.diff(brightness) == pytest.approx(2 * np.diff([each.index for each in few]), abs=1)


def test_all_frames_pass_by_where_the_next_second_begins_otherwise(tmp_path):
    path = stills(tmp_path / "v.mp4", 96)
    asked = []
    walked = decoding.walk(path, 12, lambda a, b: asked.append((a.index, b.index)))
    assert [each.index for each in walked] == list(range(0, 96, 2))
    assert asked == [(4, 24), (28, 48), (52, 72)]


def test_nothing_is_passed_over_where_a_key_frame_may_be_long_in_coming(tmp_path):
    """One every 36 frames, which is half a second or, in the slow middle, half a minute."""
    slow = "settb=1/600,setpts='if(lt(N,600),N/60,if(lt(N,636),10+(N-600),46+(N-636)/60))/TB'"
    path = clips.remade(
        tmp_path / "w.mp4",
        stills(tmp_path / "v.mp4", 1236),
        *("-vf", slow, "-fps_mode", "vfr", "-enc_time_base", "1/600", "-g", "36", "-bf", "0"),
    )
    found = scan(path)
    assert (found.info.num_frames, found.info.variable_rate) == (1236, True)
    times = found.times[[each.index for each in decoding.walk(path, 12, lambda a, b: True)]]
    assert np.diff(times).max() <= 2.01


def test_nothing_is_passed_over_where_frames_are_stored_out_of_order(tmp_path):
    path = clips.remade(tmp_path / "w.mp4", stills(tmp_path / "v.mp4", 96), "-c:v", "libx264", "-bf", "3", "-g", "24")
    assert np.diff([each.index for each in decoding.walk(path, 12, lambda a, b: True)]).max() <= 4


@pytest.mark.parametrize(
    ("lengths", "wanted"),
    [
        ((41, 79), [(0, 41), (42, 120)]),
        ((48, 72), [(0, 47), (48, 120)]),
        ((30, 12, 78), [(0, 29), (30, 41), (42, 120)]),
    ],
)
def test_cuts_are_found_among_frames_that_are_mostly_passed_over(tmp_path, lengths, wanted):
    """Between two key frames, at one, and two of them between the same key frames, so that both show the same."""
    path = stills(tmp_path / "v.mp4", *lengths)
    assert len(list(shots.seen(path, video.probe(path)))) < sum(lengths) / 2 - 9
    assert spans(path) == wanted


def test_frames_of_a_shot_that_is_mostly_passed_over_are_a_second_from_the_wanted_at_most(tmp_path):
    (shot,) = find_shots(stills(tmp_path / "v.mp4", 216))
    wanted = [27, 81, 135, 189]
    assert max(abs(kept.index - want) for kept, want in zip(shot.nearest(wanted), wanted, strict=True)) <= 24
    assert 8 <= len(shot.pictures) <= shots.KEPT


def test_a_variable_rate_counts_by_the_clock(tmp_path):
    slow = "setpts='round(if(lt(N,20),N,20+(N-20)*3)/10/TB)'"
    path = clips.ramp(tmp_path / "v.mp4", "-vf", slow, "-fps_mode", "vfr")
    (shot,) = find_shots(path)
    assert shot.span.seconds == pytest.approx(8)


@pytest.mark.parametrize("fps", [8, 24])
def test_damage_in_the_middle_is_found(tmp_path, fps):
    noise = np.random.default_rng(0).integers(0, 255, (90, 64, 64, 3), dtype=np.uint8)
    video.write(tmp_path / "v.mp4", noise, fps)
    path = phone_like(tmp_path / "w.mp4", tmp_path / "v.mp4")
    data = bytearray(path.read_bytes())
    data[len(data) // 3 : len(data) // 2] = np.random.default_rng(0).bytes(len(data) // 2 - len(data) // 3)
    path.write_bytes(data)
    with pytest.raises(StoryError, match=r"is damaged: \d+ of \d+ frames"):
        spans(path)


def test_motion_and_shake_are_told_apart():
    def drift(steps):
        picture = library.moving(1, frames=1, size=(2 * shots.WIDTH, 48))[0].mean(-1)
        return np.stack([np.roll(picture, int(x), axis=1)[:, : shots.WIDTH] for x in np.cumsum(steps)])

    still, pan, shaken = drift([0] * 12), drift([2] * 12), drift([2, -2] * 6)
    motion = [shots.movement(looks)[0].mean() for looks in (still, pan, shaken)]
    jerk = [shots.jerk(shots.movement(looks)[1], np.full(11, True)) for looks in (still, pan, shaken)]
    assert motion[0] == 0 and motion[1] > 0.5 and motion[2] > 0.5
    assert jerk[0] < 0.1 and jerk[1] < 0.1 and jerk[2] > 1


def test_motion_is_measured_by_the_clock_whatever_the_rate(tmp_path):
    """The same drift at twice the rate, half as far from frame to frame."""
    picture = library.moving(1, frames=1, size=(256, 48))[0]
    for fps, step in ((12, 4), (24, 2)):
        frames = np.stack([np.roll(picture, step * i, axis=1)[:, :128] for i in range(2 * fps)])
        video.write(tmp_path / f"{fps}.mp4", frames, fps)
    slow, fast = (next(find_shots(tmp_path / f"{fps}.mp4")).span.motion for fps in (12, 24))
    assert fast == pytest.approx(slow, rel=0.1)


def test_motion_is_measured_only_between_frames_with_nothing_passed_over(tmp_path):
    assert shots.neighbours([0, 2, 4, 24, 26, 29]).tolist() == [True, True, False, True, True]
    picture = library.moving(1, frames=1, size=(512, 48))[0] // 8 + 100
    frames = np.stack([np.roll(picture, i, axis=1)[:, :128] for i in range(120)])
    video.write(tmp_path / "v.mp4", frames, 24, crf=4)
    paths = tmp_path / "v.mp4", phone_like(tmp_path / "w.mp4", tmp_path / "v.mp4")
    assert [len(list(shots.seen(path, video.probe(path)))) < 30 for path in paths] == [False, True]
    whole, passed_over = (next(find_shots(path)).span.motion for path in paths)
    assert passed_over == pytest.approx(whole, rel=0.1)


def test_a_thumbnail_is_small_and_keeps_proportions(tmp_path):
    frame = clips.colours(1, (320, 180))[0]
    (tmp_path / "t.jpg").write_bytes(shots.thumbnail(frame))
    small = Image.open(tmp_path / "t.jpg")
    assert small.size == (128, 72)
    means = np.asarray(small, int).mean((0, 1)) - frame.mean((0, 1))
    assert np.abs(means).max() < 3
