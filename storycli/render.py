"""Plot, depth, characters and a seed to frames: structure-guided sampling (He et al. 2023, arXiv 2307.06940).

``Renderer`` holds a model and can be asked for one clip after another. ``sample`` is the method itself.
"""

import logging
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from functools import partial
from pathlib import Path

import numpy as np
import torch
from einops import rearrange
from torch import Tensor, nn

from models import precision
from models.confined import Regions, confinable, confined, standing_apart
from models.personal import convolutions, modulated, projections
from models.sampler import Denoise, clip_noise, ddim, dpm_solver_pp_2m, from_v, guided
from models.steady import steadied, steady_weights
from models.text import put
from models.video_model import VideoModel
from models.weights import WeightsError, load_lvdm, load_storybook
from storycli import catalogue, faces
from storycli.carry import carried
from storycli.characters.personal import Personal, load_character
from storycli.crisp import crisp
from storycli.depth import estimator
from storycli.errors import StoryError

log = logging.getLogger(__name__)

Progress = Callable[[int, int], None]
DECODED_AT_ONCE = 4  # frames


class Renderer:
    """Renders plots with one model on one device, where only the parts at work take up memory.

    ``compile`` has torch compile the U-Net, which takes minutes at the first step and pays on a GPU. Raises
    StoryError when the model's weights are not on disk.
    """

    def __init__(self, model: str = "storybook", device: str = "auto", *, compile: bool = False):
        self.name = model
        self._heads: dict[Path, list[np.ndarray]] = {}
        self.device = precision.pick_device(device)
        if catalogue.named(model).needs_gpu and self.device.type == "cpu":
            log.warning("%s needs a GPU: on this CPU a clip takes an hour or so (--model storybook: seconds)", model)
        self.model = load_model(model)
        if self.device.type == "cuda":
            dtype = precision.drawn_in(self.device, exact=self.model.exact)
            precision.store_in(dtype, self.model.unet, but=changed_by_characters(model, self.model.unet))
        precision.hold_memory()
        self.model = self.model.to(self.device, "unet")
        if compile:
            self.model.unet.compile()

    def render(
        self,
        prompt: str,
        depth: np.ndarray,
        *,
        seed: int = 0,
        steps: int = 12,
        guidance: float = 2.0,
        tau: float = 0.2,
        sampler: str = "sde",
        negative: str = "",
        characters: Mapping[str, Path] | None = None,
        progress: Progress | None = None,
    ) -> np.ndarray:
        """One clip: depth (f,h,w) in [0, 1], 1 = near -> frames uint8 (f,H,W,3).

        ``prompt`` names characters as ``{name}``; ``characters`` gives their weights. ``tau`` in 0 ... 1 is the share
        of diffusion time, counted from the clean end, that goes without structure. ``sampler`` is ``sde``
        (SDE-DPM-Solver++ 2M, which adds fresh noise at every step, from 24 steps, with the built-in model from 12),
        ``dpm`` (DPM-Solver++ 2M, from 20) or ``ddim`` (from 50; what published models were sampled with, and with how
        much fresh noise the catalogue says). A model that steadies its clips draws what is in front alike in all
        frames, as long as structure tells how it moves; pictures beside a character's weights help to choose the frame
        that lends its drawing. Raises StoryError for a prompt that does not fit the text encoder, a size or number of
        steps that the model cannot do, or a character made for another model.
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
            eta=catalogue.named(self.name).eta,
            negative=negative,
            cast=cast,
            progress=progress,
        )
        frames = to_frames(self.model, latents)
        if not self.model.carries or tau >= 1:
            return frames
        return carried(frames, depth, [self.heads(path.parent) for path in (characters or {}).values()])

    def heads(self, folder: Path) -> list[np.ndarray]:
        """The heads in a character's pictures (``faces.heads``), looked for once."""
        if folder not in self._heads:
            self._heads[folder] = faces.heads(folder, estimator(self.name, str(self.device)))
        return self._heads[folder]


