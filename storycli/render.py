"""Plot, depth, characters and a seed to frames: structure-guided sampling (PAPER.md, "Structure-guided text-to-video").

``Renderer`` holds a model and can be asked for one clip after another. ``sample`` is the method itself.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import torch
from einops import rearrange
from torch import Tensor

from models import precision
from models.personal import modulated
from models.sampler import Denoise, clip_noise, ddim, ddim_times, dpm_solver_pp_2m, dpm_times, from_v, guided
from models.steady import steadied, steady_weights
from models.text import put
from models.video_model import VideoModel
from storycli.characters import Personal, load_character
from storycli.errors import StoryError

Progress = Callable[[int, int], None]
SAMPLERS = {"dpm": dpm_solver_pp_2m, "ddim": ddim}  # DDIM at eta 0: both are deterministic
DECODED_AT_ONCE = 4  # frames


class Renderer:
    """Renders plots with one model on one device, where only the parts at work take up memory.

    Raises StoryError when the model's weights are not on disk.
    """

    def __init__(self, model: str = "storybook", device: str = "auto"):
        self.name = model
        self.device = precision.pick_device(device)
        self.model = load_model(model).to(self.device, "unet")

    def render(
        self,
        prompt: str,
        depth: np.ndarray,
        *,
        seed: int = 0,
        steps: int = 20,
        guidance: float = 4.0,
        tau: float = 0.2,
        sampler: str = "dpm",
        negative: str = "",
        characters: Mapping[str, Path] | None = None,
        progress: Progress | None = None,
    ) -> np.ndarray:
        """One clip: depth (f,h,w) in [0, 1], 1 = near -> frames uint8 (f,H,W,3).

        ``prompt`` names characters as ``{name}``; ``characters`` gives their weights. ``tau`` in 0 ... 1 is the share
        of diffusion time, counted from the clean end, that goes without structure. ``sampler`` is ``dpm``
        (DPM-Solver++ 2M, good from 20 steps) or ``ddim`` (from 50; what published models were sampled with). Raises
        StoryError for a prompt that does not fit the text encoder, a size or number of steps that the model cannot
        do, or a character made for another model.
        """
        cast = {name: load_character(path, self.name) for name, path in (characters or {}).items()}
        structure = torch.from_numpy(depth).float().to(self.device)[None, None]
        latents = sample(
            self.model,
            prompt,
            structure,
            seed=seed,
            steps=steps,
            guidance=guidance,
            tau=tau,
            sampler=sampler,
            negative=negative,
            cast=cast,
            progress=progress,
        )
        return to_frames(self.model, latents)


@torch.inference_mode()
def sample(
    model: VideoModel,
    prompt: str,
    depth: Tensor,
    *,
    seed: int,
    steps: int,
    guidance: float,
    tau: float,
    sampler: str = "dpm",
    negative: str = "",
    cast: Mapping[str, Personal] | None = None,
    progress: Progress | None = None,
) -> Tensor:
    """Latents (1,c,f,h,w) of a clip with the layout and motion of depth (1,1,f,H,W) in [0, 1].

    The structure is encoded once and dropped for t < tau * T; all contexts of a character that changes with time are
    encoded before the first step; conditional and unconditional run as one batch.
    """
    cast = cast or {}
    device = model.device
    shape = latent_shape(model, depth)
    total = len(model.alpha_bar)
    times = sampling_times(sampler, steps, total)
    with precision.autocast(device), ExitStack() as modulations:
        for character in cast.values():
            modulations.enter_context(modulated(model.unet, character.tensors))
        with model.at_work("text"):
            contexts, mask = encode_prompts(model, prompt, negative, cast, times)
        with model.at_work("structure"):
            features = [feature.expand(2, *feature.shape[1:]) for feature in model.structure(2 * depth.to(device) - 1)]

        def predict(x: Tensor, t: Tensor) -> Tensor:
            now = next(schedule)
            structure = features if now >= tau * total else None
            return model.unet(x, t, contexts[now], structure, mask).float()

        schedule = iter(times)
        denoise: Denoise = guided(from_v(predict, model.alpha_bar) if model.predicts == "v" else predict, guidance)
        if model.steady:
            weights = steady_weights(depth.to(device), shape[-2:], model.steady)
            denoise = steadied(denoise, weights, model.alpha_bar)
        x_T = clip_noise(shape, model.shared_noise, seed, device)
        for i, x_t, _ in SAMPLERS[sampler](denoise, x_T, model.alpha_bar, steps):
            latents = x_t
            if progress:
                progress(i + 1, len(times))
    return latents


def latent_shape(model: VideoModel, depth: Tensor) -> tuple[int, ...]:
    """The shape (1,c,f,h,w) of a clip's latents. Raises StoryError for a size that its U-Net cannot halve."""
    patch, levels = model.structure.config.patch, len(model.unet.config.channels)
    cell = patch * 2 ** (levels - 1)
    f, height, width = depth.shape[2:]
    if not depth.numel() or height % cell or width % cell:
        raise StoryError(
            f"the model cannot make {f} frames of {width}x{height}", f"width and height are multiples of {cell} pixels"
        )
    return 1, model.unet.config.latent_channels, f, height // patch, width // patch


