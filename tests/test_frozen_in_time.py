"""Frozen in Time at its published size against the reference, and at a small size by itself."""

import dataclasses
import json

import golden_weights as golden
import pytest
import torch

from models.checkpoint import build, fill
from models.frozen_in_time import (
    PUBLISHED,
    STORYBOOK,
    FrozenInTime,
    frame_indices,
    norm_softmax_loss,
    preprocess,
    resize_temporal,
)
from models.metrics import cosine

SMALL = dataclasses.replace(STORYBOOK, depth=2, dim=24, heads=2, image_size=32, resize=32)


@pytest.fixture(scope="module")
def reference():
    return golden.load("frozen_in_time")


@pytest.fixture(scope="module")
def fit():
    network = build(FrozenInTime, PUBLISHED)
    fill(network, golden.weights(golden.keys("frozen_in_time")["state_dict"]), "goldens")
    return network.requires_grad_(False)


@pytest.fixture(scope="module")
def x4():
    return golden.randn(0, 2, 4, 3, 224, 224).transpose(1, 2)  # the reference takes frames before channels


def test_it_has_the_published_keys_and_shapes():
    shapes = {key: list(tensor.shape) for key, tensor in build(FrozenInTime, PUBLISHED).state_dict().items()}
    assert shapes == golden.keys("frozen_in_time")["state_dict"]


def test_four_frames_give_the_reference_embedding(fit, x4, reference):
    torch.testing.assert_close(fit.video_model(x4), reference["v4_feat"], rtol=0, atol=1e-4)
    torch.testing.assert_close(fit.encode_video(x4), reference["v4_embed"], rtol=0, atol=1e-4)


def test_one_frame_gives_the_reference_embedding(fit, x4, reference):
    torch.testing.assert_close(fit.encode_video(x4[:, :, :1]), reference["v1_embed"], rtol=0, atol=1e-4)


def test_the_first_block_is_the_references_step_by_step(fit, x4, reference):
    rows = [0, 1, 196, 197, 392, 784]
    block = fit.video_model.blocks[0]
    x = fit.video_model.embed(x4[:1])
    time = block.timeattn(block.norm3(x), 4, "time")
    space = block.attn(block.norm1(x + time), 4, "space")
    steps = {"embed": x, "b0time": time, "b0space": space, "block0": block(x, 4)}
    for name, value in steps.items():
        assert golden.relative(value[0, rows], reference[f"v4_tok_{name}"]) < 1e-5, name


def test_text_gives_the_reference_embedding(fit, reference):
    embedding = fit.encode_text(reference["text_ids"], reference["text_mask"])
    torch.testing.assert_close(embedding, reference["text_embed"], rtol=0, atol=1e-4)


def test_the_tokenizer_gives_the_reference_ids(fit, reference):
    ids, mask = fit.tokenize(
        [
            "A dog is running on the beach.",
            "An astronaut, in a white spacesuit, walks through a foggy forest at night",
            "Caf\N{LATIN SMALL LETTER E WITH ACUTE}",
        ]
    )
    assert torch.equal(ids, reference["text_ids"])
    assert torch.equal(mask, reference["text_mask"])


def test_loss_is_the_reference_one(reference):
    similarity = cosine(reference["text_embed"][:2], reference["v4_embed"])
    torch.testing.assert_close(norm_softmax_loss(similarity), reference["loss_2x2"], rtol=1e-5, atol=1e-6)
    six = golden.load("frozen_in_time_preprocess")
    torch.testing.assert_close(norm_softmax_loss(six["loss6_in"]), six["loss6"], rtol=1e-5, atol=1e-6)


def test_preprocessing_is_the_reference_one():
    pixels = torch.randint(0, 256, (2, 3, 180, 320), generator=torch.Generator().manual_seed(11)) / 255
    video = (2 * pixels - 1).transpose(0, 1)[None]
    seen = preprocess(video, dataclasses.replace(PUBLISHED, num_frames=2))[0].transpose(0, 1)
    expected = golden.load("frozen_in_time_preprocess")["tfm_aa0_s8"]
    torch.testing.assert_close(seen[:, :, ::8, ::8], expected, rtol=0, atol=2e-5)


def test_short_videos_are_filled_with_zeros_after_normalisation():
    seen = preprocess(torch.ones(1, 3, 2, 50, 40), SMALL)
    assert seen.shape == (1, 3, 4, 32, 32)
    assert seen[:, :, :2].amin() > 2
    assert not seen[:, :, 2:].any()


@pytest.mark.parametrize(
    ("request_", "expected"),
    json.loads((golden.GOLDENS / "frame_indices.json").read_text())["uniform"].items(),
)
def test_frame_indices_are_the_reference_ones(request_, expected):
    assert frame_indices(*map(int, request_.split(","))) == expected


def test_a_larger_network_fed_fewer_frames_ignores_the_frames_it_lacks():
    torch.manual_seed(0)
    eight = FrozenInTime(dataclasses.replace(SMALL, num_frames=8)).eval()
    torch.nn.init.normal_(eight.video_model.temporal_embed)
    four = FrozenInTime(SMALL).eval()
    state = eight.state_dict()
    key = "video_model.temporal_embed"
    four.load_state_dict({**state, key: resize_temporal(state[key], 4)})
    video = torch.randn(2, 3, 4, 32, 32)
    with torch.no_grad():
        assert torch.equal(eight.encode_video(video), four.encode_video(video))


def test_more_frames_or_another_size_than_the_network_knows_are_refused():
    small = FrozenInTime(SMALL)
    for shape in [(1, 3, 5, 32, 32), (1, 3, 4, 48, 32)]:
        with pytest.raises(ValueError, match="up to 4 frames of 32x32"):
            small.encode_video(torch.zeros(shape))


@pytest.mark.parametrize(
    ("mode", "expected"),
    [("zeros", [1, 2, 0, 0]), ("interp", [1, 1, 2, 2]), ("bilinear", [1, 1.25, 1.75, 2])],
)
def test_the_temporal_embedding_stretches_as_in_the_reference(mode, expected):
    rows = torch.tensor([1.0, 2.0])[None, :, None].expand(1, 2, 3)
    assert resize_temporal(rows, 4, mode)[0].tolist() == [[value] * 3 for value in expected]


def test_a_new_network_is_an_image_network_until_its_time_branch_learns():
    torch.manual_seed(0)
    small = FrozenInTime(SMALL)
    video = torch.randn(2, 3, 4, 32, 32)
    block = small.video_model.blocks[0]
    assert not block.timeattn(block.norm3(small.video_model.embed(video)), 4, "time").any()
    small.encode_video(video).square().sum().backward()
    gradient = block.timeattn.proj.weight.grad
    assert gradient.norm() > 0
    assert not torch.allclose(gradient[:, :1], gradient)  # channels can learn different things
