"""The storybook model's autoencoder: a linear codec corrected by two small residual networks.

Frames are coded one by one. The linear part is principal component analysis of 8 x 8 blocks, written as a
convolution; the networks learn what it misses, so training starts from a codec that works.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

BLOCK = 8


@dataclass(frozen=True, kw_only=True, slots=True)
class AutoencoderConfig:
    """Channels of the latents, of the encoder at 1/4 and 1/8, and of the decoder at 1/2, 1/4 and 1/8."""

    latent_channels: int = 8
    encoder_channels: tuple[int, int] = (64, 128)
    decoder_channels: tuple[int, int, int] = (48, 96, 192)


class Residual(nn.Module):
    """x + two convolutions of the normalised x; (n, c, h, w) -> the same."""

    def __init__(self, channels: int):
        super().__init__()
        self.norm = nn.GroupNorm(8, channels)
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.second(F.silu(self.first(F.silu(self.norm(x)))))


def decoder_body(z: int, channels: Sequence[int], blocks: Sequence[int] = (1, 2, 2)) -> list[nn.Module]:
    """Layers from ``z`` latent channels to features; ``channels`` and residual ``blocks`` at 1/2, 1/4 and 1/8."""
    half, quarter, eighth = channels
    return [
        nn.Conv2d(z, eighth, 3, padding=1),
        *(Residual(eighth) for _ in range(blocks[2])),
        nn.Conv2d(eighth, 4 * quarter, 1),
        nn.PixelShuffle(2),
        *(Residual(quarter) for _ in range(blocks[1])),
        nn.Conv2d(quarter, 4 * half, 1),
        nn.PixelShuffle(2),
        *(Residual(half) for _ in range(blocks[0])),
    ]


def decoder_head(half: int) -> list[nn.Module]:
    """Layers from features (n, half, H/2, W/2) to colours (n, 3, H, W)."""
    return [nn.GroupNorm(8, half), nn.SiLU(), nn.Conv2d(half, 12, 3, padding=1), nn.PixelShuffle(2)]


class StorybookAutoencoder(nn.Module):
    """Pixels in [-1, 1] to latents of about unit variance at an eighth of the size, and back."""

    def __init__(self, config: AutoencoderConfig | None = None):
        super().__init__()
        self.config = config or AutoencoderConfig()
        z = self.config.latent_channels
        quarter, eighth = self.config.encoder_channels
        self.linear_encoder = nn.Conv2d(3, z, BLOCK, stride=BLOCK)
        self.encoder = nn.Sequential(
            nn.PixelUnshuffle(4),
            nn.Conv2d(48, quarter, 3, padding=1),
            Residual(quarter),
            nn.Conv2d(quarter, eighth, 3, stride=2, padding=1),
            Residual(eighth),
            nn.GroupNorm(8, eighth),
            nn.SiLU(),
            nn.Conv2d(eighth, z, 1),
        )
        self.linear_decoder = nn.ConvTranspose2d(z, 3, BLOCK, stride=BLOCK)
        self.decoder = nn.Sequential(
            *decoder_body(z, self.config.decoder_channels), *decoder_head(self.config.decoder_channels[0])
        )
        for last in (self.encoder[-1], self.decoder[-2]):  # corrections start at nothing
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)
        self.register_buffer("latent_mean", torch.zeros(z))
        self.register_buffer("latent_std", torch.ones(z))

    def encode(self, pixels: Tensor) -> Tensor:
        """Video (b, 3, f, H, W) or images (b, 3, H, W) in [-1, 1] -> latents of the same rank, c=8, at 1/8."""
        if pixels.ndim == 5:
            frames = self.encode(rearrange(pixels, "b c f h w -> (b f) c h w"))
            return rearrange(frames, "(b f) c h w -> b c f h w", b=len(pixels))
        return (self.raw_latents(pixels) - _per_channel(self.latent_mean)) / _per_channel(self.latent_std)

    def decode(self, z: Tensor) -> Tensor:
        """The inverse of ``encode``; pixels are about in [-1, 1], not clamped."""
        if z.ndim == 5:
            frames = self.decode(rearrange(z, "b c f h w -> (b f) c h w"))
            return rearrange(frames, "(b f) c h w -> b c f h w", b=len(z))
        return self.pixels(z * _per_channel(self.latent_std) + _per_channel(self.latent_mean))

    def raw_latents(self, images: Tensor) -> Tensor:
        """Latents before normalisation, (n, 3, H, W) -> (n, c, H/8, W/8)."""
        with torch.autocast(images.device.type, enabled=False):  # bfloat16 has too few bits for smooth skies
            base = self.linear_encoder(images)
        return base + self.encoder(images)

    def pixels(self, raw: Tensor) -> Tensor:
        """Images of latents that are not normalised, (n, c, h, w) -> (n, 3, 8 h, 8 w)."""
        with torch.autocast(raw.device.type, enabled=False):
            base = self.linear_decoder(raw)
        return base + self.decoder(raw)

    @torch.no_grad()
    def init_linear(self, images: Tensor) -> None:
        """Set the linear codec to the principal components of the 8 x 8 blocks of ``images`` (n, 3, H, W)."""
        blocks = rearrange(images, "n c (h p) (w q) -> (n h w) (c p q)", p=BLOCK, q=BLOCK).double()
        mean = blocks.mean(0)
        variance, vectors = torch.linalg.eigh(torch.cov((blocks - mean).T))
        keep = self.config.latent_channels
        vectors, scale = vectors[:, -keep:].flip(1), variance[-keep:].flip(0).sqrt()
        shape = (keep, 3, BLOCK, BLOCK)
        self.linear_encoder.weight.copy_((vectors / scale).T.reshape(shape))
        self.linear_encoder.bias.copy_(-(vectors / scale).T @ mean)
        self.linear_decoder.weight.copy_((vectors * scale).T.reshape(shape))
        self.linear_decoder.bias.copy_(mean.reshape(3, -1).mean(1))

    @torch.no_grad()
    def normalise(self, images: Tensor) -> None:
        """Measure the mean and spread of the latents of ``images``, so that ``encode`` gives unit variance."""
        raw = self.raw_latents(images).float()
        self.latent_mean.copy_(raw.mean((0, 2, 3)))
        self.latent_std.copy_(raw.std((0, 2, 3)))


def _per_channel(values: Tensor) -> Tensor:
    return values[:, None, None]
