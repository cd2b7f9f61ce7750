"""Which frames of a clip its depth is of, and which part of the picture: by the clock, upright, in proportion."""

import subprocess
import sys
from types import SimpleNamespace

import clips
import numpy as np
import pytest

from storycli import stages
from storycli.media import video
from storycli.story import Clip

SLOW = "setpts='round(if(lt(N,20),N,20+(N-20)*3)/10/TB)'"  # from frame 20 on, each is on screen three times as long


class Brightness:
    """Takes what is bright for near."""

    def estimate(self, frames):
        assert frames.dtype == np.uint8
        return frames.mean(-1, dtype=np.float32) / 255


@pytest.fixture
def depth(tmp_path, monkeypatch):
    """Depth (f, h, w) of a part of a video, all of it by default, as the pipeline makes it."""
    monkeypatch.setattr(stages, "_estimator", lambda name, device: Brightness())

    def make(path, frames, fps, size=(96, 64), start=0, end=None):
        info = video.probe(path)
        clip = Clip(
            id="a",
            path=path,
            start=start,
            end=end or info.num_frames,
            fps=info.fps,
            width=info.width,
            height=info.height,
        )
        nothing = SimpleNamespace(upscale=1, name="")
        return np.load(stages.depth(clip, frames, fps, size, nothing, nothing, into=tmp_path))

    return make


def numbers(near):
    """Which frames of a ramp these are the depth of."""
    return clips.numbers(np.repeat(near[..., None] * 255, 3, axis=-1))


@pytest.fixture
def ramp(tmp_path):
    return clips.ramp(tmp_path / "ramp.mp4")


def test_frames_are_picked_by_the_wanted_rate_from_the_middle(depth, ramp):
    assert numbers(depth(ramp, 8, 5)) == [12, 14, 16, 18, 20, 22, 24, 26]
    assert numbers(depth(ramp, 6, 20)) == [18, 18, 19, 19, 20, 20]
    assert numbers(depth(ramp, 4, 8)) == [17, 18, 19, 20]
    assert numbers(depth(ramp, 5, 8, start=10)) == [21, 22, 23, 24, 26]


def test_a_clip_that_is_too_short_runs_to_and_fro_and_never_leaves_its_shot(depth, ramp):
    assert numbers(depth(ramp, 12, 10, start=7, end=11)) == [7, 8, 9, 10, 9, 8, 7, 8, 9, 10, 9, 8]
    assert numbers(depth(ramp, 3, 10, start=7, end=8)) == [7, 7, 7]


def test_a_variable_rate_is_followed_by_the_clock(depth, tmp_path):
    varying = clips.ramp(tmp_path / "varying.mp4", "-vf", SLOW, "-fps_mode", "vfr")
    assert numbers(depth(varying, 8, 5, start=16, end=24)) == [16, 18, 20, 20, 21, 22, 22, 23]


def test_a_short_clip_of_variable_rate_runs_to_and_fro_by_the_clock(depth, tmp_path):
    varying = clips.ramp(tmp_path / "varying.mp4", "-vf", SLOW, "-fps_mode", "vfr")
    found = numbers(depth(varying, 14, 10, start=18, end=22))  # 0.1, 0.1, 0.3 and 0.3 seconds
    assert found[:8] == [18, 19, 20, 20, 20, 21, 21, 21]
    assert found[8:] == [21, 21, 20, 20, 20, 19]


def test_a_turned_video_has_upright_depth(depth, ramp, tmp_path):
    turned = clips.remade(tmp_path / "t.mp4", ramp, "-c", "copy", before=("-display_rotation", "90"))
    near = depth(turned, 4, 10, size=(64, 96))
    assert near.shape == (4, 96, 64)
    assert clips.corner(near[0]) == "lower left"
    assert numbers(near) == [18, 19, 20, 21]


@pytest.mark.parametrize("size", [(64, 64), (128, 32), (32, 96)])
def test_other_proportions_are_cut_from_the_middle_and_not_squashed(depth, tmp_path, size):
    y, x = np.mgrid[:120, :160]
    disc = np.where((x - 79.5) ** 2 + (y - 59.5) ** 2 < 15**2, 255, 0).astype(np.uint8)
    video.write(tmp_path / "disc.mp4", np.repeat(disc[None, ..., None], 4, 0).repeat(3, -1), 8, crf=4)
    (near,) = depth(tmp_path / "disc.mp4", 1, 8, size=size)
    rows, columns = np.nonzero(near > 0.5)
    wide, high = np.ptp(columns) + 1, np.ptp(rows) + 1
    scale = max(size[0] / 160, size[1] / 120)
    assert wide == pytest.approx(30 * scale, abs=2)
    if high < size[1]:
        assert high == pytest.approx(wide, abs=2)
        assert (rows.mean(), columns.mean()) == pytest.approx(((size[1] - 1) / 2, (size[0] - 1) / 2), abs=1)


MEMORY = """
import sys
from pathlib import Path
from resource import RUSAGE_SELF, getrusage
from storycli.media import video
from storycli.library.shots import find_shots
path = Path(sys.argv[1])
list(find_shots(path))
video.read(path, start=0, end=video.probe(path).num_frames, num_frames=16, fps=8, size=(64, 36))
print(getrusage(RUSAGE_SELF).ru_maxrss // 1024)
"""


def test_a_long_video_takes_no_more_memory_than_a_short_one(tmp_path):
    """The long one is 1.4 GB of decoded frames."""
    used = []
    for frames in (40, 1000):
        path, picture = tmp_path / f"{frames}.mp4", f"gradients=s=1280x720:r=25:n=2:d={frames / 25}"
        encoding = ("-c:v", "libx264", "-preset", "ultrafast")
        clips.run(["-f", "lavfi", "-i", picture, *encoding, str(path)], doing="make a test clip")
        done = subprocess.run([sys.executable, "-c", MEMORY, str(path)], capture_output=True, text=True, check=True)
        used.append(int(done.stdout))
    assert used[1] - used[0] < 60
