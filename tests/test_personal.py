"""The pseudo-word and the low-rank branches of a character."""

import pytest
import torch
from tiny import UNET, randomise, video_model
from torch import nn

from models.layers import ResBlock
from models.personal import (
    TimeInv,
    add_branches,
    branch_tensors,
    convolutions,
    modulated,
    projections,
    remove_branches,
    text_with_word,
    word_start,
)
from models.unet import VideoUNet


@pytest.fixture(scope="module")
def model():
    return video_model()


def clip(seed=0):
    g = torch.Generator().manual_seed(seed)
    return torch.randn(1, 4, 2, 8, 8, generator=g), torch.tensor([300]), torch.randn(1, 5, 384, generator=g)


def test_the_word_is_looked_up_by_diffusion_time():
    word = TimeInv(torch.zeros(3), rows=4, num_steps=1000)
    word.table.data = torch.arange(12.0).reshape(4, 3)
    assert word(torch.tensor([0, 249, 250, 999])).tolist() == [[0, 1, 2], [0, 1, 2], [3, 4, 5], [9, 10, 11]]


def test_branches_sit_on_queries_keys_and_values_of_space_and_text_only():
    names = projections(VideoUNet(UNET))
    assert {name.split(".")[-2] for name in names} == {"attn1", "attn2"}
    assert {name.split(".")[-1] for name in names} == {"to_q", "to_k", "to_v"}
    # Two levels with two and one transformers in the decoder, one each in the encoder, one in the middle;
    # the finer level has no self-attention.
    assert len(names) == 3 * (7 + 4)


def test_the_convolutions_are_the_two_of_every_residual_block():
    unet = VideoUNet(UNET)
    layers = [unet.get_submodule(name) for name in convolutions(unet)]
    blocks = [module for module in unet.modules() if isinstance(module, ResBlock)]
    assert blocks and len(layers) == 2 * len(blocks)
    assert all(isinstance(layer, nn.Conv2d) and layer.kernel_size == (3, 3) for layer in layers)


def test_new_branches_change_nothing_and_trained_ones_equal_the_merged_weights():
    unet = randomise(VideoUNet(UNET)).eval()
    x, t, context = clip()
    with torch.no_grad():
        plain = unet(x, t, context)
        branches = add_branches(unet, projections(unet) + convolutions(unet), rank=2)
        torch.testing.assert_close(unet(x, t, context), plain)
        for branch in branches.values():
            branch.up.weight.normal_(generator=torch.Generator().manual_seed(1))
        branched = unet(x, t, context)
        remove_branches(unet, branches)
        with modulated(unet, branch_tensors(branches)):
            torch.testing.assert_close(unet(x, t, context), branched, atol=1e-4, rtol=1e-4)
        assert torch.equal(unet(x, t, context), plain)
    assert (branched - plain).abs().max() > 1e-3


def test_gradients_reach_the_word_and_the_branches_and_nothing_else(model):
    word = TimeInv(word_start(model.text, "teddy bear"), rows=10)
    branches = add_branches(model.unet, projections(model.unet) + convolutions(model.unet), rank=2)
    try:
        for branch in branches.values():
            torch.nn.init.normal_(branch.up.weight)
        x, t, _ = clip()
        context, mask = text_with_word(model.text, ["a <new1> teddy bear"], "<new1>", word(t))
        model.unet(x, t, context, None, mask).square().mean().backward()
        assert word.table.grad[3].abs().max() > 0
        assert word.table.grad[[0, 1, 2, 4, 9]].abs().max() == 0
        assert all(getattr(b, side).weight.grad.abs().max() > 0 for b in branches.values() for side in ("up", "down"))
        frozen = [p for name, p in model.unet.named_parameters() if ".up." not in name and ".down." not in name]
        assert all(p.grad is None for p in [*frozen, *model.text.parameters()])
    finally:
        remove_branches(model.unet, branches)


def test_the_word_starts_as_the_mean_of_its_class_word(model):
    ids, _ = model.text.tokenize(["teddy bear"])
    assert torch.equal(word_start(model.text, "teddy bear"), model.text.embed(ids)[0, 1:3].mean(0))
