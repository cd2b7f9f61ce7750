"""Training of the built-in depth network: the storybook world and random scenes, both with exact depth.

The colours are made unreliable on purpose (light, blur, compression, textures over the background), so that what is
left to learn from is form. Half of the loss is MiDaS's (Ranftl et al. 2022, section 5): the prediction is fitted to the
true inverse depth with the best scale and shift of each picture, then compared, its slopes at four scales as well.
"""

from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from models import precision, weights
from models.depth_small import DepthSmall, DepthSmallConfig
from storycli import digest, processes
from storycli.training.fit import FitSettings, fit
from storycli.training.scenes import sample, scene, texture
from storycli.training.video import Report
from storycli.world.generator import World, assets_in

Picture = tuple[np.ndarray, np.ndarray, np.ndarray]  # frame uint8 (h,w,3), inverse depth uint8 (h,w), is background

SIDE = 128
SETTINGS = FitSettings(samples=64_000, batch_size=32, learning_rate=2e-3, optimizer="muon")
PICTURES = 3000
REPAINTED, RELIT, DEGRADED = 0.2, 0.6, 0.5  # of all views: what is seldom drawn cleanly is never learnt sharply


def train(
    assets: Path | None,
    out: Path,
    *,
    settings: FitSettings = SETTINGS,
    pictures: int = PICTURES,
    start: Path | None = None,
    device: str = "auto",
    report: Report | None = None,
) -> Path:
    """Train on frames of the world and as many scenes, and write ``out/depth.safetensors`` (half precision).

    ``assets`` is the folder of the world's emoji, which are fetched where it is not there. Starts from the weights
    ``start``, else from none, and goes on where an earlier run was stopped. Every process of a ``torchrun`` job draws
    ``pictures`` of its own, of either kind. Raises StoryError when the checkpoint in ``out`` is of another training.
    """
    report = report or (lambda stage, done, total: None)
    out.mkdir(parents=True, exist_ok=True)
    with processes.together(precision.pick_device(device)) as on:
        if processes.first():
            assets_in(out, assets)
        processes.wait()
        rank, world = processes.place()
        torch.manual_seed(settings.seed)
        network = weights.load(start, DepthSmall, DepthSmallConfig).float().requires_grad_() if start else DepthSmall()
        network = network.to(on, memory_format=torch.channels_last)
        pool, first = [], (settings.seed * world + rank) * pictures
        for picture in drawn(World(assets_in(out, assets)), range(first, first + pictures)):
            pool.append(picture)
            report("prepare", len(pool), 2 * pictures)

        def loss(network: nn.Module, rng: np.random.Generator) -> Tensor:
            frames, near = (tensor.to(on) for tensor in batch(pool, settings.batch_size // world, rng))
            with precision.training(on):
                predicted = network(frames)
            return depth_loss(predicted, near)

        path = out / "depth.safetensors"
        average = fit(
            network,
            loss,
            settings,
            checkpoint=out / "depth.checkpoint",
            progress=lambda done, total, _: report("train", done, total),
            belongs_to={"pictures": pictures, "processes": world, "start": digest.file(start) if start else ""},
        )
        if processes.first():
            weights.save(average, path, average.config, dtype=torch.float16)
    return path


def drawn(world: World, seeds: range) -> Iterator[Picture]:
    """A frame of a training scene of the world for each seed, then a random scene for each."""
    return chain(world_pictures(world, seeds), scene_pictures(seeds))


def world_pictures(world: World, seeds: range) -> Iterator[Picture]:
    """Still frames from training scenes."""
    for seed in seeds:
        still = world.still(world.scene(seed))
        yield still.frames[0], still.depth[0], ~still.mask[0]


def scene_pictures(seeds: range) -> Iterator[Picture]:
    """Random scenes, which have no background."""
    for seed in seeds:
        frame, near = scene(np.random.default_rng(seed), SIDE)
        yield frame, (near * 255).astype(np.uint8), np.zeros(near.shape, bool)


def batch(pool: list[Picture], size: int, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Frames (n, 3, h, w) in [-1, 1] and inverse depth (n, h, w), spread over [0, 1] in each picture."""
    frames, nears = zip(*(augment(*pool[i], rng) for i in rng.integers(len(pool), size=size)), strict=True)
    frames = rearrange(torch.from_numpy(np.stack(frames)), "n h w c -> n c h w")
    near = torch.from_numpy(np.stack(nears))
    low, high = near.amin((1, 2), keepdim=True), near.amax((1, 2), keepdim=True)
    return frames * 2 - 1, (near - low) / (high - low).clamp(min=0.02)


def augment(frame: np.ndarray, near: np.ndarray, background: np.ndarray, rng: np.random.Generator):
    """Another view, light and camera for a picture: (h, w, 3) float32 in [0, 1] and its inverse depth float32."""
    frame, near = frame.astype(np.float32) / 255, near.astype(np.float32) / 255
    if rng.random() < REPAINTED:
        frame = repaint(frame, background, rng)
    frame, near = zoom(frame, near, rng)
    if rng.random() < 0.5:
        frame, near = frame[:, ::-1], near[:, ::-1]
    if rng.random() < RELIT:
        frame = relight(frame, rng)
    if rng.random() < DEGRADED:
        frame = degrade(frame, rng)
    return np.ascontiguousarray(frame, np.float32), np.ascontiguousarray(near)


def repaint(frame: np.ndarray, background: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Puts a texture over the background, or over everything, letting the old picture shine through."""
    y, x = np.mgrid[:SIDE, :SIDE] * rng.uniform(0.5, 3)
    painting = sample(texture(rng), x + rng.uniform(0, 512), y + rng.uniform(0, 512))
    share = rng.uniform(0.3, 0.8) * (background if background.any() else np.full_like(background, 0.4, np.float32))
    return frame * (1 - share[..., None]) + painting * share[..., None]


def zoom(frame: np.ndarray, near: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """A random part of the picture, a little turned, at full size."""
    angle, scale = rng.normal(0, 3), 1 / rng.uniform(0.55, 1)
    slack = SIDE / 2 * (1 - 1 / scale)
    centre = SIDE / 2 + rng.uniform(-slack, slack, 2)
    matrix = cv2.getRotationMatrix2D(centre.tolist(), angle, scale)
    matrix[:, 2] += SIDE / 2 - centre
    options = dict(dsize=(SIDE, SIDE), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return cv2.warpAffine(frame, matrix, **options), cv2.warpAffine(near, matrix, **options)


def relight(frame: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Other exposure, contrast, gamma, saturation and colour of the light."""
    grey = frame.mean(-1, keepdims=True)
    frame = grey + (frame - grey) * rng.choice([0.0, rng.uniform(0.1, 0.8), rng.uniform(0.6, 1.4)], p=[0.1, 0.5, 0.4])
    frame = (frame - 0.5) * rng.uniform(0.5, 1.4) + 0.5 + rng.normal(0, 0.1)
    frame = frame * (1 + rng.normal(0, 0.08, 3))
    return (frame.clip(0, 1) ** np.exp(rng.normal(0, 0.3))).astype(np.float32)


def degrade(frame: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Blur by focus or movement, lost resolution, noise, and JPEG's blocks."""
    if rng.random() < 0.3:
        frame = cv2.GaussianBlur(frame, (0, 0), rng.uniform(0.3, 1.6))
    elif rng.random() < 0.2:
        frame = cv2.blur(frame, (int(rng.integers(2, 7)), 1))
    if rng.random() < 0.3:
        small = int(rng.integers(SIDE // 3, SIDE))
        frame = cv2.resize(cv2.resize(frame, (small, small), interpolation=cv2.INTER_AREA), (SIDE, SIDE))
    if rng.random() < 0.4:
        frame = frame + rng.normal(0, rng.uniform(0.005, 0.05), frame.shape)
    frame = (frame.clip(0, 1) * 255).astype(np.uint8)
    if rng.random() < 0.4:
        _, packed = cv2.imencode(".jpg", frame, [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(20, 90))])
        frame = cv2.imdecode(packed, cv2.IMREAD_COLOR)
    return frame.astype(np.float32) / 255


def depth_loss(predicted: Tensor, near: Tensor) -> Tensor:
    """Half of it measures (n, h, w) pictures as they are, half as MiDaS does; slopes count in both."""
    fitted = align(predicted, near)
    return sum((p - near).abs().mean() + 0.5 * slope_loss(p - near) for p in (predicted, fitted)) / 2


def align(predicted: Tensor, near: Tensor) -> Tensor:
    """``predicted`` with the scale and shift of each picture that bring it nearest to ``near`` in least squares.

    The scale stays within a factor of 4: a flat or inverted prediction would otherwise learn nothing.
    """
    mean_p, mean_n = predicted.mean((1, 2), keepdim=True), near.mean((1, 2), keepdim=True)
    centred = predicted - mean_p
    scale = (centred * (near - mean_n)).mean((1, 2), keepdim=True) / (
        centred.square().mean((1, 2), keepdim=True) + 1e-3
    )
    return centred * scale.clamp(1 / 4, 4) + mean_n


def slope_loss(difference: Tensor, scales: int = 4) -> Tensor:
    """Slopes of the difference along both axes, at halved sizes: edges where they belong, smooth between them."""
    total = difference.new_zeros(())
    for _ in range(scales):
        total = total + difference.diff(dim=1).abs().mean() + difference.diff(dim=2).abs().mean()
        difference = F.avg_pool2d(difference, 2)
    return total
