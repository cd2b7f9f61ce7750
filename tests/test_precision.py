"""Quicker arithmetic and memory change nothing but time and space: the same numbers, and no page faults."""

import platform
import resource

import pytest
import torch
from tiny import STRUCTURE, UNET, randomise
from torch import nn

from models import layers, precision
from models.layers import Linear
from models.personal import projections
from models.structure import StructureEncoder
from models.unet import VideoUNet


@pytest.mark.parametrize("shape", [(7,), (5, 7), (32, 7), (4, 16, 7), (2, 3, 5, 7), (0, 7)])
@pytest.mark.parametrize("bias", [True, False])
def test_a_linear_layer_by_convolution_is_a_linear_layer(shape, bias, monkeypatch):
    monkeypatch.setattr(layers, "WIDE", True)
    torch.manual_seed(0)
    layer, x = Linear(7, 3, bias=bias), torch.randn(shape, requires_grad=True)
    out, expected = layer(x), nn.Linear.forward(layer, x)
    torch.testing.assert_close(out, expected)
    assert out.is_contiguous()
    given = torch.randn_like(out)
    torch.testing.assert_close(torch.autograd.grad(out, x, given), torch.autograd.grad(expected, x, given))


def test_a_linear_layer_obeys_autocast():
    with torch.autocast("cpu", torch.bfloat16):
        assert Linear(7, 3)(torch.randn(16, 7)).dtype == torch.bfloat16


@pytest.fixture
def networks():
    return randomise(VideoUNet(UNET)).eval().requires_grad_(False), StructureEncoder(STRUCTURE).requires_grad_(False)


def answers(networks):
    unet, structure = networks
    draw = torch.Generator().manual_seed(1)
    x, context = torch.randn(1, 4, 3, 4, 4, generator=draw), torch.randn(1, 24, 384, generator=draw)
    with torch.autocast("cpu", torch.bfloat16):
        return unet(x, torch.tensor([400]), context, structure(torch.rand(1, 1, 3, 32, 32, generator=draw)))


def test_weights_in_bf16_give_the_bits_that_autocast_gives(networks):
    before = answers(networks)
    for network in networks:
        precision.in_bf16(network)
    assert torch.equal(answers(networks), before)


def test_weights_in_bf16_take_half_the_space_but_for_those_that_are_yet_to_change(networks):
    unet, _ = networks
    modulated = set(projections(unet))
    precision.in_bf16(unet, but=modulated)
    found = {name: layer for name, layer in unet.named_modules() if isinstance(layer, nn.Conv2d | nn.Linear)}
    assert modulated and modulated < found.keys()
    assert {name for name, layer in found.items() if layer.weight.dtype == torch.float32} == modulated
    norms = [layer.weight for layer in unet.modules() if isinstance(layer, nn.GroupNorm | nn.LayerNorm)]
    assert norms and all(weight.dtype == torch.float32 for weight in norms)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc gives memory back at once")
def test_memory_of_freed_tensors_is_used_again():
    precision.hold_memory()

    def pages_of(tensors: int) -> int:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        for number in range(tensors):
            torch.empty(2**24).fill_(number)  # 64 MB, or 16384 pages
        return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

    pages_of(8)
    assert pages_of(8) < 16384
