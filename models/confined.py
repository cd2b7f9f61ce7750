"""Several characters in one clip, each confined to where it stands.

Merged into one set of weights, two characters would blend. Here every layer that a character modulates keeps its
weights apart: a place in the picture is drawn, asks, and in self-attention answers, with the weights of the character
that has it, and reads that character's own prompt. Where two meet, both have a say.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from models.layers import Attention
from models.personal import PROJECTIONS, convolutions, merged, parameter_of, projections, replace_module
from models.steady import BEHIND, IN_FRONT

ROUNDS = 3  # of Lloyd's algorithm in every frame
PULL = 0.5  # of a frame on where a character was in the one before
BORDER = 0.7  # cells; how softly two regions meet


@dataclass(slots=True)
class Regions:
    """Who has which place, and what each reads at a diffusion time, which ``turn_to`` sets before every step.

    shares (r, f, h, w) sum to 1 over the r characters; contexts (r, b, l, d) by diffusion time; masks (r, b, l) of what
    are words in them, or None. A compiled network reads the tensor ``context`` alone: a time to look it up by would be
    a number in its graph, which would be compiled again for every step.
    """

    shares: Tensor
    contexts: Mapping[int, Tensor]
    masks: Tensor | None
    context: Tensor = field(init=False)

    def turn_to(self, now: int) -> None:
        self.context = self.contexts[now]

    def on(self, x: Tensor) -> Tensor:
        """The shares (r, n, 1, h, w) of maps x (n, c, h, w): the frames of b clips."""
        shares = F.avg_pool2d(self.shares, self.shares.shape[-1] // x.shape[-1])
        return shares.repeat(1, len(x) // shares.shape[1], 1, 1)[:, :, None]

    def over(self, x: Tensor) -> Tensor:
        """The shares (r, n, tokens, 1) of tokens x (n, tokens, c): places of b clips, together or frame by frame."""
        b, (r, f, h, w), (n, tokens, _) = self.context.shape[1], self.shares.shape, x.shape
        coarser = math.isqrt(b * f * h * w // (n * tokens))
        shares = F.avg_pool2d(self.shares, coarser)
        return shares[:, None].expand(-1, b, -1, -1, -1).reshape(r, n, tokens, 1)


class ConfinedAttention(nn.Module):
    """As ``Attention``, with the weights of several characters: one matrix each for every projection."""

    def __init__(self, attention: Attention, weights: Mapping[str, Sequence[Tensor]], regions: Regions):
        super().__init__()
        self.attention, self.weights, self.regions = attention, weights, regions

    def forward(self, x: Tensor, context: Tensor | None = None, mask: Tensor | None = None) -> Tensor:
        shares = self.regions.over(x)
        if context is None:
            return self.attention.to_out(attend(*(self.mixed(name, x, shares) for name in PROJECTIONS)))
        q = self.mixed("to_q", x, shares)
        read = []
        for r in range(len(shares)):
            k, v = (self.projected(name, self.regions.context[r], r) for name in ("to_k", "to_v"))
            words = None if self.regions.masks is None else self.regions.masks[r][:, None, None]
            read.append(attend(q, k, v, words))
        return self.attention.to_out(blend(read, shares))

    def mixed(self, name: str, x: Tensor, shares: Tensor) -> Tensor:
        """A projection of places (n, tokens, c), each by the weights of whoever has it, in heads."""
        return blend([self.projected(name, x, r) for r in range(len(shares))], shares[:, :, None])

    def projected(self, name: str, x: Tensor, r: int) -> Tensor:
        return self.attention.split(F.linear(x, self.weights[name][r]))


class ConfinedConvolution(nn.Module):
    """As a convolution, with the weights of several characters."""

    def __init__(self, convolution: nn.Conv2d, weights: Sequence[Tensor], regions: Regions):
        super().__init__()
        self.convolution, self.weights, self.regions = convolution, weights, regions

    def forward(self, x: Tensor) -> Tensor:
        drawn = [functional_call(self.convolution, {"weight": weight}, x) for weight in self.weights]
        return blend(drawn, self.regions.on(x))


def blend(each: Sequence[Tensor], shares: Tensor) -> Tensor:
    return sum(share.to(one.dtype) * one for share, one in zip(shares, each, strict=True))


def attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
    """Heads (n, heads, tokens, c / heads) -> (n, tokens, c)."""
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask).transpose(1, 2).flatten(2)


@contextmanager
def confined(unet: nn.Module, cast: Sequence[Mapping[str, Tensor]], regions: Regions) -> Iterator[None]:
    """A U-Net with the tensors of several characters in force, each in its region; afterwards exactly what it was.

    All of them have to be ``confinable``.
    """
    own = [merged(unet, tensors) for tensors in cast]

    def weights_of(layer: str) -> list[Tensor]:
        plain = unet.get_parameter(f"{layer}.weight")
        return [mine.get(f"{layer}.weight", plain) for mine in own]

    plain = {}
    try:
        for name in sorted({name.rpartition(".")[0] for name in projections(unet)}):
            plain[name] = attention = unet.get_submodule(name)
            weights = {projection: weights_of(f"{name}.{projection}") for projection in PROJECTIONS}
            replace_module(unet, name, ConfinedAttention(attention, weights, regions))
        for name in convolutions(unet):
            if any(f"{name}.weight" in mine for mine in own):
                plain[name] = convolution = unet.get_submodule(name)
                replace_module(unet, name, ConfinedConvolution(convolution, weights_of(name), regions))
        yield
    finally:
        for name, module in plain.items():
            replace_module(unet, name, module)


def confinable(unet: nn.Module, tensors: Mapping[str, Tensor]) -> bool:
    """Whether a character changes only what branches can, and not, as DreamBooth does, all of a U-Net."""
    layers = projections(unet) + convolutions(unet)
    return set(map(parameter_of, tensors)) <= {f"{name}.weight" for name in layers}


def standing_apart(depth: Tensor, count: int, cells: tuple[int, int]) -> Tensor:
    """Shares (count, f, h, w) of figures that stand side by side, from left to right; they sum to 1.

    depth (1,1,f,H,W) in [0, 1]. What stands before the rest of its row is divided among ``count`` centres, which
    follow it from frame to frame; every column of cells belongs to the nearest centre.
    """
    frames = depth[0, 0]
    before = (frames - frames.quantile(BEHIND, dim=-1, keepdim=True) - IN_FRONT).clamp(min=0)
    mass = F.adaptive_avg_pool2d(before, cells).sum(1) + 1e-6  # (f, w)
    x = torch.arange(cells[1], device=depth.device) + 0.5
    reached = mass.sum(0).cumsum(0) / mass.sum()
    wanted = (torch.arange(count, device=depth.device) + 0.5) / count
    centres = x[torch.searchsorted(reached, wanted).clamp(max=cells[1] - 1)]
    shares = []
    for row in mass:
        moved = centres
        for _ in range(ROUNDS):
            nearest = F.one_hot((x[:, None] - moved).abs().argmin(1), count) * row[:, None]
            weight = nearest.sum(0)
            moved = torch.where(weight > 0, (nearest * x[:, None]).sum(0) / weight.clamp(min=1e-9), moved)
        centres = torch.lerp(centres, moved, PULL)
        shares.append((-(x - centres[:, None]).abs() / BORDER).softmax(0))
    return torch.stack(shares, 1)[:, :, None].expand(-1, -1, cells[0], -1)
