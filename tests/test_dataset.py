"""Shards: what is encoded comes back as it went in."""

import numpy as np
import pytest
import torch
from tiny import BlockMeans

from models.weights import load_minilm
from storycli.training.dataset import Sample, Shards, prepare_world, write_shard
from storycli.training.video import AUTOENCODER


@pytest.fixture(scope="module")
def text():
    return load_minilm()


def samples(frames):
    for index in range(3):
        grey = np.full((frames, 64, 64, 3), 40 * (index + 1), np.uint8)
        depth = np.full((frames, 64, 64), 10 * index, np.uint8)
        mask = np.zeros((frames, 64, 64), bool)
        mask[:, :8, :4] = True  # half of the first cell
        yield Sample(f"picture number {index}", grey, depth, mask)


@pytest.mark.parametrize("frames", [1, 4])
def test_samples_come_back_encoded_and_in_order(tmp_path, text, frames):
    write_shard(samples(frames), tmp_path / "00000.safetensors", BlockMeans().encode, text, batch_frames=2 * frames)
    batch = Shards(tmp_path)[[2, 0]]
    assert batch["latents"].shape == (2, 4, frames, 8, 8)
    expected = torch.tensor([120, 40]) / 127.5 - 1
    torch.testing.assert_close(batch["latents"][:, 0, 0, 0, 0].float(), expected, atol=2e-3, rtol=0)
    assert batch["depth"][0].unique().tolist() == [20]
    assert batch["mask"][0, 0, 0, :2].tolist() == [128, 0]
    ids, words = text.tokenize(["picture number 2"])
    assert torch.equal(batch["words"][0], words[0])
    difference = (batch["context"][0].float() - text.encode(ids, words)[0])[words[0]]
    assert difference.abs().max() < 0.1  # bf16


def test_a_folder_without_shards_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError, match="no shards"):
        Shards(tmp_path)


def test_as_many_scenes_are_drawn_as_are_asked_for_and_none_twice(tmp_path, assets):
    asked = dict(tier="core", stills=3, clips=2, num_frames=2)
    made = list(prepare_world(tmp_path, assets, AUTOENCODER, **asked))
    assert [len(Shards(tmp_path / kind)) for kind in ("stills", "clips")] == [3, 2]
    made[0].unlink()
    assert list(prepare_world(tmp_path, assets, AUTOENCODER, **asked)) == made[:1]
