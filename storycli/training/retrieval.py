"""Training of the built-in retrieval network: clips of the storybook world and their captions, in one space.

As Frozen in Time (Bain et al. 2021): batches of single pictures and of clips of four frames take turns, and the loss is
a softmax over the batch in both directions, at temperature 0.05. Sentences are those of a frozen MiniLM, so that a
query in words that the captions never used lands near those they did.
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import torch
from einops import rearrange
from torch import Tensor, nn

from models import weights
from models.frozen_in_time import (
    STORYBOOK,
    FrozenInTime,
    FrozenInTimeConfig,
    frame_indices,
    norm_softmax_loss,
    preprocess,
)
from models.metrics import cosine
from models.precision import pick_device, training
from models.text import mean_pool
from storycli.training.fit import FitSettings, fit
from storycli.world.generator import Stage, World

FRAMES = 16  # of a clip of the world
PICTURES = 3 / 4  # the share of batches that are single pictures, which cost a quarter
SETTINGS = FitSettings(samples=40_000, batch_size=32, learning_rate=1e-3, weight_decay=0.1)
CONFIG = replace(STORYBOOK, image_size=112, resize=112, heads=3)


def train(
    assets: Path,
    out: Path,
    *,
    settings: FitSettings = SETTINGS,
    clips: int = 8000,
    splits: Sequence[str] = ("train",),
    further: Path | None = None,
    device: str = "auto",
    progress: Callable[[int, int, float], None] | None = None,
) -> Path:
    """Trains on ``clips`` clips of the world, told twice each, and writes ``out`` (.safetensors, half precision).

    ``assets`` is the folder of the world's emoji (``storycli.world.generator.fetch_assets``). Scenes are taken from
    ``splits`` in turn; those with held-out characters in them are for networks that judge, and for no others. Trains
    the weights ``further``, where they are given, in place of new ones. Goes on from ``out`` + ``.ckpt`` when an
    earlier run was stopped.
    """
    on = pick_device(device)
    torch.manual_seed(settings.seed)
    frames, captions = clips_and_captions(World(assets), clips, splits)
    sentences = torch.stack([embed(told) for told in zip(*captions, strict=True)])
    if further:
        network = weights.load(further, FrozenInTime, FrozenInTimeConfig).requires_grad_(True)
    else:
        network = FrozenInTime(CONFIG)
        spread(network.txt_proj[1], sentences.flatten(0, 1))
    network.to(on)

    def loss(network: nn.Module, rng: np.random.Generator) -> Tensor:
        chosen = rng.choice(clips, settings.batch_size, replace=False)
        moments = [rng.integers(CONFIG.num_frames)] if rng.random() < PICTURES else range(CONFIG.num_frames)
        video = torch.stack([augment(frames[i][moments], rng) for i in chosen]).to(on)
        told = sentences[rng.integers(len(sentences), size=len(chosen)), chosen].to(on)
        with training(on):
            seen = network.encode_video(preprocess(video, CONFIG)[:, :, : len(moments)])
        similarity = cosine(network.project_text(told), seen.float())
        return norm_softmax_loss(similarity)

    checkpoint = out.with_name(out.name + ".ckpt")
    average = fit(network, loss, settings, checkpoint=checkpoint, progress=progress)
    weights.save(average, out, CONFIG, dtype=torch.float16)
    checkpoint.unlink(missing_ok=True)
    return out


def clips_and_captions(
    world: World, count: int, splits: Sequence[str], tellings: int = 2
) -> tuple[np.ndarray, list[list[str]]]:
    """The frames (n, f, h, w, 3) uint8 that the network looks at, and ``tellings`` captions for each clip."""
    moments = frame_indices(CONFIG.num_frames, FRAMES)
    frames = np.empty((count, len(moments), world.size, world.size, 3), np.uint8)
    captions = []
    for seed in range(count):
        scene = world.scene(seed, splits[seed % len(splits)])
        stage = Stage(world, scene)
        for place, moment in enumerate(moments):
            frames[seed, place] = stage.frame(moment, FRAMES)[0]
        captions.append([world.caption(scene, random.Random(f"telling {k} {seed}")) for k in range(tellings)])
    return frames, captions


@torch.no_grad()
def spread(projection: nn.Linear, sentences: Tensor, evenly: float = 0.1) -> None:
    """Starts a projection from the principal axes of sentences (n, d), so that they differ in all directions alike.

    Captions of one small world are much alike to MiniLM; a contrast of nearly equal things teaches slowly.
    """
    mean = sentences.mean(0)
    _, size, axes = torch.linalg.svd(sentences - mean, full_matrices=False)
    variance, axes = (part[: projection.out_features] for part in (size**2 / len(sentences), axes))
    projection.weight.zero_()[: len(axes)] = axes / (variance + evenly * variance.mean()).sqrt()[:, None]
    projection.bias.copy_(-projection.weight @ mean)


@torch.inference_mode()
def embed(captions: Sequence[str], at_once: int = 100) -> Tensor:
    """Sentence embeddings (n, 384) float32."""
    text = weights.load_minilm()
    vectors = []
    for start in range(0, len(captions), at_once):
        with training("cpu"):
            vectors.append(mean_pool(*text.read(captions[start : start + at_once])).float())
    return torch.cat(vectors)


def augment(frames: np.ndarray, rng: np.random.Generator) -> Tensor:
    """Another crop, light and sharpness for all frames of a clip: uint8 (f, h, w, 3) -> (3, f, h, w) in [-1, 1].

    No mirroring, as captions tell left from right.
    """
    side = frames.shape[1]
    size = int(side * rng.uniform(0.8, 1))
    top, left = rng.integers(0, side - size + 1, 2)
    frames = frames[:, top : top + size, left : left + size]
    if rng.random() < 0.2:
        frames = np.stack([cv2.GaussianBlur(frame, (0, 0), 1) for frame in frames])
    frames = np.stack(
        [cv2.resize(frame, (CONFIG.resize, CONFIG.resize), interpolation=cv2.INTER_AREA) for frame in frames]
    )
    pixels = frames.astype(np.float32) / 127.5 - 1
    grey = pixels.mean(-1, keepdims=True)
    pixels = grey + (pixels - grey) * np.float32(rng.uniform(0.5, 1.2))
    pixels = pixels * np.float32(rng.uniform(0.7, 1.2)) + np.float32(rng.normal(0, 0.1))
    return rearrange(torch.from_numpy(pixels.clip(-1, 1)), "f h w c -> c f h w")