@torch.inference_mode()
def sample(
    model: VideoModel,
    prompt: str,
    depth: Tensor,
    *,
    seed: int | Sequence[int],
    steps: int,
    guidance: float,
    tau: float,
    sampler: str = "sde",
    eta: float = 0,
    negative: str = "",
    cast: Mapping[str, Personal] | None = None,
    confine: bool = True,
    progress: Progress | None = None,
) -> Tensor:
    """Latents (n,c,f,h,w) of clips with the layout and motion of depth (1,1,f,H,W) in [0, 1], one for each seed.

    The structure is encoded once and dropped for t < tau * T; all contexts of a character that changes with time are
    encoded before the first step; conditional and unconditional run as one batch. Guidance 1 needs no unconditional.
    Several characters keep to their regions unless ``confine`` is off, which is there to compare with. ``eta`` is
    that of the sampler ``ddim``.
    """
    cast = cast or {}
    device = model.device
    seeds = [seed] if isinstance(seed, int) else seed
    shape = latent_shape(model, depth)
    total = len(model.alpha_bar)
    times = catalogue.sampling_times(sampler, steps, total)
    sources = [torch.Generator().manual_seed(own) for own in seeds]

    def draw() -> Tensor:
        return torch.cat([clip_noise(shape, model.shared_noise, source, device) for source in sources])

    solve = {
        "sde": partial(dpm_solver_pp_2m, fresh=draw),
        "dpm": dpm_solver_pp_2m,
        "ddim": partial(ddim, eta=eta, fresh=draw),
    }[sampler]
    against = None if guidance == 1 else negative
    with precision.autocast(device, exact=model.exact):
        with model.at_work("text"):
            contexts, mask = encode_prompts(model, prompt, against, cast, times, len(seeds))
            several = confine and len(cast) > 1
            regions = divided(model, prompt, against, cast, times, len(seeds), depth) if several else None
        with model.at_work("structure"):
            pyramid = model.structure(2 * depth.to(device) - 1)
            features = [feature.expand(len(contexts[times[0]]), *feature.shape[1:]) for feature in pyramid]
    with precision.drawing(device, exact=model.exact), in_force(model, cast, regions):

        def predict(x: Tensor, t: Tensor) -> Tensor:
            now = next(schedule)
            structure = features if now >= tau * total else None
            if regions:
                regions.turn_to(now)
            return model.unet(x, t, contexts[now], structure, mask).float()

        schedule = iter(times)
        denoise: Denoise = guided(from_v(predict, model.alpha_bar) if model.predicts == "v" else predict, guidance)
        if model.steady and tau < 1:  # it goes by the guide's depth, too
            weights = steady_weights(depth.to(device), shape[-2:], model.steady)
            denoise = steadied(denoise, weights, model.alpha_bar)
        for i, x_t, _ in solve(denoise, draw(), model.alpha_bar, steps):
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


def encode_prompts(
    model: VideoModel,
    prompt: str,
    negative: str | None,
    cast: Mapping[str, Personal],
    times: Sequence[int],
    clips: int = 1,
) -> tuple[dict[int, Tensor], Tensor | None]:
    """The context (2 clips,l,d) of prompt and negative prompt at every sampling time, and the word mask (2 clips,l).

    Without a negative prompt, not even an empty one, they are of the prompt alone: (clips,l,d) and (clips,l).

    A character's pseudo-word has other embeddings at other times, so its prompt is encoded once for each of them
    (TimeInv); without characters one encoding serves all times.
    """
    text, device = model.text, model.device
    words = {name: f"<{name}>" for name in cast}
    spelled = re.sub(
        r"\{([\w-]+)\}", lambda m: f"{words[m[1]]} {cast[m[1]].class_word}" if m[1] in cast else m[1], prompt
    )
    prompts = [spelled] if negative is None else [spelled, negative]
    try:
        ids, mask, where = text.tokenize_words(prompts, list(words.values()))
    except ValueError as error:
        raise StoryError(str(error), "Shorten the prompt, or name the character earlier in it.") from error
    ids = ids.to(device)
    mask = None if mask is None else mask.to(device)
    plain = text.embed(ids)
    contexts, before = {}, None
    for now in times:
        embeds = plain
        for name, character in cast.items():
            vector = character.word(torch.tensor([now])).to(device)
            embeds = put(embeds, where[words[name]].to(device), vector)
        if before is None or not torch.equal(embeds, before):
            context = text.encode(ids, mask, inputs_embeds=embeds).repeat_interleave(clips, dim=0)
        contexts[now], before = context, embeds
    return contexts, mask if mask is None else mask.repeat_interleave(clips, dim=0)


