"""The product with quick stand-ins for its networks: what is tested here is everything around them.

``install`` puts them in place; run as a program, this file is the command line with them installed. Each piece of work
of a stand-in is written to the file named by STUDIO_LOG, and STUDIO_SLOW makes a denoising step last so many seconds.
"""

import dataclasses
import os
import sys
import time
import types
import zlib
from pathlib import Path

import numpy as np
import pytest

from storycli import catalogue, stages
from storycli.story import Candidate, Clip

PLACES = ["forest", "beach", "kitchen", "city", "garden", "palace"]
MODEL = dataclasses.replace(
    catalogue.MODELS["storybook"],
    name="storybook",
    files=(),
    frames=4,
    fps=8,
    size=(64, 64),
    grid=16,
    upscale=1,
    steps=3,
)


def did(work: str) -> None:
    """Note a piece of work, so that a test can tell what was done and what was not."""
    if log := os.environ.get("STUDIO_LOG"):
        with Path(log).open("a") as file:
            file.write(work + "\n")


class Shelf:
    """A library of six clips, each of another place; those whose place the query names come first."""

    def __init__(self, folder: Path):
        self.folder = folder

    def search(self, query: str, k: int, *, seconds: float) -> list[Candidate]:
        did(f"search {query}")
        scores = {place: (place in query) - zlib.crc32(f"{place} {query}".encode()) / 2**33 for place in PLACES}
        best = sorted(PLACES, key=lambda place: -scores[place])[:k]
        return [Candidate(clip=self._clip(place), score=scores[place]) for place in best]

    def _clip(self, place: str) -> Clip:
        path = self.folder / f"{place}.mp4"
        return Clip(
            id=place, path=path, start=0, end=4, fps=8, width=64, height=64, caption=f"a {place}", source="studio"
        )


class Estimator:
    def estimate(self, frames: np.ndarray) -> np.ndarray:
        did("depth")
        return frames.mean(axis=-1, dtype=np.float32) / 255


class Renderer:
    """Frames that hang on everything a real clip hangs on."""

    def render(
        self, prompt, depth, *, seed, sampler, steps, guidance, tau, negative, characters, progress
    ) -> np.ndarray:
        did(f"render {prompt}")
        for step in range(steps):
            time.sleep(float(os.environ.get("STUDIO_SLOW", 0)))
            progress(step + 1, steps)
        cast = b"".join(path.read_bytes() for path in characters.values())
        told = f"{prompt} {seed} {steps} {guidance} {tau} {negative}".encode() + cast
        colour = np.random.default_rng(zlib.crc32(told)).integers(0, 200, 3)
        return (depth[..., None] * 55 + colour).astype(np.uint8)


def install(folder: Path, patch: pytest.MonkeyPatch) -> None:
    """Put the stand-ins in place; the clips of the library are made in ``folder``."""
    from storycli.media import video

    for n, place in enumerate(PLACES):
        if not (path := folder / f"{place}.mp4").exists():
            frames = np.indices((4, 64, 64)).sum(0)[..., None] * (n + 1) % 256
            video.write(path, np.repeat(frames, 3, axis=-1).astype(np.uint8), 8)
    personal, learn = (types.ModuleType(f"storycli.characters.{name}") for name in ("personal", "learn"))
    personal.ready, learn.train, learn.LOCK = _ready, _train, ".lock"
    for module in (personal, learn):
        patch.setitem(sys.modules, module.__name__, module)
    patch.setattr(catalogue, "choose", lambda name, device: MODEL)
    patch.setattr(stages, "open_library", lambda library: Shelf(folder))
    patch.setattr(stages, "_estimator", lambda model, device: Estimator())
    patch.setattr(stages, "_renderer", lambda model, device, compile: Renderer())


def _ready(character, model):
    path = character.dir / "character.safetensors"
    return path if path.exists() else None


def _train(character, model, *, index, device, progress):
    did(f"train {character.name}")
    path = character.dir / "character.safetensors"
    path.write_text(f"weights of {character.name}")
    return path


if __name__ == "__main__":
    from storycli.cli import app

    install(Path(os.environ["STUDIO"]), pytest.MonkeyPatch())
    app(prog_name="storycli")
