"""The decoder learns from what the U-Net draws, against a critic: losses, redrawn latents, shares, and resuming."""

from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import load_file
from torch import nn

from models.autoencoder import StorybookAutoencoder
from models.weights import write_tensors
from storycli import catalogue
from storycli.depth import DepthEstimator
from storycli.render import load_model
from storycli.training import decoder
from storycli.training.dataset import Sample, Shards, claim

PICTURE = Path(decoder.__file__).parents[1] / "examples" / "teddy" / "01.png"
SETTINGS = replace(decoder.SETTINGS, samples=8, batch_size=2, warmup=2, learning_rate=1e-3)


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    """A folder with a shard of four pictures, each a grey that its row in it tells, as if they had been redrawn."""
    folder = tmp_path_factory.mktemp("decoder") / "redrawn"
    claim(folder, ["redrawn", decoder.SHARD, decoder.FIRST_SEED, 4, catalogue.named("storybook").identity()])
    greys = torch.arange(4)[:, None, None, None]
    tensors = {
        "latents": greys.expand(-1, 8, 16, 16).half(),
        "redrawn": 10 + greys.expand(-1, 8, 16, 16).half(),
        "pixels": greys.expand(-1, 3, 128, 128).to(torch.uint8),
        "mask": greys[:, 0].expand(-1, 128, 128) > 1,
    }
    write_tensors(folder / "00000.safetensors", {name: part.contiguous() for name, part in tensors.items()}, {})
    return folder.parent


def test_decoder_and_critic_each_learn_from_their_own_loss_alone():
    torch.manual_seed(0)
    networks = nn.ModuleDict({"autoencoder": StorybookAutoencoder(), "critic": decoder.Critic(8)})
    networks.eval()  # spectral norms stay as they are
    autoencoder, critic = networks["autoencoder"], networks["critic"]
    z, truth, mask = torch.randn(2, 8, 2, 2), torch.rand(2, 3, 16, 16), torch.ones(2, 1, 16, 16)
    decoder.adversarial_loss(networks, z, truth, mask).backward()

    drawn = autoencoder.decode(z)
    (real, expected), (fake, seen) = critic(truth), critic(drawn)
    unlike = torch.stack([(a - b).abs().mean() / b.abs().mean() for a, b in zip(seen, expected, strict=True)])
    convicted = F.relu(1 - real).mean() + F.relu(1 + fake).mean()
    likeness = decoder.codec.difference(drawn, truth, mask)
    drawing = likeness + decoder.FEATURES * unlike.mean() - decoder.CRITIC * fake.mean()
    for network, own in ((autoencoder.decoder, drawing), (critic, convicted)):
        parameters = list(network.parameters())
        expected = torch.autograd.grad(own, parameters, retain_graph=True)
        torch.testing.assert_close([p.grad for p in parameters], list(expected), atol=1e-6, rtol=1e-4)
    assert all(p.grad is None for p in autoencoder.encoder.parameters())


def test_half_of_a_batch_is_redrawn_and_all_parts_of_a_crop_are_of_one_picture(out):
    z, pixels, mask = decoder.batch(Shards(out / "redrawn"), 8, np.random.default_rng(0))
    assert (z.shape, pixels.shape, mask.shape) == ((8, 8, 12, 12), (8, 3, 96, 96), (8, 1, 96, 96))
    rows = ((pixels.mean((1, 2, 3)) + 1) * 127.5).round()
    torch.testing.assert_close(z[4:].mean((1, 2, 3)), 10 + rows[4:])
    torch.testing.assert_close(z[:4].mean((1, 2, 3)), rows[:4], atol=0.02, rtol=0)
    assert 0.04 < z[:4].std((1, 2, 3)).mean() < 0.06
    torch.testing.assert_close(mask[:, 0, 0, 0], (rows > 1).float())


def test_two_processes_share_a_batch_between_them(out, monkeypatch):
    shards, parts = Shards(out / "redrawn"), []
    whole = decoder.batch(shards, 8, np.random.default_rng(0))
    for rank in range(2):
        monkeypatch.setattr(decoder.processes, "place", lambda rank=rank: (rank, 2))
        parts.append(decoder.batch(shards, 8, np.random.default_rng(0)))
    for all_of_it, even, odd in zip(whole, *parts, strict=True):
        assert torch.equal(all_of_it[::2], even) and torch.equal(all_of_it[1::2], odd)


def test_pictures_are_redrawn_once_and_kept_with_what_they_are_of(tmp_path, monkeypatch):
    frame = np.array(Image.open(PICTURE).convert("RGB").resize((128, 128)))[None]
    sample = Sample("a bear", frame, np.full((1, 128, 128), 128, np.uint8), np.ones((1, 128, 128), bool))
    monkeypatch.setattr(decoder, "world_samples", lambda assets, tier, seeds, *_, **__: [sample] * len(seeds))
    monkeypatch.setattr(decoder, "SHARD", 3)
    assert [path.name for path in decoder.prepare(tmp_path, tmp_path, 4)] == ["00000.safetensors", "00001.safetensors"]
    assert not list(decoder.prepare(tmp_path, tmp_path, 4))
    shards = Shards(tmp_path)
    assert len(shards) == 4
    kept = shards[[0, 3]]
    assert torch.equal(kept["pixels"][1], torch.from_numpy(frame[0]).permute(2, 0, 1)) and kept["mask"].all()
    torch.testing.assert_close(*kept["latents"], atol=5e-3, rtol=0)  # they were encoded with others, and alone
    assert kept["redrawn"].shape == kept["latents"].shape
    assert (kept["redrawn"][0] - kept["redrawn"][1]).abs().mean() > 0.05


@torch.inference_mode()
def test_a_redrawn_picture_is_the_same_one_drawn_otherwise():
    model = load_model("storybook")
    frame = np.array(Image.open(PICTURE).convert("RGB").resize((128, 128)))
    depth = torch.from_numpy(DepthEstimator("storybook", "cpu").estimate(frame[None]))
    z = model.autoencoder.encode(torch.from_numpy(frame).permute(2, 0, 1)[None].float() / 127.5 - 1)
    rng = np.random.default_rng(0)
    again = decoder.redraw(model, z.float(), depth, ["a bear"], rng)
    assert again.shape == z.shape
    apart = (again - z).square().mean()
    assert 0.001 < apart < 0.3 * z.var()


def test_a_stopped_run_goes_on_as_if_it_had_not_been_and_leaves_the_encoder_alone(out, tmp_path, monkeypatch):
    monkeypatch.setattr(decoder, "steps", partial(decoder.steps, every=-1))
    monkeypatch.setattr(decoder, "assets_in", lambda out, assets: out)
    monkeypatch.setattr(decoder, "World", lambda assets: None)
    monkeypatch.setattr(decoder.codec, "stills", lambda *_: (torch.zeros(2, 3, 32, 32),))

    def run(name, report=None):
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        if not (folder / "redrawn").exists():
            (folder / "redrawn").symlink_to(out / "redrawn")
        return load_file(decoder.train(None, folder, settings=SETTINGS, pictures=4, device="cpu", report=report))

    def stop(stage, done, total):
        if (stage, done) == ("train", 4):
            raise KeyboardInterrupt

    whole = run("whole")
    with pytest.raises(KeyboardInterrupt):
        run("stopped", stop)
    resumed, before = run("stopped"), load_file(decoder.AUTOENCODER)
    for name, tensor in whole.items():
        assert torch.equal(tensor, resumed[name])
        assert torch.equal(tensor, before[name]) == ("decoder" not in name)
