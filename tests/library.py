"""Small libraries of clips for the tests of indexing and searching."""

import zlib
from functools import cache
from pathlib import Path

import clips
import numpy as np
import torch

from models import weights
from models.frozen_in_time import FrozenInTime, FrozenInTimeConfig
from storycli.media import video

TINY = FrozenInTimeConfig(
    image_size=32,
    resize=32,
    patch=16,
    num_frames=4,
    dim=16,
    depth=1,
    heads=2,
    embed_dim=8,
    text_dim=384,
    text_layers=0,
)


def encoder(path: Path, seed: int = 0) -> Path:
    """Untrained weights of the retrieval network, small enough for tests."""
    torch.manual_seed(seed)
    network = FrozenInTime(TINY)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    weights.save(network, path, TINY)
    return path


@cache
def moving(seed: int, frames: int = 12, size: tuple[int, int] = (64, 48)) -> np.ndarray:
    """A coloured texture that drifts to the right by two pixels a frame; another one for each seed."""
    width, height = size
    broad = clips.colours(1, (2 * width, height), seed=seed)[0].astype(int)
    grain = np.random.default_rng(seed).integers(-40, 40, (height // 4, width // 2, 1))
    picture = np.clip(broad + np.kron(grain, np.ones((4, 4, 1), int)), 0, 255).astype(np.uint8)
    return np.stack([np.roll(picture, 2 * i, axis=1)[:, :width] for i in range(frames)])


def clip(path: Path, seed: int | None = None, **kwargs) -> Path:
    """A file with a texture of its own."""
    path.parent.mkdir(parents=True, exist_ok=True)
    video.write(path, moving(zlib.crc32(path.name.encode()) if seed is None else seed, **kwargs), 12)
    return path


def content(library) -> list[tuple]:
    """All that an index holds, in order: for comparing two."""
    names = [name for name in library.index.table.schema.names if name != "modified"]
    return sorted(tuple(map(str, (row[name] for name in names))) for row in library.index.rows(names))


def rows(visual: np.ndarray, first: int = 0, **columns) -> list[dict]:
    """Rows of an index for these vectors (n, d), without any videos; ``columns`` are the same for all of them."""
    said = np.zeros(384, np.float32)
    named = dict(
        start=0,
        end=24,
        fps=12.0,
        width=64,
        height=48,
        seconds=2.0,
        motion=0.1,
        shake=0.0,
        caption="",
        source="",
        licence="",
        words="clip",
        said=said,
        size=1,
        modified=1,
        thumbnail=b"",
    )
    return [
        named | dict(id=f"{i:08d}", path=f"/v/{i:08d}.mp4", digest=f"{i:08d}", look=i << 20, visual=vector) | columns
        for i, vector in enumerate(visual, first)
    ]
