"""Captioned clips to be rendered again: unseen scenes of the storybook world, people's files, and clips told anew.

Each class here is a ``storycli.evaluate.study.Clips``: known by value, and readable in part by any process.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from storycli import digest
from storycli.catalogue import Model
from storycli.errors import StoryError
from storycli.library import sources
from storycli.media import video
from storycli.training.dataset import Sample, world_samples
from storycli.world.generator import World
from storycli.world.words import Scene

UNSEEN = 910_000_000  # the first seed of scenes that training has not drawn
FEWEST = 8
APART = 10_000_000  # seeds between the clips that guide and those that are compared with


@dataclass(frozen=True, kw_only=True, slots=True)
class Scenes:
    """Scenes of the storybook world, of training characters or held-out ones."""

    assets: Path
    count: int
    first: int = UNSEEN
    split: str = "train"
    frames: int = 16

    def __len__(self) -> int:
        return self.count

    def identity(self, chosen: range) -> list:
        return ["scenes", self.first + chosen.start, len(chosen), self.split, self.frames]

    def read(self, chosen: range) -> list[Sample]:
        seeds = range(self.first + chosen.start, self.first + chosen.stop)
        return list(world_samples(self.assets, "core", seeds, self.frames, self.split))

    def few(self, count: int) -> "Scenes":
        """The first of them."""
        return replace(self, count=min(count, self.count))

    def scenes(self) -> list[Scene]:
        world = World(self.assets)
        return [world.scene(seed, self.split) for seed in range(self.first, self.first + self.count)]

    def captions(self) -> tuple[str, ...]:
        world = World(self.assets)
        return tuple(world.caption(scene, random.Random(scene.seed)) for scene in self.scenes())


@dataclass(frozen=True, kw_only=True, slots=True)
class Files:
    """Videos with captions, of which the middle counts."""

    told: tuple[tuple[Path, str], ...]
    frames: int
    fps: float
    size: tuple[int, int]

    def __len__(self) -> int:
        return len(self.told)

    def identity(self, chosen: range) -> list:
        content = [[digest.file(path), caption] for path, caption in self.told[chosen.start : chosen.stop]]
        return ["the middle of files", content, self.frames, self.fps, list(self.size)]

    def read(self, chosen: range) -> list[Sample]:
        return [self._sample(path, caption) for path, caption in self.told[chosen.start : chosen.stop]]

    def few(self, count: int) -> "Files":
        """The first of them."""
        return replace(self, told=self.told[:count])

    def captions(self) -> tuple[str, ...]:
        return tuple(caption for _, caption in self.told)

    def _sample(self, path: Path, caption: str) -> Sample:
        frames = video.read_middle(path, self.frames, self.fps, self.size)
        nothing = np.zeros(frames.shape[:3], np.uint8)
        return Sample(caption, frames, nothing, nothing.astype(bool))


@dataclass(frozen=True, kw_only=True, slots=True)
class Retold:
    """Other clips under captions of their own."""

    clips: Scenes | Files
    captions: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.captions)

    def identity(self, chosen: range) -> list:
        return ["retold", self.clips.identity(chosen), list(self.captions[chosen.start : chosen.stop])]

    def read(self, chosen: range) -> list[Sample]:
        samples = self.clips.read(chosen)
        return [replace(s, caption=self.captions[i]) for i, s in zip(chosen, samples, strict=True)]


def unseen(assets: Path, count: int, real: int) -> tuple[Scenes, Scenes]:
    """Scenes that training has not drawn: ``count`` to be told and to guide, ``real`` to be compared with."""
    return Scenes(assets=assets, count=count), Scenes(assets=assets, count=real, first=UNSEEN + APART)


def captioned(paths: Sequence[Path], model: Model, count: int, seed: int = 0) -> tuple[Files, Files]:
    """Captioned clips of folders, files and tables, in random order: at most ``count`` to guide, as many to compare.

    Raises StoryError when there are too few.
    """
    found = [s for s in sources.find(paths) if isinstance(s, sources.Source) and s.told.caption]
    if not found:
        raise StoryError("none of these videos has a caption", "give a CSV with the columns path and caption")
    if len(found) < FEWEST:
        raise StoryError(f"{len(found)} clips are too few to compare distributions", f"give at least {FEWEST}")
    random.Random(seed).shuffle(found)
    half = min(count, len(found) // 2)
    told = [(source.path, source.told.caption) for source in found]
    parts = tuple(told[:half]), tuple(told[half : 2 * half])
    guides, real = (Files(told=part, frames=model.frames, fps=model.fps, size=model.sampled) for part in parts)
    return guides, real
