"""Training of the video classifier in whose features clips are compared, on scenes of the storybook world.

Nothing is done to the pictures, so that the network goes by how things really look and move here: what a clip has
that no real one has is to show in its features.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from models import weights
from models.precision import pick_device, training
from models.watcher import QUESTIONS, Watcher, WatcherConfig
from storycli.training.fit import FitSettings, fit
from storycli.world import words
from storycli.world.generator import World
from storycli.world.stage import Stage

FRAMES = 16  # of a clip of the world
SETTINGS = FitSettings(samples=14_400, batch_size=16, learning_rate=2e-3, weight_decay=0.05)
FIRST_SEED = 720_000_000  # scenes of its own, which no generator learns from


def train(
    assets: Path,
    out: Path,
    *,
    settings: FitSettings = SETTINGS,
    clips: int = 3000,
    held_out: int = 256,
    device: str = "auto",
    progress: Callable[[int, int, Tensor], None] | None = None,
) -> Path:
    """Trains on so many ``clips`` and writes ``out`` (.safetensors), with its score on ``held_out`` more.

    ``assets`` is the folder of the world's emoji. Goes on from ``out`` + ``.ckpt`` when an earlier run was stopped.
    """
    on = pick_device(device)
    torch.manual_seed(settings.seed)
    world = World(assets)
    network = Watcher(config_of(world)).to(on, memory_format=torch.channels_last)
    frames, answers = labelled(world, range(FIRST_SEED, FIRST_SEED + clips), network.config)

    def loss(network: nn.Module, rng: np.random.Generator) -> Tensor:
        rows = rng.choice(clips, settings.batch_size, replace=False)
        with training(on):
            said = network(as_video(frames[rows]).to(on))
        return sum(F.cross_entropy(said[name].float(), answers[name][rows].to(on)) for name in QUESTIONS)

    checkpoint = out.with_name(out.name + ".ckpt")
    average = fit(network, loss, settings, checkpoint=checkpoint, progress=progress).cpu()
    unseen = range(FIRST_SEED + 10**7, FIRST_SEED + 10**7 + held_out)
    right = accuracy(average, *labelled(world, unseen, network.config))
    told = {f"accuracy of {name}": f"{share:.3f}" for name, share in right.items()}
    weights.save(average, out, network.config, dtype=torch.float16, **told)
    checkpoint.unlink(missing_ok=True)
    return out


def config_of(world: World) -> WatcherConfig:
    return WatcherConfig(
        characters=tuple(world.characters),
        actions=tuple(world.actions),
        places=tuple(world.places),
        cameras=tuple(dict.fromkeys(words.CAMERAS)),
    )


def labelled(world: World, seeds: range, config: WatcherConfig) -> tuple[np.ndarray, dict[str, Tensor]]:
    """Frames (n, f, h, w, 3) uint8 of scenes, every fourth of them with a held-out character or pair, and the answers.

    It is to know those, too, whom it is asked about.
    """
    moments = range(0, FRAMES, FRAMES // config.num_frames)
    frames = np.empty((len(seeds), len(moments), world.size, world.size, 3), np.uint8)
    answers: dict[str, list[int]] = {name: [] for name in QUESTIONS}
    for row, seed in enumerate(seeds):
        scene = world.scene(seed, "held_out" if seed % 4 == 0 else "train")
        stage = Stage(world, scene)
        for place, moment in enumerate(moments):
            frames[row, place] = stage.frame(moment, FRAMES)[0]
        for name, found in answers.items():
            found.append(getattr(config, f"{name}s").index(getattr(scene, name)))
    return frames, {name: torch.tensor(found) for name, found in answers.items()}


def as_video(frames: np.ndarray) -> Tensor:
    """uint8 (n, f, h, w, 3) -> (n, 3, f, h, w) in [-1, 1]."""
    return rearrange(torch.from_numpy(frames).float() / 127.5 - 1, "n f h w c -> n c f h w")


@torch.inference_mode()
def accuracy(network: Watcher, frames: np.ndarray, answers: dict[str, Tensor]) -> dict[str, float]:
    """The share of clips about which each question is answered right."""
    said = [network(as_video(frames[i : i + 16])) for i in range(0, len(frames), 16)]
    right = {name: torch.cat([part[name] for part in said]).argmax(1) == answers[name] for name in QUESTIONS}
    return {name: hits.float().mean().item() for name, hits in right.items()}
