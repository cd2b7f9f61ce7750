"""Samplers, against the reference's trajectories and against an equation that can be solved on paper."""

from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from models.sampler import clip_noise, ddim, ddim_times, dpm_solver_pp_2m, dpm_times, from_v, gaussian, guided
from models.schedule import cosine, scaled_linear

GOLDENS = Path(__file__).parent / "goldens"


@pytest.fixture(scope="module")
def golden():
    return {name: torch.from_numpy(array) for name, array in np.load(GOLDENS / "ddim.npz").items()}


def toy(c):
    """The goldens' network: eps(x, t, c) = c0 x + c1 t / 1000."""
    return lambda x, t: c[0] * x + c[1] * t.reshape(-1, 1, 1, 1, 1) / 1000


def toy_of_both(x, t):
    """The same with the batch twice over: c = [0.1, 0.01] for the prompt's half, [0.08, 0] for the other."""
    (x_cond, x_uncond), (t_cond, t_uncond) = x.chunk(2), t.chunk(2)
    return torch.cat([toy((0.1, 0.01))(x_cond, t_cond), toy((0.08, 0.0))(x_uncond, t_uncond)])


def relative(a, b):
    return ((a - b).norm() / b.norm()).item()


@pytest.mark.parametrize("num_steps", [4, 50])
def test_ddim_visits_the_reference_times(golden, num_steps):
    assert ddim_times(num_steps) == golden[f"timesteps_S{num_steps}"].tolist()[::-1]


@pytest.mark.parametrize(("asked", "taken"), [(6, 7), (7, 8), (15, 16), (30, 31), (60, 63), (64, 67), (100, 100)])
def test_ddim_takes_more_steps_where_they_do_not_divide_the_schedule(asked, taken):
    assert len(ddim_times(asked)) == taken


@pytest.mark.parametrize("num_steps", [-1, 0, 3, 9, 27, 36, 37, 101, 111, 251, 333, 501, 1000, 1001])
def test_ddim_refuses_step_counts_that_run_past_the_schedule(num_steps):
    with pytest.raises(ValueError, match=str(num_steps)):
        next(ddim(toy((0, 0)), torch.zeros(1, 4, 2, 4, 4), scaled_linear(), num_steps=num_steps))


@pytest.mark.parametrize("eta", [0, 1])
def test_ddim_follows_the_reference_trajectory(golden, eta):
    fresh = iter(golden["eta1_noise"]).__next__
    steps = list(ddim(guided(toy_of_both, 15.0), golden["xT"], scaled_linear(), 4, float(eta), fresh=fresh))
    assert [i for i, _, _ in steps] == [0, 1, 2, 3]
    for i, x_t, x0 in steps:
        assert relative(x_t, golden[f"eta{eta}_cfg15_x"][i]) < 2e-6
        assert relative(x0, golden[f"eta{eta}_cfg15_x0"][i]) < 2e-6


def test_a_seed_gives_the_same_sample_twice_and_another_seed_another():
    def sample(seed):
        generator = torch.Generator().manual_seed(seed)
        fresh = partial(gaussian, (1, 4, 2, 4, 4), generator)
        return final(ddim(toy((0.1, 0.0)), fresh(), scaled_linear(), 10, eta=1.0, fresh=fresh))

    assert torch.equal(sample(3), sample(3))
    assert not torch.allclose(sample(3), sample(4))


# Data drawn from N(mean, std^2): eps is linear in x, and the path of DDIM's equation is known. With
# s(t)^2 = alpha^2 std^2 + sigma^2 it keeps (x - alpha mean) / s unchanged.
MEAN, STD = 0.7, 0.5


def gaussian_denoise(alpha_bar):
    def denoise(x, t):
        a = alpha_bar.double()[t].reshape(-1, 1)
        return (1 - a).sqrt() * (x - a.sqrt() * MEAN) / (a * STD**2 + 1 - a)

    return denoise


def solution(x_start, start, end):
    (a, b) = (start.double(), end.double())
    spread = ((b * STD**2 + 1 - b) / (a * STD**2 + 1 - a)).sqrt()
    return b.sqrt() * MEAN + spread * (x_start - a.sqrt() * MEAN)


def final(steps):
    return list(steps)[-1][1]


def test_dpm_solver_converges_with_second_order_and_ddim_with_first():
    alpha_bar = torch.sigmoid(2 * torch.linspace(1.5, -1.5, 16000, dtype=torch.float64))  # log-SNR falls linearly
    denoise = gaussian_denoise(alpha_bar)
    x_T = gaussian((64, 3), 0).double()

    def orders(sampler, times):
        errors = []
        for n in (40, 80, 160):
            exact = solution(x_T, alpha_bar[times(n, 16000)[0]], alpha_bar[0])
            errors.append(relative(final(sampler(denoise, x_T, alpha_bar, n)), exact))
        return np.log2(errors[:-1]) - np.log2(errors[1:])

    assert orders(dpm_solver_pp_2m, dpm_times) == pytest.approx([2, 2], abs=0.2)
    assert orders(ddim, ddim_times) == pytest.approx([1, 1], abs=0.1)


