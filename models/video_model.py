"""A video model whole: the denoiser with its structure encoder, autoencoder, text encoder and noise schedule."""

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from models.structure import StructureEncoder
from models.text import TextEncoder
from models.unet import VideoUNet


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
    upscaler: nn.Module | None = None  # from decoded pixels to the film's size

    def autoencoder_encode(self, video: Tensor) -> Tensor:
        """Pixels (b, 3, f, H, W) in [-1, 1] -> latents of about unit variance (b, c, f, H/8, W/8)."""
        return self.autoencoder.encode(video)

    def autoencoder_decode(self, z: Tensor) -> Tensor:
        """Latents (b, c, f, h, w) -> pixels (b, 3, f, 8 h, 8 w)."""
        return self.autoencoder.decode(z)

    def to(self, device: torch.device | str) -> "VideoModel":
        """The same model on a device, convolutions laid out channels-last."""
        moved: dict[str, Any] = {"alpha_bar": self.alpha_bar}
        for name in ("unet", "structure", "autoencoder", "text", "upscaler"):
            part = getattr(self, name)
            moved[name] = part and part.to(device).to(memory_format=torch.channels_last)
        return replace(self, **moved)
