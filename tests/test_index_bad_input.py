"""Files that nobody would choose, among good ones: everything good is in, everything bad is listed with its reason."""

import os
import random

import clips
import library
import numpy as np
import pytest

from storycli.media import video

NAMES = ["two words.mp4", "'quote\".mp4", "new\nline.mp4", "-dash.mp4", "100%d.mp4", "Märchen_狼.mp4", "[x]{y};,=.mp4"]


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "videos"
    library.clip(folder / "good.mp4")
    return folder


def reasons(report):
    return {failure.path.name: failure.reason for failure in report.failures}


@pytest.mark.parametrize("name", NAMES)
def test_any_name_is_indexed_found_and_read_again(empty, folder, name):
    library.clip(folder / name, seed=3)
    assert empty.add([folder]).added == 2
    assert empty.add([folder]).unchanged == 2
    best = next(c.clip for c in empty.search("anything") if c.clip.path.name == name)
    assert best.path == folder / name
    assert len(video.read(best.path, start=best.start, end=best.end)) == 12


def test_a_name_that_is_no_text_is_listed(empty, folder):
    os.rename(folder / "good.mp4", os.fsencode(folder) + b"/\xff.mp4")
    library.clip(folder / "good.mp4")
    report = empty.add([folder])
    assert (report.added, len(report.failures)) == (1, 1)
    assert "not text" in report.failures[0].reason


def test_files_that_are_no_videos_are_listed(empty, folder):
    (folder / "empty.mp4").touch()
    (folder / "text.mp4").write_text("not a video at all\n" * 50)
    (folder / "noise.mkv").write_bytes(np.random.default_rng(0).bytes(5000))
    clips.run(["-f", "lavfi", "-i", "sine=d=1", str(folder / "sound.mp4")], doing="make a test clip")
    clips.ramp(folder / "one.mp4", frames=1)
    (folder / "away.mp4").symlink_to(folder / "nothing.mp4")
    report = empty.add([folder])
    told = reasons(report)
    assert report.added == 1
    assert set(told) == {"empty.mp4", "text.mp4", "noise.mkv", "sound.mp4", "one.mp4", "away.mp4"}
    assert "is empty" in told["empty.mp4"]
    assert "no moving picture" in told["sound.mp4"]
    assert "single frame" in told["one.mp4"]
    assert "does not exist" in told["away.mp4"]
    assert reasons(empty.add([folder])) == told


def test_a_cut_off_file_is_listed_and_comes_in_when_it_is_whole(empty, folder):
    whole = (folder / "good.mp4").read_bytes()
    (folder / "half.mp4").write_bytes(library.clip(folder / "half.mp4", seed=9).read_bytes()[: len(whole) // 2])
    assert "half.mp4" in reasons(empty.add([folder]))
    library.clip(folder / "half.mp4", seed=9)
    report = empty.add([folder])
    assert (report.added, report.unchanged, report.failures) == (1, 1, ())


def test_a_file_that_became_unreadable_leaves_the_index(empty, folder):
    empty.add([folder])
    (folder / "good.mp4").write_bytes(b"x")
    report = empty.add([folder])
    assert (len(report.failures), report.removed, len(empty.index)) == (1, 1, 0)


def test_odd_videos_are_indexed_as_a_viewer_sees_them(empty, tmp_path):
    folder = tmp_path / "odd"
    library.clip(folder / "plain.mp4", frames=24)
    source = folder / "plain.mp4"
    clips.remade(folder / "turned.mp4", source, "-c", "copy", before=("-display_rotation", "90"))
    clips.remade(folder / "odd.mkv", source, "-vf", "scale=51:37,setsar=1", "-c:v", "ffv1", "-pix_fmt", "yuv444p")
    slow = ("-vf", "setpts='if(lt(N,12),N,12+(N-12)*3)/12/TB'", "-fps_mode", "vfr")
    clips.remade(folder / "varying.mp4", source, *slow)
    report = empty.add([folder])
    assert (report.added, report.failures) == (4, ())
    rows = {
        os.path.basename(row["path"]): (row["width"], row["height"], row["end"])
        for row in empty.index.rows(["path", "width", "height", "end"])
    }
    assert rows == {
        "plain.mp4": (64, 48, 24),
        "turned.mp4": (48, 64, 24),
        "odd.mkv": (51, 37, 24),
        "varying.mp4": (64, 48, 24),
    }


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_files_and_folders_that_may_not_be_read_are_listed(empty, folder):
    library.clip(folder / "secret.mp4", seed=2).chmod(0)
    library.clip(folder / "closed" / "x.mp4", seed=3)
    (folder / "closed").chmod(0)
    try:
        report = empty.add([folder])
    finally:
        (folder / "closed").chmod(0o700)
    assert report.added == 1
    assert {name: "Permission denied" in reason for name, reason in reasons(report).items()} == {
        "secret.mp4": True,
        "closed": True,
    }


def test_damaged_files_among_good_ones_do_no_harm(empty, tmp_path):
    """Bytes changed, zeroed and lost at random: every file is either in or listed, and the good ones are in."""
    rng, folder = random.Random(0), tmp_path / "many"
    for number in range(4):
        whole = library.clip(folder / f"good{number}.mp4").read_bytes()
        for kind in range(5):
            data = bytearray(whole)
            at = rng.randrange(len(data))
            if kind == 0:
                del data[at:]
            elif kind == 1:
                del data[: at + 1]
            elif kind == 2:
                data[at : at + 200] = bytes(min(200, len(data) - at))
            else:
                for _ in range(20 * kind):
                    data[rng.randrange(len(data))] = rng.randrange(256)
            (folder / f"bad{number}{kind}.mp4").write_bytes(data)
    report = empty.add([folder])
    indexed = {os.path.basename(row["path"]) for row in empty.index.rows(["path"])}
    assert {f"good{number}.mp4" for number in range(4)} <= indexed
    assert len(indexed) + len(report.failures) + report.duplicates == 24
    assert len(report.failures) >= 8  # at least those that were cut
