"""What does the distance between sets of clips see? Real clips, damaged in known ways."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import cv2
import numpy as np

from storycli.evaluate.clips import Files, Scenes
from storycli.training.dataset import Sample

SMOOTH = 6.0  # pixels, of the field that wobbles a picture

Damage = Callable[[np.ndarray, np.random.Generator], np.ndarray]  # frames uint8 (f, h, w, 3), twice


@dataclass(frozen=True, kw_only=True, slots=True)
class Damaged:
    """Clips with one kind of ``DAMAGES`` done to each."""

    clips: Scenes | Files
    kind: str

    def __len__(self) -> int:
        return len(self.clips)

    def identity(self, chosen: range) -> list:
        return ["damaged", self.kind, self.clips.identity(chosen)]

    def read(self, chosen: range) -> list[Sample]:
        samples = self.clips.read(chosen)
        made = (DAMAGES[self.kind](s.frames, np.random.default_rng(i)) for i, s in zip(chosen, samples, strict=True))
        return [replace(s, frames=frames) for s, frames in zip(samples, made, strict=True)]


def blurred(frames: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return np.stack([cv2.GaussianBlur(frame, (0, 0), 1.5) for frame in frames])


def noisy(frames: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return (frames + rng.normal(0, 8, frames.shape)).clip(0, 255).astype(np.uint8)


def frozen(frames: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return np.repeat(frames[:1], len(frames), axis=0)


def shuffled(frames: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return frames[rng.permutation(len(frames))]


def warped(frames: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Things out of shape, in the same way in every frame."""
    field = _field(frames.shape[1:3], rng)
    return np.stack([_moved(frame, 3 * field) for frame in frames])


def wobbling(frames: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Things out of shape by little, anew in every frame."""
    return np.stack([_moved(frame, 1.5 * _field(frame.shape[:2], rng)) for frame in frames])


DAMAGES: Mapping[str, Damage] = {
    "blurred by 1.5 pixels": blurred,
    "with noise of 8 levels": noisy,
    "warped by 3 pixels": warped,
    "wobbling by 1.5 pixels": wobbling,
    "with frames shuffled": shuffled,
    "with one frame throughout": frozen,
}


def _field(size: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """Smooth random movements float32 (2, h, w), of unit variance."""
    field = np.stack([cv2.GaussianBlur(part, (0, 0), SMOOTH) for part in rng.normal(size=(2, *size))])
    return (field / field.std()).astype(np.float32)


def _moved(frame: np.ndarray, field: np.ndarray) -> np.ndarray:
    y, x = np.mgrid[: frame.shape[0], : frame.shape[1]].astype(np.float32)
    return cv2.remap(frame, x + field[0], y + field[1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