def divided(
    model: VideoModel,
    prompt: str,
    negative: str | None,
    cast: Mapping[str, Personal],
    times: Sequence[int],
    clips: int,
    depth: Tensor,
) -> Regions:
    """The places of several characters, who stand from left to right in the order of ``cast``, and what each reads."""
    lines = [
        encode_prompts(model, line_of(name, prompt), negative, {name: character}, times, clips)
        for name, character in cast.items()
    ]
    masks = [mask for _, mask in lines if mask is not None]
    return Regions(
        shares=standing_apart(depth.to(model.device), len(cast), latent_shape(model, depth)[-2:]),
        contexts={now: torch.stack([contexts[now] for contexts, _ in lines]) for now in times},
        masks=torch.stack(masks) if masks else None,
    )


def line_of(name: str, prompt: str) -> str:
    """A prompt without the other characters: ``{a} and {b} dancing`` is ``{a} dancing`` for a."""
    joined = r"(?:\b(?:and|with|beside|next to)\s+)"
    other = rf"{{(?!{re.escape(name)}}})[\w-]+}}"
    return re.sub(rf"{joined}?(?:\b(?:an?|the)\s+)?{other}\s*{joined}?", "", prompt, flags=re.IGNORECASE)


def in_force(model: VideoModel, cast: Mapping[str, Personal], regions: Regions | None) -> AbstractContextManager[None]:
    """The model with its characters in force: everywhere, or each in its region.

    Raises StoryError for one that cannot share a clip.
    """
    tensors = [character.tensors for character in cast.values()]
    if regions is None:
        everywhere = ExitStack()
        for own in tensors:
            everywhere.enter_context(modulated(model.unet, own))
        return everywhere
    for name, own in zip(cast, tensors, strict=True):
        if not confinable(model.unet, own):
            raise StoryError(
                f"{name} changes the whole network and cannot share a clip with another character",
                "train it with --method timeinv",
            )
    return confined(model.unet, tensors, regions)


@torch.inference_mode()
def to_frames(model: VideoModel, latents: Tensor) -> np.ndarray:
    """Decode latents (1,c,f,h,w), bring them to the film's size, and round: uint8 (f,H,W,3)."""
    parts = []
    with precision.autocast(latents.device, exact=model.exact), model.at_work("autoencoder", "upscaler"):
        for some in latents.split(DECODED_AT_ONCE, dim=2):
            video = model.autoencoder_decode(some).float().clamp(-1, 1)
            if model.upscaler is not None:
                video = model.upscaler(video).float().clamp(-1, 1)
            parts.append(((video[0] + 1) * 127.5).round().to(torch.uint8))
    frames = rearrange(torch.cat(parts, dim=1), "c f h w -> f h w c").cpu().numpy()
    return frames if model.upscaler is None else crisp(frames)


def changed_by_characters(model: str, unet: nn.Module) -> list[str]:
    """The layers of a model's U-Net that branches modulate: the paper's, and the built-in one's convolutions, too."""
    return projections(unet) + (convolutions(unet) if model == "storybook" else [])


def load_model(name: str) -> VideoModel:
    """A video model by name from the files on disk. Raises StoryError when they are missing or damaged."""
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
