"""Training the storybook autoencoder on stills of the world: sharp faces first."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.autoencoder import AutoencoderConfig, StorybookAutoencoder
from models.precision import training as fast
from models.weights import save
from storycli.training.fit import FitSettings, fit
from storycli.world.generator import World

SETTINGS = FitSettings(
    samples=37_000, batch_size=12, learning_rate=1.5e-3, weight_decay=1e-4, warmup=600, average_over=2400
)
CROP = 96  # pixels
FOREGROUND = 3.0  # weight of a foreground pixel, where one of the background has 1
LATENT_NOISE = 0.05


def train(
    assets: Path,
    out: Path,
    *,
    settings: FitSettings = SETTINGS,
    config: AutoencoderConfig | None = None,
    tier: str = "core",
    progress: Callable[[int, int, Tensor], None] | None = None,
) -> StorybookAutoencoder:
    """Trains on crops of stills and writes ``out`` (half precision); returns the averaged network.

    ``assets`` is the folder of the world's emoji. Goes on from ``out`` + ``.ckpt`` when an earlier run was stopped.
    """
    world = World(assets, tier)
    torch.manual_seed(settings.seed)
    network = StorybookAutoencoder(config)
    seen = stills(world, range(2 * 10**8, 2 * 10**8 + 500))[0]
    network.init_linear(seen)

    def loss(network: nn.Module, rng: np.random.Generator) -> Tensor:
        return codec_loss(network, *batch(world, settings.batch_size, rng), rng)

    checkpoint = out.with_name(out.name + ".ckpt")
    network = network.to(memory_format=torch.channels_last)
    average = fit(network, loss, settings, checkpoint=checkpoint, progress=progress)
    average.normalise(seen[:96])
    held_out = stills(world, range(10**8, 10**8 + 96), "held_out")[0]
    save(average, out, average.config, dtype=torch.float16, psnr=f"{psnr(average, held_out):.2f}")
    checkpoint.unlink(missing_ok=True)
    return average


def stills(world: World, seeds: range, split: str = "train") -> tuple[Tensor, Tensor]:
    """Stills of the world: pixels (n, 3, H, W) in [-1, 1] and foreground masks (n, 1, H, W)."""
    drawn = [world.still(world.scene(seed, split)) for seed in seeds]
    pixels = torch.from_numpy(np.concatenate([clip.frames for clip in drawn])).permute(0, 3, 1, 2)
    masks = torch.from_numpy(np.concatenate([clip.mask for clip in drawn]))[:, None]
    return pixels.float() / 127.5 - 1, masks.float()


def batch(world: World, size: int, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Two crops of each of half a batch of new stills, mirrored at random; one in ten in exchanged colours."""
    first = int(rng.integers(10**8 - size))
    pixels, masks = stills(world, range(first, first + size // 2))
    crops = []
    for both in torch.cat([pixels, masks], dim=1).repeat_interleave(2, dim=0):
        top, left = rng.integers(0, both.shape[-1] - CROP + 1, 2)
        crop = both[:, top : top + CROP, left : left + CROP]
        if rng.random() < 0.5:
            crop = crop.flip(2)
        if rng.random() < 0.1:
            crop = crop[[*rng.permutation(3).tolist(), 3]]
        crops.append(crop)
    crops = torch.stack(crops)
    return crops[:, :3].contiguous(memory_format=torch.channels_last), crops[:, 3:]


def codec_loss(network: StorybookAutoencoder, pixels: Tensor, mask: Tensor, rng: np.random.Generator) -> Tensor:
    """Differences of colours and of edges, more so in the foreground, from latents with a little noise."""
    with fast("cpu"):
        z = network.raw_latents(pixels).float()
        noise = torch.from_numpy(rng.standard_normal(z.shape, np.float32))
        decoded = network.pixels(z + LATENT_NOISE * noise).float()
    far_out = F.relu(z.abs() - 3.5).mean()  # keep latents where noise will be added
    return difference(decoded, pixels, mask) + 1e-3 * far_out


def difference(decoded: Tensor, pixels: Tensor, mask: Tensor) -> Tensor:
    """The mean difference of images (n, 3, H, W) in colours and edges, more so under masks (n, 1, H, W)."""
    weight = 1 + (FOREGROUND - 1) * mask
    weight = weight / weight.mean()
    error = decoded - pixels
    edges = (error.diff(dim=-1).abs() * weight[..., 1:]).mean() + (error.diff(dim=-2).abs() * weight[..., 1:, :]).mean()
    return (weight * (error.abs() + error.square())).mean() + edges / 2


@torch.no_grad()
def psnr(network: StorybookAutoencoder, images: Tensor) -> float:
    """Mean over images of the peak signal-to-noise ratio of their reconstructions, in dB."""
    errors = []
    for part in images.split(16):
        with fast("cpu"):
            decoded = network.decode(network.encode(part))
        errors.append((decoded.float().clamp(-1, 1) - part).square().mean((1, 2, 3)))
    return float((10 * torch.log10(4 / torch.cat(errors))).mean())
