"""Averaging over frames where the structure stands still, and only there."""

import torch

from models.schedule import cosine, eps_from_x0, x0_from_eps
from models.steady import steadied, steady_weights

CELLS = (8, 8)


def scene(shift=0):
    """Two frames of a near block before a far wall; the second has the block moved by ``shift`` pixels."""
    depth = torch.full((1, 1, 2, 64, 64), 0.2)
    depth[..., 0, 16:48, 16:40] = 0.8
    depth[..., 1, 16:48, 16 + shift : 40 + shift] = 0.8
    return depth


def test_frames_of_a_still_scene_count_alike():
    weights = steady_weights(scene(), CELLS, 0.03)
    torch.testing.assert_close(weights, torch.full((2, 2, 8, 8), 0.5))


def test_what_moves_keeps_to_its_own_frame_to_its_middle_and_the_wall_behind_is_shared():
    weights = steady_weights(scene(shift=8), CELLS, 0.03)
    torch.testing.assert_close(weights.sum(1), torch.ones(2, 8, 8))
    assert weights[0, 1, 3, 3] < 1e-6  # the middle of the block, whose own depth did not change
    assert weights[0, 1, 3, 5] < 1e-6  # the wall that the block covers in the other frame
    torch.testing.assert_close(weights[0, 1, 0], torch.full((8,), 0.5))


def test_predictions_are_averaged_as_clean_latents():
    alpha_bar, t = cosine(), torch.tensor([400])
    generator = torch.Generator().manual_seed(0)
    x, x0 = (torch.randn(1, 4, 2, 8, 8, generator=generator) for _ in range(2))
    denoise = steadied(lambda x, t: eps_from_x0(x0, x, t, alpha_bar), steady_weights(scene(), CELLS, 0.03), alpha_bar)
    steady = x0_from_eps(denoise(x, t), x, t, alpha_bar)
    torch.testing.assert_close(steady, x0.mean(2, keepdim=True).expand_as(x0), atol=1e-4, rtol=1e-4)


def test_clean_latents_are_not_rounded_where_networks_run_in_few_bits():
    alpha_bar, t = cosine(), torch.tensor([400])
    x, x0 = (torch.randn(1, 4, 2, 8, 8, generator=torch.Generator().manual_seed(n)) for n in (0, 1))
    denoise = steadied(lambda x, t: eps_from_x0(x0, x, t, alpha_bar), steady_weights(scene(), CELLS, 0.03), alpha_bar)
    exact = denoise(x, t)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(denoise(x, t), exact)
