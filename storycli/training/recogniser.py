"""Training of the network that identity is measured with, on scenes of every character of the storybook world.

The held-out characters are among them: it has to know those whom it is asked about. Pictures are moved, blurred and
compressed at random, so that what it goes by is not a detail that generated pictures never have.
"""

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from models import weights
from models.precision import pick_device, training
from models.recogniser import Recogniser, RecogniserConfig
from storycli.training.depth import degrade
from storycli.training.fit import FitSettings, fit
from storycli.world.generator import World

SIDE = 128
SETTINGS = FitSettings(samples=20_000, batch_size=32, learning_rate=2e-3, weight_decay=0.05)
SHARPNESS = 16.0  # of the softmax over cosines
FIRST_SEED = 700_000_000  # scenes of its own, which no other training draws


def train(
    assets: Path,
    out: Path,
    *,
    settings: FitSettings = SETTINGS,
    pictures: int = 110,
    device: str = "auto",
    progress: Callable[[int, int, float], None] | None = None,
) -> Path:
    """Trains on so many ``pictures`` of each character and writes ``out`` (.safetensors, half precision).

    ``assets`` is the folder of the world's emoji. Goes on from ``out`` + ``.ckpt`` when an earlier run was stopped.
    """
    chosen = pick_device(device)
    torch.manual_seed(settings.seed)
    world = World(assets)
    config = RecogniserConfig(names=tuple(world.characters))
    network = Recogniser(config).to(chosen, memory_format=torch.channels_last)
    frames, names = world_pictures(world, pictures, FIRST_SEED)

    def loss(network: nn.Module, rng: np.random.Generator) -> Tensor:
        rows = rng.integers(len(frames), size=settings.batch_size)
        with training(chosen):
            embeddings = network(batch([augment(frames[row], rng) for row in rows]).to(chosen))
        return F.cross_entropy(SHARPNESS * network.likeness(embeddings), names[rows].to(chosen))

    checkpoint = out.with_name(out.name + ".ckpt")
    average = fit(network, loss, settings, checkpoint=checkpoint, progress=progress)
    weights.save(average, out, config, dtype=torch.float16)
    checkpoint.unlink(missing_ok=True)
    return out


def world_pictures(world: World, each: int, first_seed: int) -> tuple[np.ndarray, Tensor]:
    """``each`` pictures of every character alone, uint8 (n,h,w,3), and who it is, as a number (n,)."""
    frames, names = [], []
    for number, name in enumerate(world.characters):
        for seed in range(first_seed + number * each, first_seed + (number + 1) * each):
            frames.append(world.still(world.scene(seed, character=name, companion="")).frames[0])
            names.append(number)
    return np.stack(frames), torch.tensor(names)


def augment(frame: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A picture uint8 (h,w,3) moved, mirrored, nearer, farther, lighter, darker or less sharp: float32 in [0, 1]."""
    zoom = rng.uniform(0.8, 1.3)
    matrix = cv2.getRotationMatrix2D((SIDE / 2, SIDE / 2), rng.normal(0, 4), zoom)
    matrix[:, 2] += rng.uniform(-0.08, 0.08, 2) * SIDE
    moved = cv2.warpAffine(frame, matrix, (SIDE, SIDE), borderMode=cv2.BORDER_REPLICATE)
    if rng.random() < 0.5:
        moved = moved[:, ::-1]
    light = rng.uniform(0.85, 1.15) + rng.normal(0, 0.03, 3)
    return degrade((moved.astype(np.float32) / 255 * light).astype(np.float32), rng)


def batch(pictures: list[np.ndarray]) -> Tensor:
    """Pictures float32 (h,w,3) in [0, 1] -> (n,3,h,w) in [-1, 1]."""
    return rearrange(torch.from_numpy(np.stack(pictures)), "n h w c -> n c h w") * 2 - 1
