"""Training the storybook upscaler: decoded 128-pixel frames to renders of the same scenes at 512."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.autoencoder import StorybookAutoencoder
from models.precision import autocast
from models.precision import training as fast
from models.upscaler import Upscaler, UpscalerConfig
from models.weights import load, save
from storycli.training.fit import FitSettings, fit
from storycli.world.generator import UNITS, World

SETTINGS = FitSettings(samples=6000, batch_size=4, learning_rate=2e-3, weight_decay=0.0, warmup=200, average_over=800)
FURTHER = replace(SETTINGS, samples=3000, learning_rate=1e-3)  # from weights that are there
CROPS, CROP = 3, 48  # of each picture, and their side in pixels of the small one
LATENT_NOISE = 0.12  # at most
BLUR = 0.3, 1.2  # pixels


def train(
    assets: Path,
    autoencoder: StorybookAutoencoder,
    out: Path,
    *,
    settings: FitSettings = SETTINGS,
    config: UpscalerConfig | None = None,
    start: Path | None = None,
    scenes: int = 300,
    progress: Callable[[int, int, Tensor], None] | None = None,
) -> Upscaler:
    """Trains on crops of ``scenes`` scenes and writes ``out`` (half precision); returns the averaged network.

    ``assets`` is the folder of the world's emoji. Starts from the weights ``start``, else from bicubic. Goes on from
    ``out`` + ``.ckpt`` when an earlier run was stopped.
    """
    torch.manual_seed(settings.seed)
    network = load(start, Upscaler, UpscalerConfig).float().requires_grad_() if start else Upscaler(config)
    network = network.to(memory_format=torch.channels_last)
    factor = network.config.factor
    worlds = World(assets), World(assets, size=factor * UNITS)
    z, large = pairs(worlds, autoencoder, range(3 * 10**8, 3 * 10**8 + scenes), "train")

    def loss(network: nn.Module, rng: np.random.Generator) -> Tensor:
        chosen = rng.choice(len(z), settings.batch_size, replace=False)
        low, high = crops(*softened(autoencoder, z[chosen], pixels(large[chosen]), factor, rng), factor, rng)
        with fast("cpu"):
            upscaled = network(low)
        # The median of an edge whose place is uncertain is still sharp. A loss on gradients would blur it.
        return (upscaled.float() - high).abs().mean()

    checkpoint = out.with_name(out.name + ".ckpt")
    average = fit(network, loss, settings, checkpoint=checkpoint, progress=progress)
    z, large = pairs(worlds, autoencoder, range(10**8, 10**8 + 24), "held_out")
    with torch.no_grad():
        quality = psnr(average(decoded(autoencoder, z)), pixels(large))
    save(average, out, average.config, dtype=torch.float16, psnr=f"{quality:.2f}")
    checkpoint.unlink(missing_ok=True)
    return average


def softened(
    autoencoder: StorybookAutoencoder, z: Tensor, high: Tensor, factor: int, rng: np.random.Generator
) -> tuple[Tensor, Tensor]:
    """Small pictures and the large ones that they are of, half of them in each of two ways.

    Decoded latents, with some noise for what a sampler leaves undone; and the truth made small and blurred, which says
    cleanly what a sharp edge is.
    """
    half = len(z) // 2
    noise = torch.from_numpy(rng.standard_normal(z[:half].shape, np.float32))
    left_undone = decoded(autoencoder, z[:half] + LATENT_NOISE * rng.random() * noise)
    soft = blurred(F.avg_pool2d(high[half:], factor), float(rng.uniform(*BLUR)))
    return torch.cat([left_undone, soft]), high


def crops(low: Tensor, high: Tensor, factor: int, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """The same parts of small pictures and of large ones."""
    lows, highs = [], []
    for _ in range(CROPS):
        top, left = (int(value) for value in rng.integers(0, low.shape[-1] - CROP + 1, 2))
        lows.append(low[..., top : top + CROP, left : left + CROP])
        highs.append(high[..., factor * top : factor * (top + CROP), factor * left : factor * (left + CROP)])
    return tuple(torch.cat(part).contiguous(memory_format=torch.channels_last) for part in (lows, highs))


@torch.no_grad()
def pairs(
    worlds: tuple[World, World], autoencoder: StorybookAutoencoder, seeds: range, split: str
) -> tuple[Tensor, np.ndarray]:
    """Latents (n, c, h, w) of small pictures, and large pictures uint8 (n, H, W, 3) of the same scenes."""
    small, large = (np.concatenate([w.still(w.scene(seed, split)).frames for seed in seeds]) for w in worlds)
    return torch.cat([autoencoder.encode(part) for part in pixels(small).split(16)]), large


@torch.no_grad()
def decoded(autoencoder: StorybookAutoencoder, z: Tensor) -> Tensor:
    with autocast("cpu"):
        return autoencoder.decode(z).float().clamp(-1, 1)


def blurred(images: Tensor, sigma: float) -> Tensor:
    """Images (n, c, H, W) under a Gaussian of ``sigma`` pixels, edges repeated."""
    radius = 4
    weight = torch.exp(-0.5 * (torch.arange(-radius, radius + 1) / sigma) ** 2)
    weight = (weight / weight.sum()).expand(images.shape[1], 1, 1, -1)
    across = F.conv2d(F.pad(images, (radius, radius, 0, 0), "replicate"), weight, groups=images.shape[1])
    down = F.pad(across, (0, 0, radius, radius), "replicate")
    return F.conv2d(down, weight.transpose(2, 3), groups=images.shape[1])


@torch.no_grad()
def psnr(images: Tensor, truth: Tensor) -> float:
    """Mean over images of the peak signal-to-noise ratio, in dB."""
    return float((10 * torch.log10(4 / (images.clamp(-1, 1) - truth).square().mean((1, 2, 3)))).mean())


def pixels(frames: np.ndarray) -> Tensor:
    """uint8 (n, h, w, 3) -> (n, 3, h, w) in [-1, 1]."""
    return torch.from_numpy(frames).permute(0, 3, 1, 2).float() / 127.5 - 1
