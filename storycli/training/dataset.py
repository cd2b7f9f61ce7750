"""Training data as the networks see it: latents, depth, masks and text, encoded once and mapped from disk.

A data set is a folder of shards. Each is one safetensors file of ``n`` samples of ``f`` frames:
``latents`` (n,c,f,h,w) float16, ``depth`` (n,f,H,W) uint8 with 255 = near, ``mask`` (n,f,h,w) uint8 with the share of
each latent cell that the foreground covers, ``context`` (n,l,d) float16 and ``words`` (n,l) bool.
"""

import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from einops import rearrange
from safetensors.torch import load_file
from torch import Tensor

from models import precision
from models.text import TextEncoder
from models.weights import write_tensors
from storycli import digest
from storycli.errors import StoryError
from storycli.processes import each

SHARD_FRAMES = 2048
CLIP_SEEDS = 500_000_000  # clips are drawn from seeds of their own, far from those of the stills


@dataclass(frozen=True, slots=True)
class Sample:
    """Frames uint8 (f,H,W,3), depth uint8 (f,H,W) with 255 = near, mask bool (f,H,W) of what matters most."""

    caption: str
    frames: np.ndarray
    depth: np.ndarray
    mask: np.ndarray


Encode = Callable[[Tensor], Tensor]  # video (b,3,f,H,W) in [-1, 1] -> latents (b,c,f,h,w)


def world_samples(
    assets: Path,
    tier: str,
    seeds: Iterable[int],
    frames: int,
    split: str = "train",
    estimate: Callable[[np.ndarray], np.ndarray] | None = None,
    often: Mapping[str, float] | None = None,
) -> Iterator[Sample]:
    """Scenes of the storybook world, one per seed: whole clips, or stills where ``frames`` is 1.

    Depth is exact, or what ``estimate`` makes of the frames: uint8 (f,H,W,3) -> (f,H,W) in [0, 1]. ``often`` makes
    actions so many times as frequent.
    """
    from storycli.world.generator import World

    world = World(assets, tier, often=often)
    for seed in seeds:
        scene = world.scene(seed, split)
        clip = world.still(scene) if frames == 1 else world.clip(scene, frames)
        depth = clip.depth if estimate is None else np.uint8(np.round(estimate(clip.frames) * 255))
        yield Sample(world.caption(scene, random.Random(seed)), clip.frames, depth, clip.mask)


