"""Schedules and conversions, against the reference's numbers and against each other."""

from pathlib import Path

import numpy as np
import pytest
import torch

from models import schedule

GOLDENS = Path(__file__).parent / "goldens"


def test_scaled_linear_is_the_published_schedule_to_the_last_bit():
    golden = np.load(GOLDENS / "ddim.npz")["alphas_cumprod"]
    np.testing.assert_array_equal(schedule.scaled_linear(0.00085, 0.012, 1000).numpy(), golden.astype(np.float32))


def test_cosine_falls_from_almost_one_to_the_least_signal():
    alpha_bar = schedule.cosine(1000, least_signal=0.005)
    assert alpha_bar.shape == (1000,) and alpha_bar.dtype == torch.float32
    assert (alpha_bar.diff() < 0).all()
    assert 0.9999 < alpha_bar[0] < 1
    assert alpha_bar[-1].sqrt().item() == pytest.approx(0.005, rel=1e-6)


def test_cosine_is_nichol_and_dhariwals_until_close_to_the_end():
    u = (np.arange(1, 901) / 1000 + 0.008) / 1.008
    published = np.cos(u * np.pi / 2) ** 2 / np.cos(0.008 / 1.008 * np.pi / 2) ** 2
    np.testing.assert_allclose(schedule.cosine(1000)[:900].sqrt(), np.sqrt(published), atol=0.005)


def test_q_sample_is_the_reference_one():
    golden = np.load(GOLDENS / "ddim.npz")["q_sample"]
    x0, noise = (torch.randn(2, 4, 2, 4, 4, generator=torch.Generator().manual_seed(s)) for s in (21, 22))
    x_t = schedule.q_sample(x0, torch.tensor([0, 750]), noise, schedule.scaled_linear())
    np.testing.assert_allclose(x_t.numpy(), golden, rtol=2e-6, atol=1e-6)


@pytest.mark.parametrize("alpha_bar", [schedule.scaled_linear(), schedule.cosine()], ids=["scaled_linear", "cosine"])
def test_every_prediction_leads_back_to_the_pair_that_made_x_t(alpha_bar):
    generator = torch.Generator().manual_seed(0)
    x0, eps = (torch.randn(4, 3, 5, generator=generator, dtype=torch.float64) for _ in range(2))
    t = torch.tensor([0, 1, 500, 999])
    x_t = schedule.q_sample(x0, t, eps, alpha_bar)
    v = schedule.v_from_eps(eps, x0, t, alpha_bar)
    torch.testing.assert_close(schedule.eps_from_v(v, x_t, t, alpha_bar), eps)
    torch.testing.assert_close(schedule.x0_from_eps(eps, x_t, t, alpha_bar), x0, rtol=1e-6, atol=1e-9)
    torch.testing.assert_close(schedule.eps_from_x0(x0, x_t, t, alpha_bar), eps, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("predicts", ["v", "eps"])
def test_min_snr_weighs_the_error_of_the_clean_sample(predicts):
    alpha_bar = schedule.cosine()
    x0, noise, off = torch.randn(3, 4, 2, 2, 5, generator=torch.Generator().manual_seed(3)).double()
    t = torch.tensor([30, 300, 600, 980])
    x_t = schedule.q_sample(x0, t, noise, alpha_bar)
    clean = schedule.x0_from_eps(noise + off, x_t, t, alpha_bar)  # what eps that is ``off`` implies
    wrong = (
        off
        if predicts == "eps"
        else schedule.v_from_eps(noise + off, clean, t, alpha_bar) - schedule.v_from_eps(noise, x0, t, alpha_bar)
    )
    signal, sigma = schedule.signal_and_noise(alpha_bar, t, x0)
    expected = (clean - x0).square() * (signal / sigma).square().clamp(max=5)
    weight = schedule.min_snr_weight(x0, t, alpha_bar, 5.0, predicts)
    torch.testing.assert_close(wrong.square() * weight, expected)
