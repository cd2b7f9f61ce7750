"""A video model whole: the denoiser with its structure encoder, autoencoder, text encoder and noise schedule."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from models.structure import StructureEncoder
from models.text import TextEncoder
from models.unet import VideoUNet

PARTS = ("unet", "structure", "autoencoder", "text", "upscaler")


@dataclass(frozen=True, kw_only=True, slots=True)
class VideoModel:
    """The parts of one video model, at either size; those that its files do not hold are None."""

    unet: VideoUNet
    structure: StructureEncoder | None
    autoencoder: nn.Module | None
    text: TextEncoder | None
    alpha_bar: Tensor
    predicts: str = "eps"  # what the U-Net gives: eps, or v
    shared_noise: float = 0.0  # share of the noise variance that the frames of a clip have in common
    steady: float = 0.0  # change of depth below which a place counts as standing still; 0 lets every frame be its own
    exact: bool = False  # whether rounding shows: what is beside the U-Net stays in fp32 (``precision.drawn_in``)
    carries: bool = False  # whether a figure is drawn once in a clip and carried along its guide's motion
    upscaler: nn.Module | None = None  # from decoded pixels to the film's size

    def autoencoder_encode(self, video: Tensor) -> Tensor:
        """Pixels (b, 3, f, H, W) in [-1, 1] -> latents of about unit variance (b, c, f, H/8, W/8)."""
        return self.autoencoder.encode(video)

    def autoencoder_decode(self, z: Tensor) -> Tensor:
        """Latents (b, c, f, h, w) -> pixels (b, 3, f, 8 h, 8 w)."""
        return self.autoencoder.decode(z)

    def to(self, device: torch.device | str, *names: str) -> "VideoModel":
        """The same model on a device, or the named parts of it; convolutions laid out channels-last.

        On a CPU the U-Net keeps the layout, and with it the memory, of its file: activations alone decide there.
        """
        moved: dict[str, Any] = {}
        for name in PARTS:
            part = getattr(self, name)
            if part is not None and name in (names or PARTS):
                part = part.to(device)
            if part is not None and not (name == "unet" and next(part.parameters()).device.type == "cpu"):
                part = part.to(memory_format=torch.channels_last)
            moved[name] = part
        return replace(self, **moved)

    @property
    def device(self) -> torch.device:
        """Where the work is done: where the U-Net is."""
        return next(self.unet.parameters()).device

    @contextmanager
    def at_work(self, *names: str) -> Iterator[None]:
        """Parts beside the U-Net while they are needed, and then back where they were: idle ones cost a GPU no memory.

        Parts that are there already, as all are on a CPU, are left alone. What is moved is a copy: the weights at home
        stay as they are, in the memory of their file where they were mapped from one.
        """
        parts = [part for name in names if (part := getattr(self, name)) is not None]
        layers = [layer for part in parts for layer in part.modules()]
        homes = [
            (tensors, name, tensor)
            for layer in layers
            for tensors in (layer._parameters, layer._buffers)
            for name, tensor in tensors.items()
            if tensor is not None and tensor.device != self.device
        ]
        try:
            with torch.inference_mode(False):  # weights moved in inference mode could not be trained through later
                for tensors, name, tensor in homes:
                    there = tensor.detach().to(self.device)
                    tensors[name] = nn.Parameter(there, False) if isinstance(tensor, nn.Parameter) else there
            yield
        finally:
            for tensors, name, tensor in homes:
                tensors[name] = tensor
