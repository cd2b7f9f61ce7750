"""One guided step of the full-size video model: the published formulation against ours, at equal output.

Published: fp32, attention as two matrix products with the weights in memory, the prompt and the empty prompt in two
passes. Ours: fused attention, linear layers by oneDNN, small maps in the layout that suits them, one pass over both.
Activations are channels-last and memory of freed tensors is kept for both. Weights are random; what the network
says of each prompt must agree to 1e-5 (relative L2); guidance magnifies the rest. What bf16 brings is told as well.

    python tests/benchmarks/bench_lvdm.py --frames 16 --size 32 --threads 2

Needs 8 GB of memory. Prints seconds per guided step, best of the rounds, and what share they are of the rate that a
convolution of the network or a large matrix product reaches by itself.
"""

import argparse
import resource
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from unittest import mock

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from models import layers, precision
from models.checkpoint import build
from models.layers import Conv2d, Linear
from models.unet import LVDM, VideoUNet

SCALE = 15.0


def einsum_attention(q: Tensor, k: Tensor, v: Tensor, attn_mask: Tensor | None = None) -> Tensor:
    """Attention with all its weights in memory, as in the published implementation without xformers."""
    assert attn_mask is None
    logits = torch.einsum("...id,...jd->...ij", q, k) * q.shape[-1] ** -0.5
    return torch.einsum("...ij,...jd->...id", logits.softmax(-1), v)


@contextmanager
def published() -> Iterator[None]:
    with ExitStack() as patches:
        patches.enter_context(mock.patch.object(layers.F, "scaled_dot_product_attention", einsum_attention))
        patches.enter_context(mock.patch.object(Linear, "forward", nn.Linear.forward))
        patches.enter_context(mock.patch.object(Conv2d, "forward", nn.Conv2d.forward))
        yield


def random_unet() -> VideoUNet:
    """The full-size network with small random weights everywhere, zero-initialised layers included."""
    torch.manual_seed(0)
    unet = build(VideoUNet, LVDM).to_empty(device="cpu").requires_grad_(False)
    for parameter in unet.parameters():
        if parameter.ndim > 1:
            parameter.uniform_(-1, 1).mul_((3 * len(parameter) / parameter.numel()) ** 0.5)
        else:
            parameter.uniform_(-0.1, 0.1)
    for module in unet.modules():
        if isinstance(module, nn.GroupNorm | nn.LayerNorm):
            module.weight.add_(1)
    return unet


def gigaflops(frames: int, size: int) -> dict[str, float]:
    """Of the convolutions and of the matrix products in a guided step."""
    unet = build(VideoUNet, LVDM)
    with torch.device("meta"), published(), FlopCounterMode(display=False) as counter:
        unet(torch.empty(2, 4, frames, size, size), torch.empty(2), torch.empty(2, 77, 768))
    counts = counter.get_flop_counts()["Global"]
    convolutions = counts[torch.ops.aten.convolution] / 1e9
    return {"convolution": convolutions, "matrix product": sum(counts.values()) / 1e9 - convolutions}


def distance(got: Tensor, expected: Tensor) -> float:
    """Relative L2."""
    return ((got - expected).norm() / expected.norm()).item()


class Clock:
    """Seconds of the processors, where others use them too, or of the clock on the wall."""

    def __init__(self, wall: bool, rounds: int):
        self.now, self.rounds = time.perf_counter if wall else time.process_time, rounds

    def best(self, run: Callable[[], Tensor]) -> tuple[float, Tensor]:
        """The shortest of some runs, and what they give."""
        took = []
        for _ in range(self.rounds):
            start = self.now()
            out = run()
            took.append(self.now() - start)
        return min(took), out

    def rate(self, run: Callable[[], Tensor]) -> float:
        """GFLOP/s of a layer by itself, the best of many runs."""
        with FlopCounterMode(display=False) as counter:
            run()
        times = []
        for _ in range(4 * self.rounds):
            start = self.now()
            run()
            times.append(self.now() - start)
        return counter.get_total_flops() / 1e9 / min(times)


def alone(clock: Clock, frames: int, size: int) -> dict[str, float]:
    """GFLOP/s of the two things that a step is made of, each by itself in the way that is quickest here."""
    x = torch.randn(2 * frames, 320, size, size).to(memory_format=torch.channels_last)
    conv = nn.Conv2d(320, 320, 3, padding=1).to(memory_format=torch.channels_last)
    a, weight, linear = torch.randn(4096, 2048), torch.randn(2048, 2048), Linear(2048, 2048)
    return {
        "convolution": clock.rate(lambda: conv(x)),
        "matrix product": max(clock.rate(lambda: F.linear(a, weight)), clock.rate(lambda: linear(a))),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=16)
    parser.add_argument("--size", type=int, default=16, help="height and width of the latent, an eighth of the pixels'")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--wall", action="store_true", help="measure the clock on the wall, on a machine at rest")
    parser.add_argument("--give-back", action="store_true", help="leave freed memory to the C library, as it was")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    clock = Clock(args.wall, args.rounds)

    if not args.give_back:
        precision.hold_memory()

    unet = random_unet()
    x, t = torch.randn(1, 4, args.frames, args.size, args.size), torch.tensor([500])
    cond, uncond = torch.randn(2, 1, 77, 768)
    both = torch.cat([cond, uncond])

    def theirs() -> Tensor:
        with published():
            return torch.cat([unet(x, t, cond), unet(x, t, uncond)])

    def ours() -> Tensor:
        return unet(torch.cat([x, x]), torch.cat([t, t]), both)

    with torch.inference_mode():
        slow, expected = clock.best(theirs)
        fast, got = clock.best(ours)
        reached = alone(clock, args.frames, args.size)
        with precision.autocast("cpu"):
            quick, rough = clock.best(ours)

    def apart(got: Tensor) -> str:
        steps = [uncond + SCALE * (cond - uncond) for cond, uncond in (got.chunk(2), expected.chunk(2))]
        return f"{distance(got, expected):.1e} (guided {distance(*steps):.1e})"

    parts = gigaflops(args.frames, args.size)
    work = sum(parts.values())
    bound = sum(amount / reached[part] for part, amount in parts.items())
    print(f"{args.frames} frames of {8 * args.size}x{8 * args.size}, {work / 1e3:.2f} TFLOP per guided step")
    print(f"published                          {slow:7.1f} s   {work / slow:4.0f} GFLOP/s")
    print(f"ours                               {fast:7.1f} s   {work / fast:4.0f} GFLOP/s, {slow / fast:.2f} times")
    print(f"relative difference of the outputs {apart(got)}")
    for part, rate in reached.items():
        print(f"{part + ' alone':35}{'':11}{rate:4.0f} GFLOP/s, {parts[part] / work:.0%} of the step")
    print(f"the step at these rates            {bound:7.1f} s   ours has {bound / fast:.0%} of them")
    print(f"ours in bf16                       {quick:7.1f} s   {slow / quick:.2f} times, difference {apart(rough)}")
    print(f"most memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.1f} GiB")
    if distance(got, expected) > 1e-5:
        raise SystemExit("the outputs differ")


if __name__ == "__main__":
    main()
