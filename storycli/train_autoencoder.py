"""Training the storybook autoencoder on stills of the world: sharp faces first."""

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
from models.weights import save
from storycli.world.generator import World

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class AutoencoderTraining:
    """``images`` crops in all; the learning rate rises, then falls by a cosine over them."""

    images: int = 37_000
    batch_size: int = 12
    crop: int = 96
    learning_rate: float = 1.5e-3
    warmup_images: int = 600
    foreground_weight: float = 3.0
    edge_weight: float = 1.0
    latent_noise: float = 0.05
    held_out_stills: int = 96
    checkpoint_images: int = 3000
    seed: int = 0


def train_autoencoder(
    assets: Path,
    out: Path,
    *,
    training: AutoencoderTraining | None = None,
    config: AutoencoderConfig | None = None,
    tier: str = "core",
    progress: Callable[[int, int, float], None] | None = None,
) -> StorybookAutoencoder:
    """Train to ``out`` (safetensors) and return the averaged network.

    ``progress`` receives images seen, images in all, and PSNR on held-out stills. A run that was stopped goes
    on from ``out`` with the suffix .state; batches are drawn from (seed, images seen), so it repeats the
    uninterrupted run.
    """
    training, state_path = training or AutoencoderTraining(), out.with_suffix(".state")
    world = World(assets, tier)
    torch.manual_seed(training.seed)
    network = StorybookAutoencoder(config)
    held_out = stills(world, range(10**8, 10**8 + training.held_out_stills), "held_out")[0]
    network.init_linear(stills(world, range(2 * 10**8, 2 * 10**8 + 500), "train")[0])
    network = network.to(memory_format=torch.channels_last)
    average = copy.deepcopy(network).requires_grad_(False)
    optimizer = torch.optim.AdamW(network.parameters(), betas=(0.9, 0.99), weight_decay=1e-4, fused=True)
    seen = 0
    if state_path.exists():
        state = torch.load(state_path, weights_only=True)
        network.load_state_dict(state["network"])
        average.load_state_dict(state["average"])
        optimizer.load_state_dict(state["optimizer"])
        seen = state["seen"]
    while seen < training.images:
        for group in optimizer.param_groups:
            group["lr"] = _learning_rate(training, seen)
        torch.manual_seed(training.seed + seen)
        loss = _loss(network, *_batch(world, training, seen), training)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        before, seen = seen, seen + training.batch_size
        _average(average, network, min(0.995, seen / (seen + 60 * training.batch_size)))
        if before // training.checkpoint_images != seen // training.checkpoint_images or seen >= training.images:
            average.normalise(held_out)
            quality = psnr(average, held_out)
            log.info("%d of %d images, loss %.4f, PSNR %.2f dB", seen, training.images, loss.item(), quality)
            save(average, out, average.config, dtype=torch.float16, images=str(seen), psnr=f"{quality:.2f}")
            tensors = dict(
                network=network.state_dict(), average=average.state_dict(), optimizer=optimizer.state_dict(), seen=seen
            )
            torch.save(tensors, state_path)
            if progress:
                progress(seen, training.images, quality)
    state_path.unlink(missing_ok=True)
    return average.eval()


def stills(world: World, seeds: range, split: str) -> tuple[Tensor, Tensor]:
    """Stills of the world: pixels (n, 3, H, W) in [-1, 1] and foreground masks (n, 1, H, W)."""
    drawn = [world.still(world.scene(seed, split)) for seed in seeds]
    pixels = torch.from_numpy(np.concatenate([clip.frames for clip in drawn])).permute(0, 3, 1, 2)
    masks = torch.from_numpy(np.concatenate([clip.mask for clip in drawn]))[:, None]
    return pixels.float() / 127.5 - 1, masks.float()


@torch.no_grad()
def psnr(network: StorybookAutoencoder, images: Tensor) -> float:
    """Mean over images of the peak signal-to-noise ratio of their reconstructions, in dB."""
    errors = []
    for part in images.split(16):
        with torch.autocast("cpu", torch.bfloat16):
            decoded = network.decode(network.encode(part))
        errors.append((decoded.float().clamp(-1, 1) - part).square().mean((1, 2, 3)))
    return float((10 * torch.log10(4 / torch.cat(errors))).mean())


def _learning_rate(training: AutoencoderTraining, seen: int) -> float:
    rise = min(1.0, (seen + training.batch_size) / training.warmup_images)
    return training.learning_rate * rise * (0.02 + 0.49 * (1 + math.cos(math.pi * seen / training.images)))


def _batch(world: World, training: AutoencoderTraining, seen: int) -> tuple[Tensor, Tensor]:
    """Two crops of each of half a batch of new stills, mirrored at random; one in ten in exchanged colours."""
    rng = np.random.default_rng((training.seed, seen))
    first = training.seed * 10**7 + seen // 2
    pixels, masks = stills(world, range(first, first + training.batch_size // 2), "train")
    crops = []
    for index in range(training.batch_size):
        top, left = rng.integers(0, pixels.shape[-1] - training.crop + 1, 2)
        both = torch.cat([pixels[index // 2], masks[index // 2]])[
            :, top : top + training.crop, left : left + training.crop
        ]
        if rng.random() < 0.5:
            both = both.flip(2)
        if rng.random() < 0.1:
            both = both[[*rng.permutation(3).tolist(), 3]]
        crops.append(both)
    batch = torch.stack(crops).contiguous(memory_format=torch.channels_last)
    return batch[:, :3].contiguous(memory_format=torch.channels_last), batch[:, 3:]


def _loss(network: StorybookAutoencoder, pixels: Tensor, mask: Tensor, training: AutoencoderTraining) -> Tensor:
    with torch.autocast("cpu", torch.bfloat16):
        z = network.raw_latents(pixels).float()
        decoded = network.pixels(z + training.latent_noise * torch.randn_like(z)).float()
    weight = 1 + (training.foreground_weight - 1) * mask
    weight = weight / weight.mean()
    error = decoded - pixels
    edges = (error.diff(dim=-1).abs() * weight[..., 1:]).mean() + (error.diff(dim=-2).abs() * weight[..., 1:, :]).mean()
    far_out = F.relu(z.abs() - 3.5).mean()  # keep latents where noise will be added
    return (weight * (error.abs() + error.square())).mean() + training.edge_weight / 2 * edges + 1e-3 * far_out


@torch.no_grad()
def _average(average: torch.nn.Module, network: torch.nn.Module, decay: float) -> None:
    for kept, new in zip(average.parameters(), network.parameters(), strict=True):
        kept.lerp_(new, 1 - decay)
