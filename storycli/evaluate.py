"""The paper's Table 1 measured again: what retrieved structure adds to text (PAPER.md, "The baselines").

Videos are compared in the space of the project's own retrieval encoder, so its FVD and KVD are numbers of their own,
comparable with each other and not with published ones.
"""

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from models.metrics import frechet_distance, kernel_distance, text_to_video
from storycli import sources, video
from storycli.catalogue import Model
from storycli.dataset import Sample
from storycli.depth import DepthEstimator
from storycli.encoder import Encoder
from storycli.errors import StoryError
from storycli.render import Renderer

CONDITIONS = {"text only": 1.0, "text + depth": 0.0, "text + depth, tau 0.4": 0.4}  # by their tau
STILL = 2 / 255  # of depth; where it changes by less from frame to frame, nothing should change in the picture


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One condition: distances (lower is better), then shares and correlations (higher), then flicker (lower)."""

    condition: str
    fvd: float
    kvd: float
    prompt_fit: float  # share of clips that find their own prompt first among all
    structure_fit: float  # mean correlation of a clip's depth with the depth that guided it
    flicker: float  # mean change between frames where the guiding depth stands still, in grey levels of 255


def table(
    model: Model,
    samples: Sequence[Sample],
    *,
    device: str = "auto",
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> list[Row]:
    """Render every sample's caption under every condition and compare with the samples; first the samples themselves.

    The first half of the samples guides and prompts; the second half is what real clips look like. Raises StoryError
    for fewer than 8 samples.
    """
    if len(samples) < 8:
        raise StoryError(f"{len(samples)} clips are too few to compare distributions", "give at least 8")
    renderer, estimator, encoder = Renderer(model.name, device), DepthEstimator(model.name, device), Encoder()
    guides, real = samples[: len(samples) // 2], _features(encoder, [s.frames for s in samples[len(samples) // 2 :]])
    depths = [estimator.estimate(sample.frames) for sample in guides]
    prompts = encoder.embed_text([sample.caption for sample in guides])

    rows = [_row("the clips themselves", [s.frames for s in guides], depths, prompts, real, encoder, estimator)]
    total = len(CONDITIONS) * len(guides)
    for condition, tau in CONDITIONS.items():
        made = []
        for number, (sample, depth) in enumerate(zip(guides, depths, strict=True)):
            clip = renderer.render(
                sample.caption,
                depth,
                seed=seed + number,
                steps=model.steps,
                sampler=model.sampler,
                guidance=model.guidance,
                tau=tau,
            )
            made.append(clip)
            if progress:
                progress((len(rows) - 1) * len(guides) + len(made), total)
        rows.append(_row(condition, made, depths, prompts, real, encoder, estimator))
    return rows


def _row(
    condition: str,
    clips: Sequence[np.ndarray],
    depths: Sequence[np.ndarray],
    prompts: np.ndarray,
    real: torch.Tensor,
    encoder: Encoder,
    estimator: DepthEstimator,
) -> Row:
    features = _features(encoder, clips)
    ranks = torch.from_numpy(prompts) @ features.T
    fits = []
    for clip, depth in zip(clips, depths, strict=True):
        small = _shrunk(clip, depth.shape[1:])
        fits.append(float(np.corrcoef(estimator.estimate(small).ravel(), depth.ravel())[0, 1]))
    return Row(
        condition=condition,
        fvd=float(frechet_distance(features, real)),
        kvd=float(kernel_distance(features, real)),
        prompt_fit=text_to_video(ranks).r1 / 100,
        structure_fit=float(np.nanmean(fits)),
        flicker=float(np.mean([flicker(clip, depth) for clip, depth in zip(clips, depths, strict=True)])),
    )


def flicker(clip: np.ndarray, depth: np.ndarray) -> float:
    """Mean change of frames uint8 (f,H,W,3) where depth (f,h,w) stands still throughout, in grey levels of 255."""
    still = np.abs(np.diff(depth, axis=0)).max(0) < STILL
    change = np.abs(np.diff(_shrunk(clip, depth.shape[1:]).astype(np.float32), axis=0)).mean((0, 3))
    return float(change[still].mean()) if still.any() else 0.0


def captioned(paths: Sequence[Path], model: Model, count: int, seed: int = 0) -> list[Sample]:
    """Clips with captions from folders, files and tables, in random order. Raises StoryError when there are none."""
    found = [s for s in sources.find(paths) if isinstance(s, sources.Source) and s.told.caption]
    if not found:
        raise StoryError("none of these videos has a caption", "give a CSV with the columns path and caption")
    random.Random(seed).shuffle(found)
    size = model.size[0] // model.upscale, model.size[1] // model.upscale
    return [
        Sample(
            source.told.caption,
            video.read(source.path, num_frames=model.frames, fps=model.fps, size=size),
            np.zeros((model.frames, size[1], size[0]), np.uint8),
            np.zeros((model.frames, size[1], size[0]), bool),
        )
        for source in found[:count]
    ]


def unseen(assets: Path, count: int, first_seed: int = 910_000_000) -> Iterator[Sample]:
    """Scenes of the storybook world that training has not drawn."""
    from storycli.dataset import world_samples

    yield from world_samples(assets, "core", range(first_seed, first_seed + count), 16)


def _features(encoder: Encoder, clips: Sequence[np.ndarray]) -> torch.Tensor:
    """(n, d), of length 1: the encoder's view of a few frames of each clip."""
    chosen = [clip[encoder.sample(0, len(clip))] for clip in clips]
    return torch.from_numpy(np.concatenate([encoder.embed_clips([clip]) for clip in chosen]))


def _shrunk(clip: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Frames brought to the size (h, w) of the depth that guided them."""
    import cv2

    return np.stack([cv2.resize(frame, size[::-1], interpolation=cv2.INTER_AREA) for frame in clip])


def as_text(rows: Sequence[Row]) -> str:
    """The table as people read it, in Markdown."""
    lines = [
        "| condition | FVD | KVD | prompt fit | structure fit | flicker |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for row in rows:
        lines.append(
            f"| {row.condition} | {row.fvd:.3f} | {row.kvd:.4f} | {row.prompt_fit:.0%} | {row.structure_fit:.2f}"
            f" | {row.flicker:.1f} |"
        )
    return "\n".join(lines)
