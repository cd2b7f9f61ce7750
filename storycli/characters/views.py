"""Pictures of a character, and of others of its kind, as a network learns from them: encoded once, before the loop."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from models import precision
from models.steady import IN_FRONT
from models.video_model import VideoModel
from storycli import catalogue
from storycli.config import library_folder
from storycli.media.pictures import read

log = logging.getLogger(__name__)

WORD = "<new1>"


@dataclass(frozen=True, slots=True)
class Views:
    """Encoded clips (pictures: f = 1): latents (n,c,f,h,w), depth (n,1,f,H,W) in [0, 1], mask (n,1,f,h,w), prompts.

    Prompts without the pseudo-word never change: their context (n,l,d) and the mask (n,l) of their words, None where
    padding is attended to too, are encoded once as well.
    """

    latents: Tensor
    depth: Tensor
    mask: Tensor
    prompts: list[str]
    context: Tensor | None = None
    words: Tensor | None = None

    def pick(self, rows: Sequence[int], frames: int) -> "Views":
        """Some of them; pictures become clips of so many frames, all alike."""
        clips = (part[rows].expand(-1, -1, frames, -1, -1) for part in (self.latents, self.depth, self.mask))
        encoded = (None if part is None else part[rows] for part in (self.context, self.words))
        return Views(*clips, [self.prompts[row] for row in rows], *encoded)


def picture_views(
    model: VideoModel, name: str, paths: Sequence, class_word: str, size: int, each: int, seed: int
) -> Views:
    """``each`` views of every picture: mirrored, moved, nearer and farther, with a prompt that says so if it shows."""
    rng = np.random.default_rng(seed)
    style = "storybook picture" if name == "storybook" else "photo"
    frames, masks, prompts = [], [], []
    for path in paths:
        pixels, opacity = read(path, size)
        for _ in range(each):
            zoom = rng.uniform(0.7, 1.35)
            shift = rng.uniform(-0.08, 0.08, 2) * size
            mirror = -1.0 if rng.random() < 0.5 else 1.0
            turn = np.float32(
                [
                    [mirror * zoom, 0, size / 2 * (1 - mirror * zoom) + shift[0]],
                    [0, zoom, size / 2 * (1 - zoom) + shift[1]],
                ]
            )
            frames.append(cv2.warpAffine(pixels, turn, (size, size), borderMode=cv2.BORDER_REPLICATE))
            masks.append(None if opacity is None else cv2.warpAffine(opacity, turn, (size, size)))
            prompts.append(told(rng, zoom, class_word, style))
    return encode_views(model, name, np.stack(frames)[:, None], masks, prompts)


def told(rng: np.random.Generator, zoom: float, class_word: str, style: str) -> str:
    """A prompt for a picture of the character that is shown so large."""
    hero = f"{WORD} {class_word}"
    if zoom < 0.8:
        return rng.choice([f"a small {hero}", f"a {hero} far away"])
    if zoom > 1.2:
        return rng.choice([f"a close up of a {hero}", f"a large {hero}"])
    return rng.choice([f"a {hero}", f"the {hero}", f"a picture of a {hero}", f"a {style} of a {hero}"])


def class_views(model: VideoModel, name: str, class_word: str, size: int, frames: int) -> Views | None:
    """Library clips that fit the class word, with their own captions; of each its middle frame, or ``frames``.

    The built-in library shows the storybook world; another model needs a library of real footage.
    """
    from storycli.media import video
    from storycli.retrieve import Library

    library = None if name == "storybook" else library_folder(None)
    found = Library(library).search(class_word, 48) if library or name == "storybook" else []
    clips = [candidate.clip for candidate in found if candidate.clip.caption]
    if not clips:
        log.warning("no captioned clips of %s to keep the class word honest", class_word)
        return None
    fps = catalogue.named(name).fps if frames > 1 else None
    how = {"num_frames": frames, "fps": fps, "size": (size, size)}
    shown = [video.read(clip.path, start=clip.start, end=clip.end, **how) for clip in clips]
    views = encode_views(model, name, np.stack(shown), [None] * len(clips), [clip.caption for clip in clips])
    with torch.no_grad(), precision.autocast(model.device), model.at_work("text"):
        ids, words = model.text.tokenize(views.prompts)
        words = None if words is None else words.to(model.device)
        return replace(views, context=model.text.encode(ids.to(model.device), words), words=words)


@torch.no_grad()
def encode_views(
    model: VideoModel, name: str, frames: np.ndarray, masks: Sequence[np.ndarray | None], prompts: list[str]
) -> Views:
    """Encode clips uint8 (n,f,H,W,3) once: latents, depth of each on its own, and where to look."""
    from storycli.depth import DepthEstimator

    estimator = DepthEstimator(name, str(model.device))
    depth = np.stack([estimator.estimate(clip) for clip in frames])
    video = rearrange(torch.from_numpy(frames), "n f h w c -> n c f h w")
    with precision.autocast(model.device), model.at_work("autoencoder"):
        latents = [model.autoencoder_encode(some.to(model.device).float() / 127.5 - 1) for some in video.split(16)]
    latents = torch.cat(latents).float().cpu()
    where = np.stack([near(d) if m is None else m[None] for d, m in zip(depth, masks, strict=True)])
    cells = F.adaptive_avg_pool2d(torch.from_numpy(where).float(), latents.shape[-2:])[:, None]
    return Views(latents, torch.from_numpy(depth)[:, None], cells, prompts)


def near(depth: np.ndarray) -> np.ndarray:
    """A rough mask of what stands before the ground and the scenery: depth (...,h,w) -> bool (...,h,w)."""
    return depth > np.median(depth, axis=-1, keepdims=True) + IN_FRONT
