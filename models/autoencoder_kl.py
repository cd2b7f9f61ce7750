"""Stable Diffusion's autoencoder, frame by frame: diffusers' AutoencoderKL under the published names."""

import re
from collections.abc import Sequence

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from einops import rearrange
from torch import Tensor, nn

SCALE = 0.18215  # brings latents to about unit variance
CHANNELS = (128, 256, 512, 512)
AT_ONCE = 4 * 256 * 256  # pixels that are coded together: what one pass takes of memory hangs on it
TILE = 768  # pixels; frames with a longer side are coded in overlapping tiles


class FrameAutoencoder(nn.Module):
    """Pixels to latents of an eighth of the size and back; every frame is an image of its own."""

    def __init__(self, channels: tuple[int, ...] = CHANNELS):
        super().__init__()
        self.model = AutoencoderKL(
            down_block_types=("DownEncoderBlock2D",) * len(channels),
            up_block_types=("UpDecoderBlock2D",) * len(channels),
            block_out_channels=channels,
            layers_per_block=2,
            latent_channels=4,
        )
        self.model.enable_tiling()
        self.model.tile_sample_min_size, self.model.tile_latent_min_size = TILE, TILE // 8

    def encode(self, video: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Pixels (b, 3, f, H, W) in [-1, 1] -> scaled latents (b, 4, f, H/8, W/8): the mean, or a draw."""
        frames = rearrange(video, "b c f h w -> (b f) c h w")
        posteriors = [self.model.encode(some).latent_dist for some in self.in_parts(frames, 1)]
        latents = [p.mean if generator is None else p.sample(generator) for p in posteriors]
        return SCALE * rearrange(torch.cat(latents), "(b f) c h w -> b c f h w", b=len(video))

    def decode(self, z: Tensor) -> Tensor:
        """Scaled latents (b, 4, f, h, w) -> pixels (b, 3, f, 8 h, 8 w), about in [-1, 1], not clamped."""
        frames = rearrange(z / SCALE, "b c f h w -> (b f) c h w")
        pixels = [self.model.decode(some).sample for some in self.in_parts(frames, 8)]
        return rearrange(torch.cat(pixels), "(b f) c h w -> b c f h w", b=len(z))

    def in_parts(self, frames: Tensor, scale: int) -> Sequence[Tensor]:
        """As many of the frames (n, c, h, w), whose pixels are ``scale`` times finer, as memory is meant for."""
        pixels = frames.shape[2] * frames.shape[3] * scale**2
        return frames.contiguous(memory_format=torch.channels_last).split(max(1, AT_ONCE // pixels))


# The published names to diffusers', applied in this order.
RENAMES = [
    (r"\.down\.(\d)\.block\.", r".down_blocks.\1.resnets."),
    (r"\.down\.(\d)\.downsample\.", r".down_blocks.\1.downsamplers.0."),
    (r"\.up\.(\d)\.block\.", lambda found: f".up_blocks.{3 - int(found[1])}.resnets."),
    (r"\.up\.(\d)\.upsample\.", lambda found: f".up_blocks.{3 - int(found[1])}.upsamplers.0."),
    (r"\.mid\.block_(\d)\.", lambda found: f".mid_block.resnets.{int(found[1]) - 1}."),
    (r"\.mid\.attn_1\.norm\.", ".mid_block.attentions.0.group_norm."),
    (r"\.mid\.attn_1\.([qkv])\.", r".mid_block.attentions.0.to_\1."),
    (r"\.mid\.attn_1\.proj_out\.", ".mid_block.attentions.0.to_out.0."),
    (r"\.nin_shortcut\.", ".conv_shortcut."),
    (r"\.norm_out\.", ".conv_norm_out."),
]


def from_published(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The published state dict under diffusers' names; 1x1 convolutions of attention become linear."""
    renamed = {}
    for key, tensor in state.items():
        for pattern, name in RENAMES:
            key = re.sub(pattern, name, key)
        if ".attentions." in key and tensor.ndim == 4:
            tensor = tensor[:, :, 0, 0]
        renamed[key] = tensor
    return renamed