@torch.inference_mode()
def write_shard(
    samples: Iterable[Sample], path: Path, encode: Encode, text: TextEncoder, batch_frames: int = 64
) -> None:
    """Encode samples of equal length into one shard file, which appears whole or not at all."""
    parts: list[dict[str, Tensor]] = []
    samples = iter(samples)
    first = next(samples)
    batch = max(1, batch_frames // len(first.frames))
    samples = chain([first], samples)
    while group := list(islice(samples, batch)):
        video = torch.from_numpy(np.stack([s.frames for s in group]))
        video = rearrange(video, "b f h w c -> b c f h w").float() / 127.5 - 1
        with precision.autocast("cpu"):
            latents = encode(video)
            context, words = text.read([s.caption for s in group])
        mask = torch.from_numpy(np.stack([s.mask for s in group])).float()
        cells = F.adaptive_avg_pool2d(mask, latents.shape[-2:])
        parts.append(
            {
                "latents": latents.half(),
                "depth": torch.from_numpy(np.stack([s.depth for s in group])),
                "mask": (cells * 255).round().to(torch.uint8),
                "context": context.half(),
                "words": torch.ones(context.shape[:2], dtype=torch.bool) if words is None else words,
            }
        )
    write_tensors(path, {key: torch.cat([part[key] for part in parts]).contiguous() for key in parts[0]}, {})


def prepare_world(
    folder: Path,
    assets: Path,
    weights: Path,
    *,
    tier: str,
    stills: int,
    clips: int,
    num_frames: int = 16,
    workers: int = 1,
    split: str = "train",
    first_seed: int = 0,
    often: Mapping[str, float] | None = None,
) -> Iterator[Path]:
    """Draw and encode the storybook world into ``folder/stills`` and ``folder/clips``; yields shards as they are done.

    Every second shard has its depth estimated from the frames, as it is in use; the others have it exact. Shards that
    are there already are kept, so that an interrupted preparation goes on where it stopped.
    """
    jobs = []
    for kind, count, frames in (("stills", stills, 1), ("clips", clips, num_frames)):
        (folder / kind).mkdir(parents=True, exist_ok=True)
        size = SHARD_FRAMES // frames
        for index in range(-(-count // size)):
            path = folder / kind / f"{index:05d}.safetensors"
            start = first_seed + index * size + (0 if frames == 1 else CLIP_SEEDS)
            seeds = range(start, start + min(size, count - index * size))
            if not path.exists():
                jobs.append((path, assets, weights, tier, seeds, frames, split, index % 2 == 1, often))
    yield from each(_world_shard, jobs, workers)


def _world_shard(job: tuple) -> Path:
    from models.weights import load_autoencoder, load_minilm

    path, assets, weights, tier, seeds, frames, split, estimated, often = job
    torch.set_num_threads(1)
    autoencoder, text = load_autoencoder(weights), load_minilm()
    estimate = None
    if estimated:
        from storycli.depth import DepthEstimator

        estimate = DepthEstimator("storybook", "cpu").estimate
    samples = world_samples(assets, tier, seeds, frames, split, estimate, often)
    write_shard(samples, path, autoencoder.encode, text)
    return path


class Shards:
    """Random access to a folder of shards, all of one length in frames."""

    def __init__(self, folder: Path):
        paths = sorted(folder.glob("*.safetensors"))
        if not paths:
            raise FileNotFoundError(f"no shards in {folder}")
        self.shards = [load_file(path) for path in paths]
        self.ends = np.cumsum([len(shard["latents"]) for shard in self.shards])

    def __len__(self) -> int:
        return int(self.ends[-1])

    @property
    def frames(self) -> int:
        """The length of every sample."""
        return self.shards[0]["latents"].shape[2]

    def __getitem__(self, indices: Iterable[int]) -> dict[str, Tensor]:
        """The samples at some indices, as one batch."""
        rows = []
        for index in indices:
            shard = int(np.searchsorted(self.ends, index, side="right"))
            row = int(index) - int(self.ends[shard - 1] if shard else 0)
            rows.append({key: value[row] for key, value in self.shards[shard].items()})
        return {key: torch.stack([row[key] for row in rows]) for key in rows[0]}


def claim(folder: Path, content: object) -> None:
    """Note what the shards of a folder are made of. Raises StoryError when it holds shards of something else."""
    path, made_of = folder / "made-of", digest.key(content)
    if path.exists() and path.read_text() != made_of:
        raise StoryError(f"{folder} holds shards of other data", "choose another folder with -o, or delete this one")
    folder.mkdir(parents=True, exist_ok=True)
    path.write_text(made_of)


def empty_context(text: TextEncoder) -> tuple[Tensor, Tensor]:
    """The encoded empty prompt, (l, d), and its word mask (l,)."""
    context, words = text.read([""])
    return context[0], words[0]


def video_samples(
    sources: Iterable[tuple[Path, str]], model: str, num_frames: int, fps: float, size: int
) -> Iterator[Sample]:
    """Captioned videos as samples: the middle of each, its depth estimated; nothing counts as foreground.

    Raises StoryError for a file that is no video.
    """
    from storycli.depth import DepthEstimator
    from storycli.media import video

    estimator = DepthEstimator(model)
    for path, caption in sources:
        frames = video.read_middle(path, num_frames, fps, (size, size))
        depth = np.uint8(np.round(estimator.estimate(frames) * 255))
        yield Sample(caption, frames, depth, np.zeros(frames.shape[:3], dtype=bool))


def prepare_videos(
    folder: Path,
    sources: Sequence[tuple[Path, str]],
    encode: Encode,
    text: TextEncoder,
    *,
    model: str,
    num_frames: int,
    fps: float,
    size: int,
) -> Iterator[Path]:
    """Encode captioned videos into ``folder/clips`` and single frames into ``folder/stills``; yields done shards."""
    for kind, frames in (("stills", 1), ("clips", num_frames)):
        (folder / kind).mkdir(parents=True, exist_ok=True)
        step = SHARD_FRAMES // num_frames
        for index, start in enumerate(range(0, len(sources), step)):
            path = folder / kind / f"{index:05d}.safetensors"
            if not path.exists():
                samples = video_samples(sources[start : start + step], model, frames, fps, size)
                write_shard(samples, path, encode, text)
            yield path
