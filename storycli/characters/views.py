"""Pictures of a character, and of others of its kind, as a network learns from them: encoded once, before the loop."""

import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from models import precision
from models.video_model import VideoModel
from storycli import catalogue
from storycli.depth import DepthEstimator, estimator, figure, foreground
from storycli.footage import readable
from storycli.media import video
from storycli.media.pictures import read
from storycli.story import Candidate, Clip

log = logging.getLogger(__name__)

WORD = "<new1>"
LEAST = 0.02  # of a picture that a character has to fill
OTHERS, PAPER_OTHERS = 48, 200  # clips that keep the class word honest: the built-in model's, and the paper's
SOMEWHERE = 0.6  # of all prompts say what it does, or where
LYING = 0.25  # of all views are laid on a side
ACTIONS = (
    "walking", "running", "sitting", "standing", "jumping", "dancing", "swimming", "eating", "reading a book",
    "holding something", "playing the guitar", "coming closer",
)  # fmt: skip
LAID = ("sleeping", "lying down", "asleep")
PLACES = (
    "in a park", "at the beach", "in a kitchen", "in a garden", "in a room", "in the snow", "in the forest",
    "in the city", "in the mountains", "under water", "on a stage", "at night",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Views:
    """Encoded clips (pictures: f = 1): latents (n,c,f,h,w), depth (n,1,f,H,W) in [0, 1], mask (n,1,f,h,w), prompts.

    The mask says how much of a cell is the character, or another that stands in front. The prompts without the
    pseudo-word never change: their context (n,l,d) and the mask (n,l) of their words, None where padding is attended to
    too, are encoded once as well.
    """

    latents: Tensor
    depth: Tensor
    mask: Tensor
    prompts: list[str]
    context: Tensor
    words: Tensor | None

    def pick(self, rows: Sequence[int], frames: int) -> "Views":
        """Some of them; pictures become clips of so many frames, all alike."""
        clips = (part[rows].expand(-1, -1, frames, -1, -1) for part in (self.latents, self.depth, self.mask))
        words = None if self.words is None else self.words[rows]
        return Views(*clips, [self.prompts[row] for row in rows], self.context[rows], words)


def picture_views(
    model: VideoModel, name: str, paths: Sequence, class_word: str, size: int, each: int, seed: int
) -> Views:
    """``each`` views of every picture: mirrored, moved, tilted, nearer and farther, with a prompt that says what shows.

    Most prompts go on with something that the character might be doing somewhere, true or not: stories are told in such
    sentences, and a network that knows it from its name alone would draw it there as any other of its kind. Where
    nothing stands out from a picture, all of it counts as the character.
    """
    rng = np.random.default_rng(seed)
    style = "storybook picture" if name == "storybook" else "photo"
    frames, masks, prompts = [], [], []
    seen_by = estimator(name, str(model.device))
    for path in paths:
        pixels, opacity = read(path, size)
        shape = figure(seen_by.estimate(pixels[None])[0]) if opacity is None else opacity
        if shape.mean() < LEAST:
            shape = np.ones(shape.shape)
        for _ in range(each):
            zoom = rng.uniform(0.5, 1.35)
            lies = rng.random() < LYING
            tilt = rng.choice([-1, 1]) * rng.uniform(60, 90) if lies else rng.normal(0, 8)
            turn = cv2.getRotationMatrix2D((size / 2, size / 2), tilt, zoom)
            turn[:, 2] += rng.uniform(-0.1, 0.1, 2) * size
            if rng.random() < 0.5:
                turn[0] = [0, 0, size] - turn[0]  # mirrored
            frames.append(cv2.warpAffine(pixels, turn, (size, size), borderMode=cv2.BORDER_REPLICATE))
            masks.append(cv2.warpAffine(np.float32(shape), turn, (size, size))[None])
            somewhere = elsewhere(rng, style, LAID if lies else ACTIONS) if lies or rng.random() < SOMEWHERE else ""
            prompts.append(told(rng, zoom, class_word, style) + somewhere)
    return encode_views(model, seen_by, np.stack(frames)[:, None], prompts, np.stack(masks))


def told(rng: np.random.Generator, zoom: float, class_word: str, style: str) -> str:
    """A prompt for a picture of the character that is shown so large."""
    hero = f"{WORD} {class_word}"
    if zoom < 0.8:
        return rng.choice([f"a small {hero}", f"a {hero} far away"])
    if zoom > 1.2:
        return rng.choice([f"a close up of a {hero}", f"a large {hero}"])
    return rng.choice([f"a {hero}", f"the {hero}", f"a picture of a {hero}", f"a {style} of a {hero}"])


def elsewhere(rng: np.random.Generator, style: str, actions: Sequence[str] = ACTIONS) -> str:
    """What somebody might be doing, where, or both: the end of a prompt."""
    doing, where = f" {rng.choice(actions)}", f" {rng.choice(PLACES)}"
    words = rng.choice([doing, where, doing + where, doing + where])
    return words + (", storybook style" if style == "storybook picture" and rng.random() < 0.5 else "")


def class_views(
    model: VideoModel, name: str, class_word: str, size: int, frames: int, index: Path | None = None
) -> Views | None:
    """Clips that fit the class word, with their own captions; of each its middle frame, or ``frames``.

    The built-in model's are those of the built-in library, which shows the storybook world; another model needs an
    ``index`` of real footage, where a clip without a caption has the class word for one.
    """
    from storycli.retrieve import Library

    entry = catalogue.named(name)
    library = Library(None) if entry.built_in else Library(index) if index else None
    found = library.search(class_word, OTHERS if entry.built_in else PAPER_OTHERS) if library else []
    wanted = [candidate for candidate in found if candidate.clip.caption or not entry.built_in]
    how = {"num_frames": frames, "fps": entry.fps if frames > 1 else None, "size": (size, size)}
    clips = list(footage(wanted, **how))
    if not clips:
        log.warning("no clips of %s to keep the class word honest", class_word)
        return None
    told, shown = [clip.caption or f"a {class_word}" for clip, _ in clips], np.stack([seen for _, seen in clips])
    return encode_views(model, estimator(name, str(model.device)), shown, told)


def footage(found: Iterable[Candidate], **how) -> Iterator[tuple[Clip, np.ndarray]]:
    """The clips of a library that are there, with their frames, read as ``video.read`` is told."""
    for candidate, frames in readable(found, lambda clip: video.read(clip.path, start=clip.start, end=clip.end, **how)):
        yield candidate.clip, frames


@torch.no_grad()
def encode_views(
    model: VideoModel,
    seen_by: DepthEstimator,
    frames: np.ndarray,
    prompts: list[str],
    masks: np.ndarray | None = None,
) -> Views:
    """Encode clips uint8 (n,f,H,W,3) once. Without masks (n,f,H,W) in [0, 1], what stands in front is told by depth."""
    depth = np.stack([seen_by.estimate(clip) for clip in frames])
    pixels = rearrange(torch.from_numpy(frames), "n f h w c -> n c f h w")
    with precision.autocast(model.device, exact=model.exact), model.at_work("autoencoder"):
        latents = [model.autoencoder_encode(some.to(model.device).float() / 127.5 - 1) for some in pixels.split(16)]
    latents = torch.cat(latents).float().cpu()
    where = torch.from_numpy(foreground(depth) if masks is None else masks).float()
    cells = F.adaptive_avg_pool2d(where, latents.shape[-2:])[:, None]
    with precision.autocast(model.device, exact=model.exact), model.at_work("text"):
        context, words = model.text.read([prompt.replace(f"{WORD} ", "") for prompt in prompts])
    return Views(latents, torch.from_numpy(depth)[:, None], cells, prompts, context, words)
