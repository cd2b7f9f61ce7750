from dataclasses import replace

import numpy as np
import pytest
import torch

from models import weights
from models.depth_net import DptHybrid
from models.depth_small import DepthSmall, DepthSmallConfig
from models.precision import pick_device
from storycli import catalogue, depth
from storycli.depth import DepthEstimator, figure, foreground
from storycli.errors import StoryError
from storycli.training import depth as train_depth
from storycli.training import fit, scenes

SMALL = DepthSmallConfig(channels=(8, 8, 8, 8), blocks=(1, 1, 1, 1), fusion=(8, 8, 8, 8), heads=2, norm_width=4)


class Brightness:
    """A depth network that takes what is bright for near."""

    def prepare(self, frames):
        return frames

    def inverse_depth(self, frames):
        return frames.mean(1) * 3 + 7


@pytest.fixture
def by_brightness(monkeypatch):
    monkeypatch.setattr(depth, "load", lambda name, path: torch.nn.Module())
    estimator = DepthEstimator(device="cpu")
    estimator.network = Brightness()
    return estimator


@pytest.fixture(scope="module")
def built_in():
    return DepthEstimator(device="cpu")


def grey(levels):
    """Frames (f, 1, w, 3) from grey levels (f, w)."""
    return np.repeat(np.array(levels, np.uint8)[:, None, :, None], 3, axis=-1)


# ---- the built-in network ------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(128, 128), (72, 128), (144, 97), (30, 20)])
def test_depth_has_the_size_of_the_frames(built_in, size):
    frames = np.stack([scenes.scene(np.random.default_rng(i))[0] for i in range(2)])
    frames = np.stack([np.resize(frame, (*size, 3)) for frame in frames])
    near = built_in.estimate(frames)
    assert (near.shape, near.dtype) == ((2, *size), np.float32)
    assert near.min() == 0 and near.max() == 1


def test_built_in_depth_agrees_with_the_truth_of_unseen_scenes(built_in):
    pairs = [scenes.scene(np.random.default_rng(10**6 + i)) for i in range(24)]
    agreement = [np.corrcoef(built_in.estimate(frame[None])[0].ravel(), near.ravel())[0, 1] for frame, near in pairs]
    assert np.median(agreement) > 0.85


def test_other_sizes_are_scaled_in_proportion():
    shapes = [tuple(DepthSmall(SMALL).prepare(torch.zeros(1, 3, h, w)).shape[2:]) for h, w in ((720, 1280), (40, 30))]
    assert shapes == [(128, 224), (176, 128)]


def test_saved_networks_come_back(tmp_path):
    network = DepthSmall(SMALL).eval()
    weights.save(network, tmp_path / "d.safetensors", SMALL)
    frames = np.random.default_rng(0).integers(0, 255, (3, 32, 48, 3), np.uint8)
    loaded = DepthEstimator(device="cpu", path=tmp_path / "d.safetensors")
    with torch.inference_mode():
        prepared = network.prepare(loaded._pixels(frames))
        torch.testing.assert_close(loaded.network(prepared), network(prepared))


# ---- what makes it the depth of a clip -----------------------------------------------------------------------


def test_one_scale_serves_all_frames(by_brightness):
    near = by_brightness.estimate(grey([[0, 100], [100, 250]]))
    np.testing.assert_allclose(near[:, 0], [[0, 0.4], [0.4, 1]], atol=1e-5)


def test_each_frame_for_itself_is_stretched_alone(by_brightness):
    near = by_brightness.estimate_each(grey([[0, 100], [100, 250]]))
    np.testing.assert_allclose(near[:, 0], [[0, 1], [0, 1]], atol=1e-5)


def test_outliers_do_not_set_the_scale(by_brightness):
    levels = np.tile(np.linspace(50, 150, 1000), (1, 1))
    levels[0, 0], levels[0, -1] = 0, 255
    near = by_brightness.estimate(grey(levels))[0, 0]
    assert near[500] == pytest.approx(0.5, abs=0.02)


def test_a_flat_picture_has_finite_depth(by_brightness):
    assert np.isfinite(by_brightness.estimate(grey([[9, 9, 9]]))).all()


def test_flicker_is_averaged_away_where_nothing_moves():
    pixels = torch.zeros(6, 3, 4, 4)
    near = torch.tensor([0.0, 1.0] * 3)[:, None, None].expand(-1, 4, 4)
    calm = depth.steady(near, pixels)
    assert (calm.diff(dim=0).abs() < 0.4).all()
    assert calm.mean() == pytest.approx(0.5)


