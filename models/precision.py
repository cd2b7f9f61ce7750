"""The quickest arithmetic of a device that is exact enough, and memory for it."""

import ctypes
import functools
import sys
from collections.abc import Collection, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of glibc's mallopt


def quick_in_bf16(device: torch.device | str) -> bool:
    """Whether a device multiplies bf16 matrices faster than fp32 ones; GPUs before Ampere only emulate it."""
    kind = torch.device(device).type
    if kind == "cpu":
        return torch.cpu._is_avx512_bf16_supported()
    return kind == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)


def autocast(device: torch.device | str, *, exact: bool = False) -> AbstractContextManager:
    """bf16 autocast on devices that are quick in it, else nothing; nothing either for what is to be ``exact``."""
    return _autocast(device, torch.bfloat16 if quick_in_bf16(device) and not exact else None)


def drawn_in(device: torch.device | str, *, exact: bool = False) -> torch.dtype | None:
    """The type that a U-Net multiplies in when it renders; None for that of its weights.

    On a GPU fp16 where bf16 is slow or the model ``exact``: guidance 15 multiplies what rounding does, and of the
    published size, with random weights, guided noise was off by 19 % of its rms in bf16 and by 2.4 % in fp16. Training
    needs the range of bf16, or fp32.
    """
    if torch.device(device).type == "cuda" and (exact or not quick_in_bf16(device)):
        return torch.float16
    return torch.bfloat16 if quick_in_bf16(device) else None


def drawing(device: torch.device | str, *, exact: bool = False) -> AbstractContextManager:
    """Autocast to the type of ``drawn_in``."""
    return _autocast(device, drawn_in(device, exact=exact))


def _autocast(device: torch.device | str, dtype: torch.dtype | None) -> AbstractContextManager:
    return torch.autocast(torch.device(device).type, dtype) if dtype else nullcontext()


def store_in(dtype: torch.dtype, network: nn.Module, but: Collection[str] = ()) -> None:
    """Store the weights of convolutions and linear layers as autocast to ``dtype`` would cast them at every step.

    Results under it are the same bit for bit, in half the memory. ``but`` names layers whose weights are yet to change.
    """
    for name, layer in network.named_modules():
        if isinstance(layer, nn.Conv2d | nn.Linear) and name not in but:
            layer.weight.data = layer.weight.data.to(dtype)


@functools.cache
def hold_memory() -> None:
    """Have the C library keep the memory of freed tensors for the next ones, where it is glibc.

    It gives blocks of more than 32 MB back to the system otherwise and has them anew for every tensor, page by page:
    adding two tensors of 42 MB takes 20 ms instead of 2.3, a 1x1 convolution of 320 channels 51 instead of 32.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt:
        mallopt(M_MMAP_THRESHOLD, 2**30)
        mallopt(M_TRIM_THRESHOLD, 2**31 - 1)


@contextmanager
def training(device: torch.device | str) -> Iterator[None]:
    """``autocast``, and the memory and attention that train fastest."""
    hold_memory()
    with autocast(device), attention_for_training(device):
        yield


def attention_for_training(device: torch.device | str) -> AbstractContextManager:
    """On CPUs attention by plain matrix products. With gradient checkpointing the backward pass needs it in force too.

    The backward pass of the fused attention is slow there at the sizes of the built-in model: stills train 1.26 times
    faster without it (64/128/192 channels, batch 32, one core).
    """
    return sdpa_kernel([SDPBackend.MATH]) if torch.device(device).type == "cpu" else nullcontext()


def pick_device(name: str = "auto") -> torch.device:
    """The device called ``name``; ``auto`` is the fastest one here."""
    if name != "auto":
        return torch.device(name)
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
