"""A character of one's own: a pseudo-word that changes with diffusion time, and low-rank branches.

TimeInv and low-rank weight modulation of the paper; textual inversion is the table with one row.
"""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from models.layers import Conv2d, ResBlock


class TimeInv(nn.Module):
    """A table of token embeddings V (rows, d) for one pseudo-word, looked up by diffusion time.

    With as many rows as the schedule has steps this is timestep-variable textual inversion; with one row it is
    textual inversion (Gal et al. 2022).
    """

    def __init__(self, start: Tensor, rows: int, num_steps: int = 1000):
        super().__init__()
        self.table = nn.Parameter(start.expand(rows, -1).clone())
        self.num_steps = num_steps

    def forward(self, t: Tensor) -> Tensor:
        """t (b,) -> the word's embedding at that time (b, d)."""
        return self.table[t * len(self.table) // self.num_steps]


class LowRank(nn.Module):
    """A frozen layer with a trainable branch: W x + B A x, with B starting at zero (Hu et al. 2021).

    Of a convolution, A has the kernel and B is one pixel wide.
    """

    def __init__(self, layer: nn.Linear | nn.Conv2d, rank: int):
        super().__init__()
        self.layer = layer
        if isinstance(layer, nn.Conv2d):
            how = dict(kernel_size=layer.kernel_size, stride=layer.stride, padding=layer.padding)
            self.down = Conv2d(layer.in_channels, rank, **how, bias=False)
            self.up = nn.Conv2d(rank, layer.out_channels, 1, bias=False)
        else:
            self.down = nn.Linear(layer.in_features, rank, bias=False)
            self.up = nn.Linear(rank, layer.out_features, bias=False)
        nn.init.kaiming_uniform_(self.down.weight, a=5**0.5)
        nn.init.zeros_(self.up.weight)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x) + self.up(self.down(x))


PROJECTIONS = ("to_q", "to_k", "to_v")
ATTENTIONS = ("attn1", "attn2")  # spatial self-attention and cross-attention; attention over time stays as it is


def projections(unet: nn.Module) -> list[str]:
    """The names of the linear layers that low-rank branches modulate in the paper."""
    ends = tuple(f".{attention}.{projection}" for attention in ATTENTIONS for projection in PROJECTIONS)
    return [name for name, module in unet.named_modules() if name.endswith(ends) and isinstance(module, nn.Linear)]


def convolutions(unet: nn.Module) -> list[str]:
    """The names of the 3x3 convolutions in the residual blocks, which draw what attention only points at."""
    blocks = [name for name, module in unet.named_modules() if isinstance(module, ResBlock)]
    return [f"{block}.{layer}" for block in blocks for layer in ("in_layers.2", "out_layers.3")]


def add_branches(unet: nn.Module, layers: Iterable[str], rank: int) -> dict[str, LowRank]:
    """Give some layers of a frozen U-Net a branch to train, in place; returns the branches by layer name."""
    branches = {}
    for name in layers:
        layer = unet.get_submodule(name)
        branches[name] = LowRank(layer, rank).to(layer.weight.device)
        replace_module(unet, name, branches[name])
    return branches


def remove_branches(unet: nn.Module, branches: Mapping[str, LowRank]) -> None:
    """Put the plain layers back."""
    for name, branch in branches.items():
        replace_module(unet, name, branch.layer)


def branch_tensors(branches: Mapping[str, LowRank]) -> dict[str, Tensor]:
    """The trained tensors, ``layer.down`` (rank, in) and ``layer.up`` (out, rank), of a convolution with its pixels."""
    return {
        f"{name}.{side}": getattr(branch, side).weight.detach()
        for name, branch in branches.items()
        for side in ("down", "up")
    }


def parameter_of(key: str) -> str:
    """The parameter of a U-Net that a character's tensor changes: ``layer.weight`` for both sides of a branch."""
    layer, _, side = key.rpartition(".")
    return f"{layer}.weight" if side in ("up", "down") else key


@torch.no_grad()
def merged(unet: nn.Module, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights of a U-Net that a character's tensors change, as they are then, by parameter.

    ``layer.up`` and ``layer.down`` are added as up @ down; any other tensor stands in for the parameter of its name.
    """
    changed = {}
    for key, tensor in tensors.items():
        layer, _, side = key.rpartition(".")
        if side == "down":
            continue
        name = parameter_of(key)
        weight = unet.get_parameter(name)
        if side == "up":
            up, down = (each.to(weight.device).float().flatten(1) for each in (tensor, tensors[f"{layer}.down"]))
            changed[name] = (weight.float() + (up @ down).view(weight.shape)).to(weight.dtype)
        else:
            changed[name] = tensor.to(weight)
    return changed


@contextmanager
def modulated(unet: nn.Module, tensors: Mapping[str, Tensor]) -> Iterator[None]:
    """A U-Net with a character's tensors in force, at no cost in time; afterwards exactly what it was."""
    plain = {}
    try:
        for name, weight in merged(unet, tensors).items():
            parameter = unet.get_parameter(name)
            plain[parameter] = parameter.data
            parameter.data = weight
        yield
    finally:
        for parameter, data in plain.items():
            parameter.data = data


def replace_module(root: nn.Module, name: str, module: nn.Module) -> None:
    """Put a module where another was, by its dotted name."""
    parent, _, leaf = name.rpartition(".")
    setattr(root.get_submodule(parent), leaf, module)


def text_with_word(text: nn.Module, prompts: list[str], word: str, vectors: Tensor) -> tuple[Tensor, Tensor | None]:
    """Context (b,l,d) and mask of prompts where ``word`` has the embeddings ``vectors`` (b,d); gradients reach them."""
    from models.text import put

    ids, mask, where = text.tokenize_words(prompts, [word])
    device = vectors.device
    mask = mask if mask is None else mask.to(device)
    embeds = put(text.embed(ids.to(device)), where[word].to(device), vectors)
    return text.encode(ids.to(device), mask, inputs_embeds=embeds), mask


@torch.no_grad()
def word_start(text: nn.Module, class_word: str) -> Tensor:
    """The mean token embedding (d,) of a class word, where its pseudo-word begins."""
    ids = text.tokenizer.encode(class_word, add_special_tokens=False)
    return text.model.get_input_embeddings().weight[ids].mean(0)
