"""How good is a clip? Is the character in it, is the prompt, and does it move as its guide does?

Everything is seen with a retrieval network, which no training of a model or a character uses, and the depth network:
the built-in ones for the built-in model, those that know photographs for the paper's.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from storycli import catalogue
from storycli.depth import estimator, foreground
from storycli.library.encoder import Encoder
from storycli.media.pictures import pictures, read

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class Scores:
    """What is in a clip, higher is better.

    ``identity``: mean cosine of its frames to pictures of its characters, background taken away, or None where it has
    none; ``prompt``: cosine of the clip to its prompt; ``structure``: correlation of its depth with its guide's. Of a
    ``blind`` judge's, only the last is not None.
    """

    identity: float | None
    prompt: float | None
    structure: float


class Judge:
    """The two networks that see clips of a model whose guides are ``size`` (width, height).

    Where the weights of the one that knows characters and prompts are not here, the judge is ``blind`` to both.
    """

    def __init__(self, model: str, size: tuple[int, int], device: str = "auto"):
        self.estimator, self.size = estimator(model, device), size
        entry = catalogue.named(model)
        weights = entry.folder / entry.judge
        self.blind = not weights.is_file()
        if self.blind:
            log.warning(
                "%s is not here, so nobody says whether clips show what they should (storycli models pull %s)",
                weights.name,
                model,
            )
        else:
            self.encoder = Encoder(weights, "cpu" if entry.built_in else device)

    def likeness(self, folder: Path) -> np.ndarray:
        """What is seen in the pictures of a character in a folder: (n, d), of length 1. Not for a ``blind`` judge."""
        shown = [read(path, self.size[0]) for path in pictures(folder)]
        alone = [
            self.alone(pixels[None], None if opacity is None else opacity[None] > 0.5) for pixels, opacity in shown
        ]
        return self.encoder.embed_clips(alone)

    def scores(
        self, frames: np.ndarray, depth: np.ndarray, sentence: str, likenesses: Sequence[np.ndarray] = ()
    ) -> Scores:
        """Frames uint8 (f,H,W,3) against the depth (f,h,w) that guided them, a prompt and their characters."""
        size = depth.shape[2], depth.shape[1]
        frames = np.stack([cv2.resize(frame, size, interpolation=cv2.INTER_AREA) for frame in frames])
        own = self.estimator.estimate(frames)
        return Scores(
            identity=self.identity(frames, own, likenesses) if likenesses and not self.blind else None,
            prompt=None if self.blind else self.prompt(frames, sentence),
            structure=correlation(own, depth),
        )

    def identity(self, frames: np.ndarray, depth: np.ndarray, likenesses: Sequence[np.ndarray]) -> float:
        seen = self.encoder.embed_clips(list(self.alone(frames, foreground(depth))[:, None]))
        return float(np.mean([(seen @ pictured.T).mean() for pictured in likenesses]))

    def prompt(self, frames: np.ndarray, sentence: str) -> float:
        chosen = frames[self.encoder.sample(0, len(frames))]
        return float(self.encoder.embed_clips([chosen])[0] @ self.encoder.embed_text([sentence])[0])

    def alone(self, frames: np.ndarray, figure: np.ndarray | None = None) -> np.ndarray:
        """Frames uint8 (f,h,w,3) where all but a figure (f,h,w) is white; by default what stands in front."""
        figure = foreground(self.estimator.estimate(frames)) if figure is None else figure
        return np.where(figure[..., None], frames, 255).astype(np.uint8)


def correlation(depth: np.ndarray, other: np.ndarray) -> float:
    """Of two depths (f,h,w); 0 when one of them is flat."""
    if not (depth.std() and other.std()):
        return 0.0
    return float(np.corrcoef(depth.ravel(), other.ravel())[0, 1])
