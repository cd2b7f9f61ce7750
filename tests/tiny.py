"""A video model of the real classes, small enough to train and sample within a test."""

import torch
from torch import nn

from models.schedule import cosine
from models.structure import StructureConfig, StructureEncoder
from models.unet import UNetConfig, VideoUNet
from models.video_model import VideoModel
from models.weights import load_minilm

CHANNELS = (32, 64)
UNET = UNetConfig(
    latent_channels=4,
    channels=CHANNELS,
    num_res_blocks=1,
    transformer_levels=(0, 1),
    self_attention_levels=(1,),
    context_dim=384,
    head_dim=16,
    norm_width=16,
    ff_mult=2,
    pooled_text=True,
    scale_shift=True,
    temporal_stills=False,
)
STRUCTURE = StructureConfig(channels=CHANNELS, blocks_per_level=1)


class BlockMeans(nn.Module):
    """An autoencoder to work out by hand: a latent is the mean of an 8 x 8 block, its fourth channel zero."""

    def encode(self, video):
        b, c, f, h, w = video.shape
        means = video.reshape(b, c, f, h // 8, 8, w // 8, 8).mean((4, 6))
        return torch.cat([means, torch.zeros_like(means[:, :1])], dim=1)

    def decode(self, z):
        return z[:, :3].repeat_interleave(8, dim=3).repeat_interleave(8, dim=4)


def randomise(network, scale=0.05):
    """Leave no layer at zero, so that every part has a say in the output."""
    generator = torch.Generator().manual_seed(0)
    for parameter in network.parameters():
        if parameter.ndim > 1 or not parameter.abs().sum():
            parameter.data += scale * torch.randn(parameter.shape, generator=generator)
    return network


def video_model() -> VideoModel:
    return VideoModel(
        unet=randomise(VideoUNet(UNET)).eval().requires_grad_(False),
        structure=randomise(StructureEncoder(STRUCTURE)).eval().requires_grad_(False),
        autoencoder=BlockMeans(),
        text=load_minilm(),
        alpha_bar=cosine(),
        predicts="v",
        shared_noise=0.5,
    )