def test_twenty_dpm_steps_come_nearer_than_two_hundred_ddim_steps():
    alpha_bar = cosine()
    denoise = gaussian_denoise(alpha_bar)
    x_T = gaussian((64, 3), 0).double()
    exact = solution(x_T, alpha_bar[-1], alpha_bar[0])
    twenty = relative(final(dpm_solver_pp_2m(denoise, x_T, alpha_bar, 20)), exact)
    assert twenty < 1e-3
    assert twenty < relative(final(ddim(denoise, x_T, alpha_bar, 200)), exact)


def stochastic(alpha_bar, x_T, num_steps, seed=0):
    generator = torch.Generator().manual_seed(seed)

    def fresh():
        return torch.randn(x_T.shape, generator=generator, dtype=x_T.dtype)

    return final(dpm_solver_pp_2m(gaussian_denoise(alpha_bar), x_T, alpha_bar, num_steps, fresh=fresh))


def test_fresh_noise_keeps_the_distribution():
    made = stochastic(cosine(), gaussian((20_000, 3), 0).double(), 100)
    assert made.mean().item() == pytest.approx(MEAN, abs=0.01)
    assert made.std().item() == pytest.approx(STD, rel=0.02)


def test_fresh_noise_makes_up_for_a_wrong_beginning():
    """The ordinary equation carries it through to the sample; the stochastic one forgets it."""
    alpha_bar, astray = cosine(), 2 * gaussian((20_000, 1), 0).double()
    ordinary = final(dpm_solver_pp_2m(gaussian_denoise(alpha_bar), astray, alpha_bar, 24))
    assert ordinary.std().item() == pytest.approx(2 * STD, rel=0.02)
    assert stochastic(alpha_bar, astray, 24).std().item() == pytest.approx(STD, rel=0.1)


def test_fresh_noise_comes_from_its_seed():
    x_T = gaussian((8, 3), 0).double()
    first, again, other = (stochastic(cosine(), x_T, 12, seed) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.allclose(first, other)


def test_ddim_goes_on_from_the_middle_as_if_it_had_come_there_itself():
    alpha_bar = scaled_linear()
    denoise = gaussian_denoise(alpha_bar)
    whole = list(ddim(denoise, gaussian((64, 3), 0).double(), alpha_bar, 50))
    rest = list(ddim(denoise, whole[19][1], alpha_bar, times=ddim_times(50)[20:]))
    assert len(rest) == 30
    torch.testing.assert_close(rest[-1][1:], whole[-1][1:], rtol=0, atol=0)


def test_both_samplers_agree_in_the_limit_of_many_steps():
    alpha_bar = scaled_linear()
    denoise = gaussian_denoise(alpha_bar)
    x_T = gaussian((64, 3), 0).double()
    many = final(ddim(denoise, x_T, alpha_bar, 500))
    assert relative(final(dpm_solver_pp_2m(denoise, x_T, alpha_bar, 500)), many) < 5e-3


def test_a_v_predicting_model_samples_like_the_eps_predicting_one():
    alpha_bar = cosine()
    denoise = gaussian_denoise(alpha_bar)

    def predict_v(x, t):
        a = alpha_bar.double()[t].reshape(-1, 1)
        return (denoise(x, t) - (1 - a).sqrt() * x) / a.sqrt()

    x_T = gaussian((8, 3), 1).double()
    torch.testing.assert_close(
        final(dpm_solver_pp_2m(from_v(predict_v, alpha_bar), x_T, alpha_bar, 12)),
        final(dpm_solver_pp_2m(denoise, x_T, alpha_bar, 12)),
    )


def test_frames_can_share_a_part_of_their_noise():
    noise = clip_noise((1, 8, 4, 64, 64), 0.3, seed=0)
    assert noise.var().item() == pytest.approx(1, abs=0.02)
    frames = noise.transpose(1, 2).flatten(3).flatten(0, 1).flatten(1)
    between = torch.corrcoef(frames)[~torch.eye(4, dtype=torch.bool)]
    assert between.numpy() == pytest.approx(0.3, abs=0.03)


def test_noise_that_shares_nothing_is_plain_noise():
    assert torch.equal(clip_noise((1, 2, 3, 4, 4), 0.0, seed=5), gaussian((1, 2, 3, 4, 4), 5))


@pytest.mark.parametrize("num_steps", [0, 1000])
def test_dpm_solver_refuses_step_counts_the_schedule_cannot_hold(num_steps):
    with pytest.raises(ValueError, match=str(num_steps)):
        next(dpm_solver_pp_2m(toy((0, 0)), torch.zeros(1, 4, 2, 4, 4), scaled_linear(), num_steps))
