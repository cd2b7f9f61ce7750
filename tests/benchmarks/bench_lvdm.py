"""One guided step of the full-size video model: the published formulation against ours, at equal output.

Published: fp32, attention as two matrix products with the weights in memory, the prompt and the empty prompt
in two passes. Ours: fused attention, channels-last memory, one pass over both. Weights are random; the
outputs must agree to 1e-5 (relative L2).

    python tests/benchmarks/bench_lvdm.py --frames 16 --size 16 --threads 1

Needs 6 GB of memory. Prints the processor seconds of each way, best of the rounds, and their ratio.
"""

import argparse
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from unittest import mock

import torch
from torch import Tensor

from models import layers
from models.sampler import guided
from models.unet import LVDM, VideoUNet

SCALE = 15.0


def einsum_attention(q: Tensor, k: Tensor, v: Tensor, attn_mask: Tensor | None = None) -> Tensor:
    """Attention with all its weights in memory, as in the published implementation without xformers."""
    assert attn_mask is None
    logits = torch.einsum("...id,...jd->...ij", q, k) * q.shape[-1] ** -0.5
    return torch.einsum("...ij,...jd->...id", logits.softmax(-1), v)


@contextmanager
def published() -> Iterator[None]:
    with mock.patch.object(layers.F, "scaled_dot_product_attention", einsum_attention):
        yield


def random_unet() -> VideoUNet:
    """The full-size network with small random weights everywhere, zero-initialised layers included."""
    torch.manual_seed(0)
    with torch.device("meta"):
        unet = VideoUNet(LVDM)
    unet = unet.to_empty(device="cpu").eval().requires_grad_(False)
    for parameter in unet.parameters():
        if parameter.ndim > 1:
            parameter.uniform_(-1, 1).mul_((3 * len(parameter) / parameter.numel()) ** 0.5)
        else:
            parameter.uniform_(-0.1, 0.1)
    for module in unet.modules():
        if isinstance(module, torch.nn.GroupNorm | torch.nn.LayerNorm):
            module.weight.add_(1)
    return unet


def timed(step: Callable[[], Tensor]) -> tuple[float, Tensor]:
    start = time.process_time()
    out = step()
    return time.process_time() - start, out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=16)
    parser.add_argument("--size", type=int, default=16, help="height and width of the latent, an eighth of the pixels'")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)

    unet = random_unet()
    x, t = torch.randn(1, 4, args.frames, args.size, args.size), torch.tensor([500])
    cond, uncond = torch.randn(2, 1, 77, 768)

    def theirs() -> Tensor:
        with published():
            e_cond, e_uncond = unet(x, t, cond), unet(x, t, uncond)
        return e_uncond + SCALE * (e_cond - e_uncond)

    def ours() -> Tensor:
        both = torch.cat([cond, uncond])
        return guided(lambda x, t: unet(x, t, both), SCALE)(x, t)

    with torch.inference_mode():
        slow = [timed(theirs) for _ in range(args.rounds)]
        unet.to(memory_format=torch.channels_last)
        fast = [timed(ours) for _ in range(args.rounds)]
    expected, got = slow[0][1], fast[0][1]
    difference = ((got - expected).norm() / expected.norm()).item()
    seconds = [min(run[0] for run in runs) for runs in (slow, fast)]
    print(f"relative difference of the outputs {difference:.1e}")
    print(f"published {seconds[0]:.1f} s, ours {seconds[1]:.1f} s per guided step: {seconds[0] / seconds[1]:.2f} times")
    if difference > 1e-5:
        raise SystemExit("the outputs differ")


if __name__ == "__main__":
    main()
