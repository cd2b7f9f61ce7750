"""How many steps of the quick sampler are as good as 50 of DDIM: the distance of what they make from many steps.

The built-in model renders the same clips, from the same noise, in fp32, with more and more steps of either sampler.
What 200 steps make is taken for the solution, by each sampler in turn, as they start at slightly different times. The
same is told of points drawn from a mixture of Gaussians on the noise schedule of the paper's model, where the denoiser
is known exactly.

    python tests/benchmarks/bench_sampler.py

Takes 10 minutes on two cores. Prints relative L2 distances; a step costs the same in both samplers.
"""

import argparse
from contextlib import nullcontext
from functools import partial
from unittest import mock

import torch
from torch import Tensor

from models import precision
from models.sampler import ddim, dpm_solver_pp_2m, gaussian
from models.schedule import scaled_linear
from storycli.render import load_model, sample

PROMPTS = ("a fox running in a forest", "a bear dancing on a beach")
STEPS = {"ddim": (20, 50, 100, 200), "dpm": (6, 8, 10, 12, 15, 20, 200)}
SAMPLERS = {"ddim": ddim, "dpm": dpm_solver_pp_2m}
MANY = 200


def walking(frames: int, size: int) -> Tensor:
    """Depth (1,1,f,H,W) of a figure that crosses a stage which rises towards the front."""
    rows, columns = torch.meshgrid(torch.linspace(0, 1, size), torch.linspace(0, 1, size), indexing="ij")
    path = torch.linspace(0.3, 0.7, frames)
    figure = [((columns - x) ** 2 + (rows - 0.6) ** 2 < 0.04).float() for x in path]
    return torch.stack([torch.maximum(0.5 * rows, one) for one in figure])[None, None]


def mixture(alpha_bar: Tensor, x: Tensor, t: Tensor) -> Tensor:
    """eps of points (n, d) that come from 32 narrow Gaussians."""
    centres = 1.5 * gaussian((32, x.shape[1]), 7).double()
    a = alpha_bar.double()[t[0]]
    variance = a * 0.2**2 + 1 - a
    away = x[:, None] - a.sqrt() * centres
    share = (-away.square().sum(-1) / (2 * variance)).softmax(1)
    score = -(share[..., None] * away).sum(1) / variance
    return -((1 - a).sqrt()) * score


def of_mixture(sampler: str, steps: int) -> Tensor:
    alpha_bar = scaled_linear()
    x_T = gaussian((512, 4), 1).double()
    return list(SAMPLERS[sampler](partial(mixture, alpha_bar), x_T, alpha_bar, steps))[-1][1]


def of_clips(sampler: str, steps: int, frames: int) -> Tensor:
    model, depth = load_model("storybook"), walking(frames, 128)
    how = dict(seed=3, steps=steps, guidance=4.0, tau=0.2, sampler=sampler)
    return torch.cat([sample(model, prompt, depth, **how) for prompt in PROMPTS])


def tell(title: str, made: dict[tuple[str, int], Tensor]) -> None:
    print(f"{title}\n{'':14}{'from 200 of ddim':>18}{'from 200 of dpm':>18}")
    for (sampler, steps), got in made.items():
        apart = [((got - made[other, MANY]).norm() / made[other, MANY].norm()).item() for other in SAMPLERS]
        print(f"{sampler:5}{steps:5}    {apart[0]:18.4f}{apart[1]:18.4f}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=8)
    args = parser.parse_args()
    runs = [(sampler, steps) for sampler, counts in STEPS.items() for steps in counts]
    tell("mixture of Gaussians", {run: of_mixture(*run) for run in runs})
    with mock.patch.object(precision, "autocast", return_value=nullcontext()):
        tell("clips", {run: of_clips(*run, args.frames) for run in runs})


if __name__ == "__main__":
    main()
