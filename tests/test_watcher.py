"""The video classifier that clips are compared by."""

import pytest
import torch

from models.watcher import QUESTIONS, Watcher, WatcherConfig, spread
from models.weights import load, read_metadata
from storycli.training import watcher as train_watcher
from storycli.training.fit import FitSettings
from storycli.world.generator import World

CONFIG = WatcherConfig(
    characters=("fox", "pig"), actions=("run",), places=("park", "mars", "city"), cameras=("still",), channels=(16, 32)
)


def test_every_question_has_as_many_answers_as_there_are_names():
    said = Watcher(CONFIG)(torch.zeros(2, 3, 4, 64, 64))
    assert {name: tuple(logits.shape) for name, logits in said.items()} == {
        "character": (2, 2),
        "action": (2, 1),
        "place": (2, 3),
        "camera": (2, 1),
    }


def test_features_see_the_order_of_frames_and_clips_do_not_see_each_other():
    torch.manual_seed(0)
    network, clips = Watcher(CONFIG).eval(), torch.randn(2, 3, 4, 64, 64)
    features = network.features(clips)
    torch.testing.assert_close(network.features(clips[1:])[0], features[1])
    assert not torch.allclose(network.features(clips[:, :, [2, 0, 3, 1]]), features, atol=1e-4)


@pytest.mark.parametrize(("length", "count", "picked"), [(16, 8, range(0, 16, 2)), (3, 8, range(3)), (5, 2, [0, 2])])
def test_frames_are_spread_over_a_clip(length, count, picked):
    assert spread(range(length), count) == list(picked)


def test_training_leaves_a_network_that_tells_its_scenes_apart(assets, tmp_path):
    settings = FitSettings(samples=160, batch_size=8, learning_rate=5e-3, warmup=8, weight_decay=0.0)
    told = []
    out = train_watcher.train(
        assets,
        tmp_path / "watcher.safetensors",
        settings=settings,
        clips=8,
        held_out=4,
        device="cpu",
        progress=lambda *now: told.append(now),
    )
    network = load(out, Watcher, WatcherConfig)
    assert network.config.characters == tuple(World(assets).characters)
    assert [seen for seen, _, _ in told] == list(range(8, 168, 8))
    assert told[-1][2] < 0.95 * told[0][2]  # a running mean, which lags behind
    assert {f"accuracy of {name}" for name in QUESTIONS} <= read_metadata(out).keys()
    assert not out.with_name(out.name + ".ckpt").exists()
