"""Noise schedules, and the three ways to name what a denoiser predicts.

A schedule is one fp32 tensor ``alpha_bar`` of shape (steps,): the share of signal power left at diffusion time t, so

    x_t = sqrt(alpha_bar[t]) x0 + sqrt(1 - alpha_bar[t]) eps        (Ho et al. 2020, eq. 4)
    v   = sqrt(alpha_bar[t]) eps - sqrt(1 - alpha_bar[t]) x0        (Salimans and Ho 2022, appendix D)

Everything else follows from these two lines.
"""

import math

import torch
from torch import Tensor


def scaled_linear(start: float = 0.00085, end: float = 0.012, steps: int = 1000) -> Tensor:
    """alpha_bar (steps,) of latent diffusion: sqrt(beta) runs linearly from sqrt(start) to sqrt(end).

    The product is taken in float64 and stored in fp32, as the published checkpoints store it (ldm,
    ``make_beta_schedule``).
    """
    betas = torch.linspace(start**0.5, end**0.5, steps, dtype=torch.float64) ** 2
    return torch.cumprod(1 - betas, dim=0).float()


def cosine(steps: int = 1000, offset: float = 0.008, least_signal: float = 0.005) -> Tensor:
    """alpha_bar (steps,) of the cosine schedule (Nichol and Dhariwal 2021, eq. 17), short of pure noise.

    The angle stops where sqrt(alpha_bar) is ``least_signal``: with no signal left x0 could not be written in terms of
    eps.
    """
    first = offset / (1 + offset) * math.pi / 2
    last = math.acos(least_signal * math.cos(first))
    angle = torch.linspace(first, last, steps + 1, dtype=torch.float64)[1:]
    return (angle.cos() / math.cos(first)).square().float()


def signal_and_noise(alpha_bar: Tensor, t: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    """sqrt(alpha_bar[t]) and sqrt(1 - alpha_bar[t]) of t (b,), shaped and typed to multiply x (b, ...)."""
    a = alpha_bar.double()  # on the CPU, as not every device has float64
    signal, noise = (part.sqrt().to(x.dtype).to(x.device)[t.to(x.device)] for part in (a, 1 - a))
    shape = (-1, *[1] * (x.ndim - 1))
    return signal.reshape(shape), noise.reshape(shape)


def q_sample(x0: Tensor, t: Tensor, noise: Tensor, alpha_bar: Tensor) -> Tensor:
    """x_t: x0 (b, ...) after diffusion to time t (b,) with the given noise (b, ...)."""
    a, s = signal_and_noise(alpha_bar, t, x0)
    return a * x0 + s * noise


def x0_from_eps(eps: Tensor, x_t: Tensor, t: Tensor, alpha_bar: Tensor) -> Tensor:
    """The clean sample that predicted noise eps implies; all (b, ...), t (b,)."""
    a, s = signal_and_noise(alpha_bar, t, x_t)
    return (x_t - s * eps) / a


def eps_from_x0(x0: Tensor, x_t: Tensor, t: Tensor, alpha_bar: Tensor) -> Tensor:
    """The noise that a predicted clean sample x0 implies; all (b, ...), t (b,)."""
    a, s = signal_and_noise(alpha_bar, t, x_t)
    return (x_t - a * x0) / s


def eps_from_v(v: Tensor, x_t: Tensor, t: Tensor, alpha_bar: Tensor) -> Tensor:
    """The noise that predicted velocity v implies; all (b, ...), t (b,)."""
    a, s = signal_and_noise(alpha_bar, t, x_t)
    return a * v + s * x_t


def v_from_eps(eps: Tensor, x0: Tensor, t: Tensor, alpha_bar: Tensor) -> Tensor:
    """The velocity of (x0, eps), the training target of a v-predicting model; all (b, ...), t (b,)."""
    a, s = signal_and_noise(alpha_bar, t, x0)
    return a * eps - s * x0


def min_snr_weight(x0: Tensor, t: Tensor, alpha_bar: Tensor, limit: float, predicts: str) -> Tensor:
    """Weights (b, 1, ...) by which a squared error of "v" or "eps" counts as that of x0 times min(SNR, limit).

    x0 (b, ...), t (b,). Hang et al. 2023.
    """
    a, s = signal_and_noise(alpha_bar, t, x0)
    snr = (a / s).square()
    return snr.clamp(max=limit) / (snr + 1 if predicts == "v" else snr)
