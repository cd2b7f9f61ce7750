"""One process's networks: those that make clips, and those that measure them."""

import functools
from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
import torch
from einops import rearrange
from torch import Tensor, nn

from models import precision
from models.video_model import VideoModel
from models.watcher import QUESTIONS, Watcher, WatcherConfig, spread
from models.weights import load
from storycli import catalogue
from storycli.depth import DepthEstimator
from storycli.library.encoder import Encoder
from storycli.render import load_model, sample, to_frames

WATCHER = catalogue.BUILT_IN / "storybook-watcher.safetensors"
STILL = 2 / 255  # of depth; where it changes by less from frame to frame, nothing should change in the picture


@dataclass(frozen=True, kw_only=True, slots=True)
class Variant:
    """One way to render a clip."""

    name: str
    tau: float  # from 1 on, the clip's depth plays no part at all
    guidance: float


class Bench:
    """The networks that make clips and measure them, on one device."""

    def __init__(self, model: str, device: str):
        where = precision.pick_device(device)
        # At the size that is sampled: what makes films larger is none of what is measured here.
        self.model = replace(load_model(model), upscaler=None).to(where, "unet")
        self.sampler = catalogue.named(model).sampler
        self.estimator, self.encoder = DepthEstimator(model, str(where)), Encoder()

    def latents(self, caption: str, depth: np.ndarray, variants: Sequence[Variant], steps: int, seed: int) -> Tensor:
        """(variants, c, f, h, w), half precision. Every variant starts from the same noise."""
        guide = torch.from_numpy(depth)[None, None]
        starts = {v.guidance: replace(self.model, unet=Remembering(self.model.unet)) for v in variants}
        made = []
        for variant in variants:
            model: VideoModel = starts[variant.guidance]
            how = dict(steps=steps, sampler=self.sampler, guidance=variant.guidance, tau=variant.tau)
            made.append(sample(model, caption, guide, seed=seed, **how)[0].half().cpu())
        return torch.stack(made)

    def frames(self, latents: Tensor) -> np.ndarray:
        """Latents (c, f, h, w) -> uint8 (f, H, W, 3)."""
        return to_frames(self.model, latents[None].float().to(self.model.device))

    def embed(self, clips: Sequence[np.ndarray]) -> Tensor:
        """Clips uint8 (f, H, W, 3) -> (n, e)."""
        chosen = [clip[self.encoder.sample(0, len(clip))] for clip in clips]
        return torch.from_numpy(np.concatenate([self.encoder.embed_clips([clip]) for clip in chosen]))


class Remembering(nn.Module):
    """A U-Net that gives known answers again: samplings that differ in tau alone begin alike."""

    def __init__(self, unet: nn.Module):
        super().__init__()
        self.unet, self.config = unet, unet.config
        self.answers: dict[int, Tensor] = {}

    def forward(self, x: Tensor, t: Tensor, context: Tensor, structure=None, words: Tensor | None = None) -> Tensor:
        now = int(t[0])
        if structure is None:
            return self.unet(x, t, context, None, words)
        if now not in self.answers:
            self.answers[now] = self.unet(x, t, context, structure, words)
        return self.answers[now]


@torch.inference_mode()
def watch(clips: Sequence[np.ndarray]) -> tuple[Tensor, Tensor]:
    """The watcher's features (n, d) and answers (n, questions) for clips uint8 (f, H, W, 3)."""
    network, features, answers = watcher(), [], []
    for clip in clips:
        chosen = [shrunk(clip[i]) for i in spread(clip, network.config.num_frames)]
        video = rearrange(torch.from_numpy(np.stack(chosen)).float() / 127.5 - 1, "f h w c -> 1 c f h w")
        features.append(network.features(video))
        said = network(video)
        answers.append(torch.stack([said[name].argmax(1) for name in QUESTIONS], dim=1))
    return torch.cat(features), torch.cat(answers)


def shrunk(frame: np.ndarray, side: int = 128) -> np.ndarray:
    """A frame (h, w, 3) at the size that the watcher knows."""
    if frame.shape[:2] == (side, side):
        return frame
    return cv2.resize(frame, (side, side), interpolation=cv2.INTER_AREA)


@functools.cache
def watcher() -> Watcher:
    return load(WATCHER, Watcher, WatcherConfig)


@functools.cache
def at(model: str, device: str) -> Bench:
    """The bench of this process."""
    return Bench(model, device)


def flicker(clip: np.ndarray, depth: np.ndarray) -> float:
    """Mean change of frames uint8 (f,h,w,3) where depth (f,h,w) stands still throughout, in grey levels of 255."""
    still = np.abs(np.diff(depth, axis=0)).max(0) < STILL
    change = np.abs(np.diff(clip.astype(np.float32), axis=0)).mean((0, 3))
    return float(change[still].mean()) if still.any() else float("nan")


def likeness(depth: np.ndarray, other: np.ndarray) -> float:
    """Correlation of two depths (f,h,w); not a number when one of them is flat."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return float(np.corrcoef(depth.ravel(), other.ravel())[0, 1])
