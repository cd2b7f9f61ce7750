"""The full-size video U-Net against the reference, which alone tells where its parts go: 5 GB and half a minute.

Two more clips on request: FULL_SIZE=1 pytest tests/test_published_unet.py
"""

import os

import golden_weights as golden
import pytest
import torch
from einops import rearrange

from models import structure
from models.checkpoint import build, fill
from models.unet import LVDM, VideoUNet

GB = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 1e9
pytestmark = pytest.mark.skipif(GB < 7, reason="needs 5 GB of memory")
on_request = pytest.mark.skipif(os.environ.get("FULL_SIZE") != "1", reason="set FULL_SIZE=1")
KEYS = golden.keys("lvdm")
CLOSE = 1e-5
T = torch.tensor([500])


@pytest.fixture(scope="module")
def unet():
    network = build(VideoUNet, LVDM)
    state = golden.weights(KEYS["unet"]["keys"])
    fill(network, {key: w[:, :, 0] if w.ndim == 5 else w for key, w in state.items()}, "goldens")
    return network.requires_grad_(False)


@pytest.fixture(scope="module")
def reference():
    return golden.load("unet")


@pytest.fixture(scope="module")
def context():
    return golden.randn(1, 1, 77, 768)


@on_request
def test_sixteen_frames_are_denoised_as_by_the_reference(unet, context, reference):
    eps = unet(golden.randn(0, 1, 4, 16, 16, 16), T, context)
    assert golden.relative(eps, reference["unet_a"]) < CLOSE


@on_request
def test_eight_frames_are_denoised_as_by_the_reference(unet, context, reference):
    eps = unet(golden.randn(10, 1, 4, 8, 16, 16), T, context)
    assert golden.relative(eps, reference["unet_c8"]) < CLOSE


def test_structure_steers_as_in_the_reference(unet, context, reference):
    encoder = build(structure.StructureEncoder, structure.LVDM)
    fill(encoder, golden.weights(KEYS["adapter"]["keys"]), "goldens")
    features = encoder.requires_grad_(False)(rearrange(golden.uniform(2, 16, 1, 128, 128), "f c h w -> 1 c f h w"))
    eps = unet(golden.randn(0, 1, 4, 16, 16, 16), T, context, features)
    assert golden.relative(eps, reference["unet_b"]) < CLOSE