def test_depth_of_moving_things_is_left_alone():
    pixels = torch.linspace(-1, 1, 6)[:, None, None, None].expand(-1, 3, 4, 4)
    near = torch.rand(6, 4, 4, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(depth.steady(near, pixels), near)


def test_one_frame_is_enough(by_brightness):
    assert by_brightness.estimate(grey([[0, 250]])).tolist() == [[[0, 1]]]


def test_parts_of_a_long_clip_are_joined(by_brightness):
    levels = np.random.default_rng(0).integers(0, 255, (21, 5))
    near = by_brightness.estimate_each(grey(levels))[:, 0]
    stretched = (levels - levels.min(1, keepdims=True)) / np.ptp(levels, axis=1, keepdims=True)
    np.testing.assert_allclose(near, stretched, atol=1e-5)


@pytest.mark.parametrize(
    "frames", [np.zeros((2, 4, 4, 3)), np.zeros((4, 4, 3), np.uint8), np.zeros((0, 4, 4, 3), np.uint8)]
)
def test_other_arrays_are_refused(by_brightness, frames):
    with pytest.raises(ValueError, match="expected uint8 frames"):
        by_brightness.estimate(frames)


def test_names_and_weights_that_are_not_there(tmp_path, monkeypatch):
    monkeypatch.setenv("STORYCLI_HOME", str(tmp_path))
    for name, wrong in (
        ("midas", "no depth network"),
        ("dpt_hybrid", "dpt_hybrid-midas.pt is not there"),
        ("lvdm", "dpt_hybrid-midas.pt is not there"),
        ("depth_anything_v2_small", "config.json is not there"),
    ):
        with pytest.raises(StoryError, match=wrong):
            DepthEstimator(name, device="cpu")


def test_per_frame_depth_is_that_of_the_published_pipeline(by_brightness):
    """Squeezed to 384 x 384, bicubic both ways, stretched from minimum to maximum."""
    by_brightness.network.prepare = DptHybrid.prepare.__get__(DptHybrid)
    frames = np.random.default_rng(0).integers(0, 255, (2, 20, 36, 3), np.uint8)
    pixels = torch.from_numpy(frames).movedim(-1, 1).float() / 127.5 - 1
    options = dict(mode="bicubic", align_corners=False)
    squeezed = torch.nn.functional.interpolate(pixels, (384, 384), **options).mean(1, keepdim=True)
    expected = torch.nn.functional.interpolate(squeezed * 3 + 7, (20, 36), **options)[:, 0]
    low, high = expected.amin((1, 2), keepdim=True), expected.amax((1, 2), keepdim=True)
    expected = (expected - low) / (high - low + 1e-7)
    np.testing.assert_allclose(by_brightness.estimate_each(frames), expected, atol=1e-5)


# ---- training ------------------------------------------------------------------------------------------------


def test_random_scenes_have_the_depth_of_their_geometry():
    camera = scenes.random_camera(np.random.default_rng(0), 64)
    colour, near = np.zeros((64, 64, 3), np.float32), np.zeros((64, 64), np.float32)
    light = np.array([0, -1.0, 0])
    scenes.draw_ellipsoid(np.random.default_rng(0), camera, light, np.array([0, 0, 4.0]), np.full(3, 1.0), colour, near)
    middle = near[31:33, 31:33].mean()
    assert middle == pytest.approx(1 / 3, rel=0.01)  # a ball of radius 1 at 4: its front is at 3
    covered = (near > 0).mean()
    angle = np.tan(np.arcsin(1 / 4)) * camera.focal
    assert covered == pytest.approx(np.pi * angle**2 / 64**2, rel=0.05)


def test_scenes_are_the_same_for_the_same_seed():
    first, again = (scenes.scene(np.random.default_rng(7)) for _ in range(2))
    np.testing.assert_array_equal(first[0], again[0])
    np.testing.assert_array_equal(first[1], again[1])
    assert first[0].dtype == np.uint8 and first[1].min() >= 0 and first[1].max() == 1


def test_loss_does_not_mind_scale_and_shift_but_form():
    near = torch.rand(2, 16, 16, generator=torch.Generator().manual_seed(0))
    aligned = train_depth.align(0.2 * near + 0.5, near)
    assert (aligned - near).abs().max() < 0.2
    assert train_depth.depth_loss(0.4 * near + 0.3, near) < 0.3 * train_depth.depth_loss(near.flip(2), near)


def test_views_keep_colours_and_depth_together():
    rng = np.random.default_rng(0)
    near = np.zeros((128, 128), np.float32)
    near[40:80, 30:90] = 1
    frame, moved = train_depth.zoom(np.repeat(near[..., None], 3, axis=-1), near, rng)
    np.testing.assert_allclose(frame[..., 0], moved, atol=1e-5)
    assert moved.mean() > near.mean()


def test_views_are_pictures_whatever_is_done_to_them(assets):
    pool = list(train_depth.drawn(train_depth.World(assets), range(1)))
    rng = np.random.default_rng(0)
    views = [train_depth.augment(*pool[i % 2], rng) for i in range(24)]
    assert {(part.dtype, part.shape[:2]) for view in views for part in view} == {(np.dtype("float32"), (128, 128))}
    assert all(part.min() >= 0 and part.max() <= 1 for view in views for part in view)
    assert len({frame.tobytes() for frame, _ in views}) == len(views)


@pytest.mark.parametrize("start", [None, catalogue.BUILT_IN / "storybook-depth.safetensors"])
def test_training_writes_a_network_that_has_learnt(assets, tmp_path, start):
    settings = replace(train_depth.SETTINGS, samples=4, batch_size=2, warmup=2, seed=3)
    told = []
    how = dict(settings=settings, pictures=3, start=start, device="cpu", report=lambda *args: told.append(args))
    path = train_depth.train(assets, tmp_path / "out", **how)
    assert told == [*(("prepare", n, 6) for n in range(1, 7)), ("train", 2, 4), ("train", 4, 4)]
    learnt = weights.load(path, DepthSmall, DepthSmallConfig).state_dict()
    torch.manual_seed(settings.seed)
    before = (weights.load(start, DepthSmall, DepthSmallConfig) if start else DepthSmall()).state_dict()
    change = {name: (learnt[name].float() - before[name].float()).abs().max() for name in before}
    assert all(0 < moved < 0.05 for moved in change.values())
    with pytest.raises(StoryError, match="other settings"):  # not silently the network that is there
        train_depth.train(assets, tmp_path / "out", **how | {"start": path})


def test_the_world_and_random_scenes_come_in_equal_parts_and_never_again_for_another_seed(assets):
    world = train_depth.World(assets)
    first, second = (list(train_depth.drawn(world, range(seed, seed + 2))) for seed in (0, 2))
    assert [background.any() for _, _, background in first] == [True, True, False, False]
    assert not any(np.array_equal(a, b) for (a, *_), (b, *_) in zip(first, second, strict=True))


def test_a_stopped_training_goes_on_to_the_same_network(tmp_path):
    settings = fit.FitSettings(samples=24, batch_size=4, warmup=8, average_over=8)

    def loss(network, rng):
        x = torch.from_numpy(rng.normal(size=(4, 3))).float()
        return (network(x) - x.sum(1, keepdim=True)).square().mean()

    def network():
        torch.manual_seed(0)
        return torch.nn.Linear(3, 1)

    def stop(seen, samples, value):
        if seen == 12:
            raise KeyboardInterrupt

    whole = fit.fit(network(), loss, settings, checkpoint=tmp_path / "whole")
    checkpoint = tmp_path / "stopped"
    with pytest.raises(KeyboardInterrupt):
        fit.fit(network(), loss, settings, checkpoint=checkpoint, every=0, progress=stop)
    seen = []
    resumed = fit.fit(network(), loss, settings, checkpoint=checkpoint, progress=lambda *args: seen.append(args[0]))
    assert seen[0] == 16  # the checkpoint is of the step after which it was interrupted
    torch.testing.assert_close(resumed.weight, whole.weight, rtol=0, atol=0)
    with pytest.raises(StoryError, match="other settings"):
        fit.fit(network(), loss, replace(settings, seed=1), checkpoint=tmp_path / "stopped", every=0)


@pytest.mark.parametrize("wide", [16, 28, 44])
def test_a_figure_is_found_whether_it_is_small_or_fills_most_of_the_picture(wide):
    depth = np.tile(np.linspace(0.1, 0.5, 64, dtype=np.float32)[:, None], (1, 64))
    expected = np.zeros((64, 64), bool)
    expected[8:, 32 - wide // 2 : 32 + wide // 2] = True
    depth[expected] += 0.3
    depth[2:8, :8] += 0.3  # something else that stands out
    assert np.array_equal(figure(depth), expected)


def test_rows_that_a_figure_fills_are_its_own():
    depth = np.full((64, 64), 0.2, np.float32)
    depth[10:, 20:44] = 0.8
    depth[30:40] = 0.8
    assert figure(depth)[10:, 20:44].all() and not figure(depth)[:10].any()


def test_a_flat_picture_has_no_figure():
    assert not figure(np.full((64, 64), 0.5, np.float32)).any()


def test_the_foreground_is_what_stands_before_its_row():
    depth = np.tile(np.linspace(0, 1, 8, dtype=np.float32)[:, None], (1, 8))
    depth[2:5, 3:5] += 0.2
    mask = foreground(depth)
    assert mask[2:5, 3:5].all() and mask.sum() == 6
    assert torch.from_numpy(mask).dtype == torch.bool


def test_a_network_is_loaded_once_by_whatever_names():
    assert depth.estimator("storybook", "cpu") is depth.estimator("storybook", str(pick_device("auto")))
