"""From noise to sample: DDIM and DPM-Solver++(2M).

Both are generators with one contract. ``denoise(x, t)`` takes x (b, ...) and integer times t (b,) and returns
the noise eps (b, ...). Each step yields ``(i, x_t, x0)``: its index, the state after it and the clean sample
it predicted; the last ``x_t`` is the sample. Guidance, structure and characters are composed into
``denoise``; progress and previews belong to the caller. Noise is drawn by a CPU generator and then moved, so
that a seed means the same on every device.
"""

import math
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from models.schedule import eps_from_v
from models.times import ddim_times, dpm_times

Denoise = Callable[[Tensor, Tensor], Tensor]
Step = tuple[int, Tensor, Tensor]


def guided(denoise: Denoise, scale: float) -> Denoise:
    """Classifier-free guidance (Ho and Salimans 2022) in one forward pass: eps_u + scale (eps_c - eps_u).

    ``denoise`` is called with the batch twice over, (2b, ...): the first half is to be conditioned on the
    prompts, the second half on the negative or empty ones. At scale 1 these cancel: it is called with the first half
    alone.
    """
    if scale == 1:
        return denoise

    def guided_denoise(x: Tensor, t: Tensor) -> Tensor:
        cond, uncond = denoise(torch.cat([x, x]), torch.cat([t, t])).chunk(2)
        return uncond + scale * (cond - uncond)

    return guided_denoise


def from_v(predict_v: Denoise, alpha_bar: Tensor) -> Denoise:
    """A v-predicting model as a ``denoise`` function."""
    return lambda x, t: eps_from_v(predict_v(x, t), x, t, alpha_bar)


def gaussian(shape: Sequence[int], seed: int | torch.Generator, device: torch.device | str = "cpu") -> Tensor:
    """Standard normal noise of a shape, drawn on the CPU and then moved."""
    generator = seed if isinstance(seed, torch.Generator) else torch.Generator().manual_seed(seed)
    return torch.randn(tuple(shape), generator=generator).to(device)


def clip_noise(
    shape: Sequence[int], shared: float, seed: int | torch.Generator, device: torch.device | str = "cpu"
) -> Tensor:
    """Standard normal noise (b, c, f, h, w), part of whose variance all frames share (Ge et al. 2023)."""
    generator = seed if isinstance(seed, torch.Generator) else torch.Generator().manual_seed(seed)
    own = gaussian(shape, generator, device)
    if shared == 0 or shape[2] == 1:
        return own
    common = gaussian((*shape[:2], 1, *shape[3:]), generator, device)
    return shared**0.5 * common + (1 - shared) ** 0.5 * own


@torch.no_grad()
def ddim(
    denoise: Denoise,
    x_T: Tensor,
    alpha_bar: Tensor,
    num_steps: int = 50,
    eta: float = 0.0,
    *,
    times: Sequence[int] | None = None,
    fresh: Callable[[], Tensor] | None = None,
) -> Iterator[Step]:
    """DDIM (Song et al. 2021, eq. 12), deterministic at eta 0 and ancestral at eta 1.

    x_T (b, ...) is standard normal, alpha_bar (steps,). As in the reference the times are those of
    ``ddim_times`` and the last step ends at alpha_bar[0], not at 1. Other falling ``times`` may begin in the middle,
    from a state of that time: a sample that noise has half undone is drawn again (SDEdit, Meng et al. 2022). With eta
    above 0 ``fresh()`` gives the noise (b, ...) that every step adds, the last one too. Raises ValueError for a number
    of steps that the schedule cannot hold.
    """
    times = times or ddim_times(num_steps, len(alpha_bar))
    signal = alpha_bar.double().tolist()
    x = x_T
    for i, (t, t_prev) in enumerate(zip(times, [*times[1:], 0], strict=True)):
        a, a_prev = signal[t], signal[t_prev]
        sigma = eta * ((1 - a_prev) / (1 - a) * (1 - a / a_prev)) ** 0.5
        eps = denoise(x, torch.full((len(x),), t, device=x.device))
        x0 = (x - (1 - a) ** 0.5 * eps) / a**0.5
        x = a_prev**0.5 * x0 + (1 - a_prev - sigma**2) ** 0.5 * eps
        if sigma > 0:
            x = x + sigma * fresh()
        yield i, x, x0


@torch.no_grad()
def dpm_solver_pp_2m(
    denoise: Denoise,
    x_T: Tensor,
    alpha_bar: Tensor,
    num_steps: int = 20,
    *,
    fresh: Callable[[], Tensor] | None = None,
) -> Iterator[Step]:
    """DPM-Solver++(2M) (Lu et al. 2022, algorithm 2): DDIM's equation to second order, in 15 to 25 steps.

    x_T (b, ...) is standard normal, alpha_bar (steps,). It starts at the last time of the schedule, where
    zero-signal models must start, and ends at alpha_bar[0] like ``ddim``. The last step is of first order:
    its interval is the longest in log-SNR, and extrapolating over it would ring. Raises ValueError for a
    number of steps that the schedule cannot hold.

    With ``fresh``, which draws standard normal noise like x_T, the stochastic equation is solved in place of the
    ordinary one (SDE-DPM-Solver++(2M), in the same paper): every step but the last takes noise away and adds some anew,
    and with what it takes goes some of what the steps before got wrong.
    """
    times = dpm_times(num_steps, len(alpha_bar))
    a = alpha_bar.double()[times]
    alpha, sigma = a.sqrt().tolist(), (1 - a).sqrt().tolist()
    lam = (0.5 * (a / (1 - a)).log()).tolist()
    x, x0_before = x_T, None
    for i, t in enumerate(times[:-1]):
        eps = denoise(x, torch.full((len(x),), t, device=x.device))
        x0 = (x - sigma[i] * eps) / alpha[i]
        h = lam[i + 1] - lam[i]
        last = i == num_steps - 1
        towards = x0
        if i > 0 and not last:
            r = (lam[i] - lam[i - 1]) / h
            towards = x0 + (x0 - x0_before) / (2 * r)
        if fresh is None or last:
            x = sigma[i + 1] / sigma[i] * x - alpha[i + 1] * math.expm1(-h) * towards
        else:
            renewed = -math.expm1(-2 * h)  # of the noise's variance
            x = sigma[i + 1] / sigma[i] * math.exp(-h) * x + alpha[i + 1] * renewed * towards
            x = x + sigma[i + 1] * renewed**0.5 * fresh()
        x0_before = x0
        yield i, x, x0