def sampling_times(sampler: str, steps: int, total: int) -> list[int]:
    """The times at which a sampler calls the model, falling. Raises StoryError for a number of steps it cannot take."""
    try:
        return ddim_times(steps, total) if sampler == "ddim" else dpm_times(steps, total)[:-1]
    except ValueError as error:
        raise StoryError(str(error), "choose --steps 20 for the sampler dpm, --steps 50 for ddim") from error


def encode_prompts(
    model: VideoModel, prompt: str, negative: str, cast: Mapping[str, Personal], times: Sequence[int]
) -> tuple[dict[int, Tensor], Tensor | None]:
    """The context (2,l,d) of prompt and negative prompt at every sampling time, and the word mask (2,l).

    A character's pseudo-word has another embedding at each time, so its prompt is encoded once for each (TimeInv);
    without characters one encoding serves them all.
    """
    text, device = model.text, model.device
    words = {name: f"<{name}>" for name in cast}
    spelled = re.sub(
        r"\{([\w-]+)\}", lambda m: f"{words[m[1]]} {cast[m[1]].class_word}" if m[1] in cast else m[1], prompt
    )
    try:
        ids, mask, where = text.tokenize_words([spelled, negative], list(words.values()))
    except ValueError as error:
        raise StoryError(str(error), "Shorten the prompt, or name the character earlier in it.") from error
    ids = ids.to(device)
    mask = None if mask is None else mask.to(device)
    plain = text.embed(ids)
    contexts = {}
    for now in times:
        embeds = plain
        for name, character in cast.items():
            vector = character.word(torch.tensor([now])).to(device)
            embeds = put(embeds, where[words[name]].to(device), vector)
        if cast or not contexts:
            context = text.encode(ids, mask, inputs_embeds=embeds)
        contexts[now] = context
    return contexts, mask


@torch.inference_mode()
def to_frames(model: VideoModel, latents: Tensor) -> np.ndarray:
    """Decode latents (1,c,f,h,w), bring them to the film's size, and round: uint8 (f,H,W,3)."""
    parts = []
    with precision.autocast(latents.device), model.at_work("autoencoder", "upscaler"):
        for some in latents.split(DECODED_AT_ONCE, dim=2):
            video = model.autoencoder_decode(some).float().clamp(-1, 1)
            if model.upscaler is not None:
                video = model.upscaler(video).float().clamp(-1, 1)
            parts.append(((video[0] + 1) * 127.5).round().to(torch.uint8))
    return rearrange(torch.cat(parts, dim=1), "c f h w -> f h w c").cpu().numpy()


def load_model(name: str) -> VideoModel:
    """A video model by name from the files on disk. Raises StoryError when they are missing or damaged."""
    from models.weights import WeightsError, load_lvdm, load_storybook
    from storycli import catalogue

    entry = catalogue.choose(name, "cpu")
    try:
        if name == "storybook":
            return load_storybook(entry.folder)
        base, adapter = (entry.folder / file.name for file in entry.files[:2])
        model = load_lvdm(base, adapter)
    except WeightsError as error:
        raise StoryError(error.message, error.hint) from error
    if missing := [name for name in ("structure", "autoencoder", "text") if getattr(model, name) is None]:
        raise StoryError(
            f"{base} is not the whole model: it lacks {' and '.join(missing)}",
            f"delete it, then fetch it again: storycli models pull {name}",
        )
    return model
