"""Quicker arithmetic and memory change nothing but time and space: the same numbers, and no page faults."""

import platform
import resource
from contextlib import nullcontext
from types import SimpleNamespace

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


def answers(networks, dtype):
    unet, structure = networks
    draw = torch.Generator().manual_seed(1)
    x, context = torch.randn(1, 4, 3, 4, 4, generator=draw), torch.randn(1, 24, 384, generator=draw)
    with torch.autocast("cpu", dtype):
        return unet(x, torch.tensor([400]), context, structure(torch.rand(1, 1, 3, 32, 32, generator=draw)))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_weights_in_half_precision_give_the_bits_that_autocast_gives(networks, dtype):
    before = answers(networks, dtype)
    for network in networks:
        precision.store_in(dtype, network)
    assert torch.equal(answers(networks, dtype), before)


def test_weights_in_bf16_take_half_the_space_but_for_those_that_are_yet_to_change(networks):
    unet, _ = networks
    modulated = set(projections(unet))
    precision.store_in(torch.bfloat16, unet, but=modulated)
    found = {name: layer for name, layer in unet.named_modules() if isinstance(layer, nn.Conv2d | nn.Linear)}
    assert modulated and modulated < found.keys()
    assert {name for name, layer in found.items() if layer.weight.dtype == torch.float32} == modulated
    norms = [layer.weight for layer in unet.modules() if isinstance(layer, nn.GroupNorm | nn.LayerNorm)]
    assert norms and all(weight.dtype == torch.float32 for weight in norms)


@pytest.fixture(params=[7, 8], ids=["before Ampere", "since"])
def generation(request, monkeypatch):
    """A GPU of NVIDIA's, as torch describes it."""
    monkeypatch.setattr(torch.version, "hip", None)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: SimpleNamespace(major=request.param))
    return request.param


def test_a_gpu_that_emulates_bf16_trains_in_fp32_and_renders_in_fp16(generation):
    new = generation >= 8
    assert precision.quick_in_bf16("cuda") is new
    assert isinstance(precision.autocast("cuda"), torch.autocast if new else nullcontext)
    assert precision.drawn_in("cuda") is (torch.bfloat16 if new else torch.float16)


def test_an_exact_model_renders_in_fp16_on_any_gpu(generation):
    assert precision.drawn_in("cuda", exact=True) is torch.float16


def test_other_devices_render_as_they_train(monkeypatch):
    for quick in (True, False):
        monkeypatch.setattr(precision, "quick_in_bf16", lambda device, quick=quick: quick)
        assert precision.drawn_in("cpu", exact=True) is precision.drawn_in("cpu") is (torch.bfloat16 if quick else None)
    assert precision.drawn_in("mps") is None


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
