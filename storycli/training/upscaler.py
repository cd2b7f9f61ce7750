"""Training the storybook upscaler: decoded 128-pixel frames to renders of the same scenes at 512."""

import copy
import logging
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from models.autoencoder import AutoencoderConfig, StorybookAutoencoder
from models.upscaler import Upscaler, UpscalerConfig
from models.weights import load, save
from storycli.world.generator import UNITS, World

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class UpscalerTraining:
    """``steps`` on ``crops`` crops of each of ``batch_size`` out of ``scenes`` scenes.

    Half of a batch are decoded frames, with ``latent_noise`` at most, for what a sampler leaves undone. The other half
    are the truth made small and blurred by ``blur`` pixels: they say cleanly what a sharp edge is.
    """

    steps: int = 1500
    scenes: int = 300
    batch_size: int = 4
    crops: int = 3
    crop: int = 48
    learning_rate: float = 2e-3
    latent_noise: float = 0.12
    blur: tuple[float, float] = (0.3, 1.2)
    held_out_stills: int = 24
    checkpoint_steps: int = 200
    seed: int = 0


def train_upscaler(
    assets: Path,
    autoencoder_path: Path,
    out: Path,
    *,
    training: UpscalerTraining | None = None,
    config: UpscalerConfig | None = None,
    progress: Callable[[int, int, float], None] | None = None,
) -> Upscaler:
    """Train to ``out`` (safetensors) and return the averaged network; goes on from ``out`` with suffix .state.

    ``progress`` receives steps done, steps in all, and PSNR on held-out stills.
    """
    training, state_path = training or UpscalerTraining(), out.with_suffix(".state")
    torch.manual_seed(training.seed)
    network = Upscaler(config).to(memory_format=torch.channels_last)
    factor = network.config.factor
    worlds = World(assets), World(assets, size=factor * UNITS)
    autoencoder = load(autoencoder_path, StorybookAutoencoder, AutoencoderConfig)
    z, large = pairs(worlds, autoencoder, range(10**8, 10**8 + training.held_out_stills), "held_out")
    held_out = decoded(autoencoder, z), _pixels(large)
    z, large = pairs(worlds, autoencoder, range(3 * 10**8, 3 * 10**8 + training.scenes), "train")
    average = copy.deepcopy(network).requires_grad_(False)
    optimizer = torch.optim.AdamW(network.parameters(), betas=(0.9, 0.99), weight_decay=0.0, fused=True)
    done = 0
    if state_path.exists():
        state = torch.load(state_path, weights_only=True)
        network.load_state_dict(state["network"])
        average.load_state_dict(state["average"])
        optimizer.load_state_dict(state["optimizer"])
        done = state["done"]
    while done < training.steps:
        for group in optimizer.param_groups:
            group["lr"] = training.learning_rate * (0.02 + 0.49 * (1 + math.cos(math.pi * done / training.steps)))
        torch.manual_seed(training.seed + done)
        rng = np.random.default_rng((training.seed, done))
        chosen = rng.choice(len(z), training.batch_size, replace=False)
        half, high = training.batch_size // 2, _pixels(large[chosen])
        noise = training.latent_noise * float(rng.random()) * torch.randn_like(z[chosen[:half]])
        soft = blurred(F.avg_pool2d(high[half:], factor), float(rng.uniform(*training.blur)))
        low = torch.cat([decoded(autoencoder, z[chosen[:half]] + noise), soft])
        low, high = _crops(low, high, training, factor, rng)
        with torch.autocast("cpu", torch.bfloat16):
            upscaled = network(low)
        # The median of an edge whose place is uncertain is still sharp. A loss on gradients would blur it.
        loss = (upscaled.float() - high).abs().mean()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        done += 1
        _average(average, network, min(0.995, done / (done + 60)))
        if done % training.checkpoint_steps == 0 or done == training.steps:
            quality = psnr(average(held_out[0]), held_out[1])
            log.info("%d of %d steps, loss %.4f, PSNR %.2f dB", done, training.steps, loss.item(), quality)
            save(average, out, average.config, dtype=torch.float16, steps=str(done), psnr=f"{quality:.2f}")
            tensors = dict(
                network=network.state_dict(), average=average.state_dict(), optimizer=optimizer.state_dict(), done=done
            )
            torch.save(tensors, state_path)
            if progress:
                progress(done, training.steps, quality)
    state_path.unlink(missing_ok=True)
    return average.eval()


@torch.no_grad()
def pairs(
    worlds: tuple[World, World], autoencoder: StorybookAutoencoder, seeds: range, split: str
) -> tuple[Tensor, np.ndarray]:
    """Latents (n, c, h, w) of small pictures, and large pictures uint8 (n, H, W, 3) of the same scenes."""
    small, large = (np.concatenate([w.still(w.scene(seed, split)).frames for seed in seeds]) for w in worlds)
    return torch.cat([autoencoder.encode(part) for part in _pixels(small).split(16)]), large


@torch.no_grad()
def decoded(autoencoder: StorybookAutoencoder, z: Tensor) -> Tensor:
    with torch.autocast("cpu", torch.bfloat16):
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


def _pixels(frames: np.ndarray) -> Tensor:
    return torch.from_numpy(frames).permute(0, 3, 1, 2).float() / 127.5 - 1


def _crops(low: Tensor, high: Tensor, training: UpscalerTraining, factor: int, rng) -> tuple[Tensor, Tensor]:
    lows, highs = [], []
    for _ in range(training.crops):
        top, left = (int(value) for value in rng.integers(0, low.shape[-1] - training.crop + 1, 2))
        lows.append(low[..., top : top + training.crop, left : left + training.crop])
        up, across, side = factor * top, factor * left, factor * training.crop
        highs.append(high[..., up : up + side, across : across + side])
    return tuple(torch.cat(part).contiguous(memory_format=torch.channels_last) for part in (lows, highs))


@torch.no_grad()
def _average(average: torch.nn.Module, network: torch.nn.Module, decay: float) -> None:
    for kept, new in zip(average.parameters(), network.parameters(), strict=True):
        kept.lerp_(new, 1 - decay)
