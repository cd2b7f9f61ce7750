"""What a library of many clips takes: multiplied from what a few of them took."""

import dataclasses

import library
import pytest

from storycli.errors import StoryError
from storycli.library import capacity, index
from storycli.library.capacity import Costs
from storycli.library.encoder import Encoder

COSTS = Costs(read=0.5, embed=0.1, write=1e-4, row=2000, parts=100, known=1000, compare=1e-9)


@pytest.fixture(autouse=True)
def _two_cores(monkeypatch):
    monkeypatch.setattr(capacity.cluster, "cores", lambda: 2)


def test_what_grows_with_the_clips_is_multiplied():
    plan = capacity.plan(10_000_000, COSTS)
    assert plan.read_hours == pytest.approx(10_000_000 * 0.5 / 3600 / 2)
    assert (plan.shards, plan.embed_share) == (695, 0.2)  # an hour each
    assert plan.write_hours == pytest.approx(1000 / 3600 / 2)
    assert plan.disk_gb == pytest.approx(21)
    assert plan.update_memory_gb == pytest.approx(10)


def test_sorting_compares_all_rows_with_all_parts_and_the_sample_in_every_round():
    plan = capacity.plan(10_000_000, COSTS)
    compared = 4096 * 10_000_000 + 4096 * index.ROUNDS * index.SAMPLE * 4096
    assert plan.parts == 4096
    assert plan.sort_hours == pytest.approx(compared * 1e-9 / 3600 / 2)
    assert plan.looked_at == 10_000_000 * index.PROBES // 4096


def test_a_small_library_is_not_sorted():
    plan = capacity.plan(50_000, COSTS)
    assert (plan.parts, plan.sort_hours, plan.looked_at) == (0, 0, 50_000)
    assert plan.disk_gb == pytest.approx(0.1)
    assert "sorting" not in capacity.as_text(plan)


def test_costs_are_measured_on_the_videos_that_are_given(tmp_path, encoder, monkeypatch):
    monkeypatch.setattr(capacity, "ROWS", 2000)
    monkeypatch.setattr(capacity, "PARTS", 8)
    for name in ("dog", "sea", "car"):
        library.clip(tmp_path / "v" / f"{name}.mp4")
    costs = capacity.measure(Encoder(encoder), [tmp_path / "v"])
    assert all(value > 0 for value in dataclasses.asdict(costs).values())
    vectors = 2 * (8 + index.SENTENCE)  # bytes, in half precision
    assert vectors < costs.row < vectors + 3000
    codes = (8 + index.SENTENCE) / 8  # one bit a dimension
    assert codes < costs.parts < codes + 100  # with numbers for each
    assert 200 < costs.known < 5000


def test_videos_that_cannot_be_read_are_no_measure(tmp_path, encoder):
    (tmp_path / "x.mp4").write_bytes(b"x")
    with pytest.raises(StoryError, match="none of these"):
        capacity.measure(Encoder(encoder), [tmp_path])


def test_durations_are_told_in_their_unit():
    told = [capacity.duration(hours) for hours in (0.01, 0.5, 5.04, 480)]
    assert told == ["36 s", "30 min", "5.0 h", "20 days"]
