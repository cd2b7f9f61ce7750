"""Deterministic weights for the full-size networks, as the files beside the goldens were made with."""

import json
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

GOLDENS = Path(__file__).parent / "goldens"


def load(name: str) -> dict[str, Tensor]:
    return {key: torch.from_numpy(array) for key, array in np.load(GOLDENS / f"{name}.npz").items()}


def keys(name: str) -> dict:
    return json.loads((GOLDENS / f"keys_{name}.json").read_text())


def weight(key: str, shape: Sequence[int]) -> Tensor:
    r = torch.randn(tuple(shape), generator=torch.Generator().manual_seed(zlib.crc32(key.encode())))
    if r.ndim >= 2:
        return r.div_((r.numel() / shape[0]) ** 0.5)
    return r.mul_(0.1).add_(1.0) if key.endswith("weight") else r.mul_(0.1)


def weights(shapes: Mapping[str, Sequence[int]]) -> dict[str, Tensor]:
    return {key: weight(key, shape) for key, shape in shapes.items()}


def randn(seed: int, *shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def uniform(seed: int, *shape: int) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def relative(a: Tensor, b: Tensor) -> float:
    """Relative L2 distance of a from b."""
    assert a.shape == b.shape
    return ((a - b).norm() / b.norm()).item()
