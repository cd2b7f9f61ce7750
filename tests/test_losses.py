"""What training is worth: held-out losses, and their power law."""

from dataclasses import replace

import pytest
import test_training
import torch
from test_training import EMPTY
from tiny import STRUCTURE, UNET, randomise

from storycli.evaluate import losses
from storycli.training.dataset import Shards
from storycli.training.diffusion import Denoiser, TrainConfig, train

data = test_training.data  # the fixture
CONFIG = TrainConfig(still_frames=8, clip_frames=0, batch=4, warmup=4, still_share=0)


@pytest.fixture(autouse=True)
def _empty_prompt(monkeypatch):
    monkeypatch.setattr(losses, "empty_context", lambda text: EMPTY)


def test_every_network_is_asked_in_the_same_way_whatever_it_was_trained_by(data):
    denoiser, stills = randomise(Denoiser(UNET, STRUCTURE)), Shards(data / "stills")
    other = dict(snr_limit=1.0, shared_noise=0.0, foreground_weight=7.0, drop_text=0.9, drop_structure=0.9)
    first, second = (
        losses.held_out_loss(denoiser, stills, config, EMPTY, frames=64)
        for config in (CONFIG, replace(CONFIG, **other))
    )
    assert first == second
    assert first.whole != pytest.approx(first.foreground, rel=1e-3)


def test_a_loss_in_the_foreground_is_blind_to_the_rest(data):
    class Left(torch.nn.Module):
        """Says zero, but for the right half of the picture."""

        def forward(self, x, t, context, structure=None, words=None):
            x = torch.zeros_like(x)
            x[..., x.shape[-1] // 2 :] = 100
            return x

    denoiser = Denoiser(UNET, STRUCTURE)
    denoiser.unet = Left()
    stills = Shards(data / "stills")
    for shard in stills.shards:
        shard["mask"].zero_()[..., : shard["mask"].shape[-1] // 2] = 255
    found = losses.held_out_loss(denoiser, stills, CONFIG, EMPTY, frames=64)
    assert found.whole > 1000 > 10 > found.foreground


def test_a_curve_reads_how_much_each_checkpoint_has_seen(data, tmp_path):
    for seen in (16, 8):
        config = replace(CONFIG, still_frames=seen)
        for _ in train(config, UNET, STRUCTURE, data, tmp_path / f"to {seen}", empty_context=EMPTY):
            pass
    found = losses.curve([tmp_path / "to 16", tmp_path / "to 8"], data, frames=32)
    assert [(name, point.seen) for name, point in found.items()] == [("to 8", 8), ("to 16", 16)]
    assert found["to 8"].stills != found["to 16"].stills
    assert losses.as_text(found).splitlines()[2].startswith("| to 8 | 8 | ")


def test_every_choice_is_tried_on_the_same_samples(data, tmp_path, monkeypatch):
    monkeypatch.setattr(losses.unet, "STORYBOOK", UNET)
    monkeypatch.setattr(losses.structure, "STORYBOOK", STRUCTURE)
    found = losses.ablation(data, data, tmp_path, still_frames=8, clip_frames=4, batch=4, frames=32)
    assert found.keys() == losses.CHOICES.keys()
    assert len({point.stills.whole for point in found.values()}) == len(found)
    again = losses.ablation(data, data, tmp_path, still_frames=8, clip_frames=4, batch=4, frames=32)
    assert found == again


def test_a_power_law_is_found_and_followed():
    law = losses.power_law([1000, 4000, 16000], [3 * seen**-0.25 for seen in (1000, 4000, 16000)])
    assert law(10**6) == pytest.approx(3 * 10**-1.5)
