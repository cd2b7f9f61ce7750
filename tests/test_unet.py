"""Properties of the video U-Net and the structure encoder that hold at every size (values: test_published_unet.py)."""

from dataclasses import replace

import pytest
import torch
from tiny import STRUCTURE, UNET, randomise

from models.structure import StructureEncoder
from models.unet import VideoUNet


@pytest.fixture(scope="module")
def unet():
    return randomise(VideoUNet(UNET)).eval()


def inputs(b=1, f=3, seed=0):
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(b, 4, f, 8, 8, generator=g)
    return x, torch.full((b,), 500), torch.randn(b, 5, 384, generator=g)


@torch.no_grad()
def test_a_new_network_predicts_nothing():
    x, t, context = inputs()
    assert VideoUNet(UNET)(x, t, context).abs().max() == 0


@torch.no_grad()
def test_samples_of_a_batch_do_not_touch_each_other(unet):
    x, t, context = inputs(b=2)
    together = unet(x, t, context)
    alone = torch.cat([unet(x[i : i + 1], t[i : i + 1], context[i : i + 1]) for i in range(2)])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-4)


@torch.no_grad()
def test_every_frame_sees_the_others(unet):
    x, t, context = inputs()
    changed = x.clone()
    changed[:, :, 2] += 1
    assert (unet(x, t, context) - unet(changed, t, context))[:, :, 0].abs().max() > 1e-4


@torch.no_grad()
def test_structure_is_added_after_the_last_block_of_each_level(unet):
    x, t, context = inputs()
    structure = StructureEncoder(STRUCTURE)
    features = structure(torch.rand(1, 1, 3, 64, 64) * 2 - 1)
    assert [tuple(f.shape) for f in features] == [(1, 32, 3, 8, 8), (1, 64, 3, 4, 4)]
    plain = unet(x, t, context)
    nothing = [torch.zeros_like(f) for f in features]
    torch.testing.assert_close(unet(x, t, context, nothing), plain)
    for level in range(2):
        one = [f if i == level else z for i, (f, z) in enumerate(zip(features, nothing, strict=True))]
        assert (unet(x, t, context, one) - plain).abs().max() > 1e-4


def test_structure_for_another_number_of_levels_is_refused(unet):
    x, t, context = inputs()
    with pytest.raises(ValueError, match="1 structure features for 2 levels"):
        unet(x, t, context, [torch.zeros(1, 32, 3, 8, 8)])


@torch.no_grad()
def test_masked_words_have_no_say(unet):
    x, t, context = inputs()
    mask = torch.tensor([[True, True, True, False, False]])
    other = context.clone()
    other[:, 3:] += 10
    torch.testing.assert_close(unet(x, t, context, context_mask=mask), unet(x, t, other, context_mask=mask))
    assert (unet(x, t, context) - unet(x, t, other)).abs().max() > 1e-4


@torch.no_grad()
def test_relative_positions_make_attention_over_time_notice_the_order(unet):
    x, t, context = inputs(f=4)
    order = torch.tensor([2, 0, 3, 1])
    shuffled = unet(x[:, :, order], t, context)
    assert (shuffled - unet(x, t, context)[:, :, order]).abs().max() > 1e-4


@torch.no_grad()
def test_stills_can_go_without_the_layers_over_time():
    x, t, context = inputs(f=1)
    without, through = (randomise(VideoUNet(replace(UNET, temporal_stills=on))).eval() for on in (False, True))
    difference = (without(x, t, context) - through(x, t, context)).abs().max()
    assert difference > 1e-4


def test_checkpointing_changes_no_gradient(unet):
    x, t, context = inputs()
    gradients = []
    for on in (False, True):
        unet.checkpointing = on
        unet.zero_grad()
        unet(x, t, context).square().mean().backward()
        gradients.append(unet.input_blocks[1][0].in_layers[2].weight.grad.clone())
    unet.checkpointing = False
    torch.testing.assert_close(*gradients)
