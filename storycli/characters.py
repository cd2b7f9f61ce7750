"""A few pictures of a character to one ``character.safetensors``: TimeInv with low-rank modulation (PAPER.md, stage 3).

The pictures stand still, so each is trained with its own depth as structure: stillness is explained by the structure
and not bound to the word. Everything that does not change, latents and depth of the pictures and of the clips that keep
the class word honest, is encoded once before the loop.
"""

import functools
import hashlib
import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from models import precision
from models.personal import TimeInv, add_branches, branch_tensors, remove_branches, text_with_word, word_start
from models.sampler import clip_noise
from models.schedule import q_sample, signal_and_noise, v_from_eps
from models.unet import VideoUNet
from models.video_model import VideoModel
from models.weights import WeightsError, read_metadata, read_state_dict, write_tensors
from storycli.config import library_folder
from storycli.errors import StoryError
from storycli.pictures import pictures, read
from storycli.story import Character

__all__ = ["CharacterConfig", "Personal", "config_for", "load_character", "pictures", "ready", "train"]
log = logging.getLogger(__name__)

FILE = "character.safetensors"
WORD = "<new1>"
# The paper's method and those it is measured against, each with the learning rates of its word and of the U-Net that
# suit the built-in model ...
METHODS = {
    "timeinv": (2e-3, 2e-3),  # TimeInv and low-rank branches
    "textual-inversion": (5e-3, 0.0),  # one embedding (Gal et al. 2022)
    "dreambooth": (0.0, 1e-4),  # all weights of the U-Net, a fixed word (Ruiz et al. 2023)
    "custom-diffusion": (5e-3, 3e-4),  # keys and values of the cross-attention, one embedding (Kumari et al. 2023)
}
# ... and that the paper gives for its own.
PAPER_RATES = {
    "timeinv": (1e-4, 1e-4),
    "textual-inversion": (1e-4, 0.0),
    "dreambooth": (0.0, 1e-5),
    "custom-diffusion": (1e-5, 1e-5),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class CharacterConfig:
    """How a character is learnt. Defaults suit the built-in model; ``LVDM`` is the paper's."""

    method: str = "timeinv"
    steps: int = 500
    batch: int = 8  # pictures of the character in a step
    class_batch: int = 4  # pictures of others in a step, so that their words keep their meaning
    views: int = 16  # augmented views of each picture
    frames: int = 1  # a picture is shown as a clip of so many, all alike
    rows: int = 50  # rows of the TimeInv table; each serves 1000 / rows neighbouring times
    rank: int = 8
    drop_structure: float = 0.3
    snr_limit: float = 5.0
    checkpointing: bool = False  # compute the U-Net's activations twice and keep few: slower, far less memory
    paper_rates: bool = False
    seed: int = 0


LVDM = CharacterConfig(steps=1000, batch=1, class_batch=1, frames=16, rows=1000, checkpointing=True, paper_rates=True)


def config_for(model: str, **wishes: Any) -> CharacterConfig:
    """What suits a video model, but for the ``wishes``."""
    return replace(LVDM if model == "lvdm" else CharacterConfig(), **wishes)


@dataclass(frozen=True, kw_only=True, slots=True)
class Personal:
    """A trained character: its word by diffusion time, what it changes in the U-Net, and what it is a kind of."""

    class_word: str
    word: TimeInv
    tensors: dict[str, Tensor]  # as ``models.personal.modulated`` takes them


@dataclass(frozen=True, slots=True)
class Views:
    """Encoded clips (pictures: f = 1): latents (n,c,f,h,w), depth (n,1,f,H,W) in [0, 1], mask (n,1,f,h,w), prompts."""

    latents: Tensor
    depth: Tensor
    mask: Tensor
    prompts: list[str]


def ready(character: Character, model: str) -> Path | None:
    """The weights in a character's folder, if they were made from these pictures for this model."""
    path = character.dir / FILE
    if not path.is_file():
        return None
    made = read_metadata(path)
    wanted = _identity(character, model)
    if character.class_word is None:  # whatever it was trained with will do
        del wanted["class_word"]
    return path if all(made.get(key) == value for key, value in wanted.items()) else None


def load_character(path: Path, model: str) -> Personal:
    """A trained character. Raises StoryError when it was made for another model or cannot be read."""
    try:
        made, tensors = read_metadata(path), read_state_dict(path)
    except WeightsError as error:
        raise StoryError(error.message, "train the character again: storycli train-character") from error
    if made.get("weights") != _digest_of(model):
        raise StoryError(
            f"{path} was trained for the model {made.get('model', 'of another program')}, not this {model}",
            "train the character again: storycli train-character",
        )
    table = tensors.pop("word")
    word = TimeInv(table[0], len(table))
    word.table.data = table.float()
    return Personal(class_word=made["class_word"], word=word.requires_grad_(False), tensors=tensors)


def train(
    character: Character,
    model: str = "storybook",
    *,
    device: str = "auto",
    config: CharacterConfig | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Learn a character from the pictures in its folder and write ``character.safetensors`` beside them.

    Raises StoryError for pictures that cannot be used.
    """
    from storycli import catalogue
    from storycli.render import load_model

    config = config or config_for(model)
    if config.method not in METHODS:
        raise StoryError(f"there is no method {config.method!r}", f"choose one of {', '.join(METHODS)}")
    where = precision.pick_device(device)
    torch.manual_seed(config.seed)
    whole = load_model(model).to(where, "unet")
    whole.unet.checkpointing = config.checkpointing
    for part in (whole.unet, whole.structure, whole.text):
        part.requires_grad_(False)
    class_word = _class_word(character)
    size = catalogue.named(model).size[0] // catalogue.named(model).upscale
    shown = picture_views(whole, model, pictures(character.dir), class_word, size, config)
    others = class_views(whole, model, class_word, size, config)

    rows = config.rows if config.method == "timeinv" else 1
    timeinv = TimeInv(word_start(whole.text, class_word).cpu(), rows).to(where)
    branches = add_branches(whole.unet, config.rank) if config.method == "timeinv" else {}
    learnt = trainable(whole.unet, config.method)
    rates = (PAPER_RATES if config.paper_rates else METHODS)[config.method]
    groups = [{"params": [timeinv.table]}, {"params": list(learnt.values())}]
    optimizer = torch.optim.AdamW(groups, betas=(0.9, 0.99), weight_decay=0)
    with whole.at_work("structure", "text"), precision.attention_for_training(where):
        for step in range(config.steps):
            for group, rate in zip(optimizer.param_groups, rates, strict=True):
                group["lr"] = rate * min(1.0, (step + 1) / 20) * min(1.0, 2 * (1 - step / config.steps))
            generator = torch.Generator().manual_seed(config.seed * 1_000_003 + step)
            with precision.autocast(where):
                loss = personal_loss(whole, timeinv, shown, others, config, generator)
            loss.backward()
            torch.nn.utils.clip_grad_norm_([timeinv.table, *learnt.values()], 1.0)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            if progress:
                progress(step + 1, config.steps)

    tensors = branch_tensors(branches) if branches else {name: p.detach().half() for name, p in learnt.items()}
    tensors = {"word": timeinv.table.detach()} | tensors
    remove_branches(whole.unet, branches)
    path = character.dir / FILE
    header = _identity(character, model) | {"method": config.method, "training": json.dumps(asdict(config))}
    write_tensors(path, {key: tensor.cpu().contiguous() for key, tensor in tensors.items()}, header)
    return path


def trainable(unet: VideoUNet, method: str) -> dict[str, torch.nn.Parameter]:
    """The parameters of a frozen U-Net, with branches where the method has them, that it trains; unfreezes them."""
    wanted = {
        "timeinv": lambda name: name.endswith((".up.weight", ".down.weight")),
        "textual-inversion": lambda name: False,
        "dreambooth": lambda name: True,
        "custom-diffusion": lambda name: name.endswith((".attn2.to_k.weight", ".attn2.to_v.weight")),
    }[method]
    chosen = {name: parameter for name, parameter in unet.named_parameters() if wanted(name)}
    for parameter in chosen.values():
        parameter.requires_grad_(True)
    return chosen


def personal_loss(
    model: VideoModel,
    timeinv: TimeInv,
    shown: Views,
    others: Views | None,
    config: CharacterConfig,
    generator: torch.Generator,
) -> Tensor:
    """The diffusion loss on pictures of the character, with its word, and of others, without."""
    device = timeinv.table.device
    total = len(model.alpha_bar)

    def pick(views: Views, count: int) -> Views:
        rows = torch.randint(len(views.prompts), (count,), generator=generator).tolist()
        clips = (part[rows].expand(-1, -1, config.frames, -1, -1) for part in (views.latents, views.depth, views.mask))
        return Views(*clips, [views.prompts[row] for row in rows])

    parts = [pick(shown, config.batch)] + ([pick(others, config.class_batch)] if others else [])
    x0, depth, mask = (torch.cat([getattr(part, name) for part in parts]) for name in ("latents", "depth", "mask"))
    prompts = [prompt for part in parts for prompt in part.prompts]
    t = torch.randint(total, (len(x0),), generator=generator)
    noise = clip_noise(x0.shape, model.shared_noise, generator)
    x_t = q_sample(x0, t, noise, model.alpha_bar)
    target = v_from_eps(noise, x0, t, model.alpha_bar) if model.predicts == "v" else noise

    context, words = text_with_word(model.text, prompts, WORD, timeinv(t.to(device)))
    kept = (torch.rand(len(x0), generator=generator) >= config.drop_structure).float().to(device)
    with torch.no_grad():
        features = [f * kept[:, None, None, None, None] for f in model.structure(2 * depth.to(device) - 1)]
    predicted = model.unet(x_t.to(device), t.to(device), context, features, words).float()
    signal, sigma = signal_and_noise(model.alpha_bar, t, x0)
    snr = (signal / sigma).square()
    weight = snr.clamp(max=config.snr_limit) / (snr + 1 if model.predicts == "v" else snr)
    weight = weight * (0.25 + mask)
    return ((predicted - target.to(device)).square() * (weight / weight.mean()).to(device)).mean()


def picture_views(
    model: VideoModel, name: str, paths: Sequence[Path], class_word: str, size: int, config: CharacterConfig
) -> Views:
    """Every picture several times: mirrored, moved, nearer and farther, with a prompt that says so where it shows."""
    rng = np.random.default_rng(config.seed)
    frames, masks, prompts = [], [], []
    for path in paths:
        pixels, opacity = read(path, size)
        for _ in range(config.views):
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
            prompts.append(_prompt(rng, zoom, class_word, "storybook picture" if name == "storybook" else "photo"))
    return encode_views(model, name, np.stack(frames)[:, None], masks, prompts)


def _prompt(rng: np.random.Generator, zoom: float, class_word: str, style: str) -> str:
    hero = f"{WORD} {class_word}"
    if zoom < 0.8:
        return rng.choice([f"a small {hero}", f"a {hero} far away"])
    if zoom > 1.2:
        return rng.choice([f"a close up of a {hero}", f"a large {hero}"])
    return rng.choice([f"a {hero}", f"the {hero}", f"a picture of a {hero}", f"a {style} of a {hero}"])


def class_views(model: VideoModel, name: str, class_word: str, size: int, config: CharacterConfig) -> Views | None:
    """Library clips that fit the class word, with their own captions; of each its middle frame, or ``config.frames``.

    The built-in library shows the storybook world; another model needs a library of real footage.
    """
    from storycli import catalogue, video
    from storycli.retrieve import Library

    library = None if name == "storybook" else library_folder(None)
    found = Library(library).search(class_word, 48) if library or name == "storybook" else []
    clips = [candidate.clip for candidate in found if candidate.clip.caption]
    if not clips:
        log.warning("no captioned clips of %s to keep the class word honest", class_word)
        return None
    fps = catalogue.named(name).fps if config.frames > 1 else None
    how = {"num_frames": config.frames, "fps": fps, "size": (size, size)}
    frames = [video.read(clip.path, start=clip.start, end=clip.end, **how) for clip in clips]
    return encode_views(model, name, np.stack(frames), [None] * len(clips), [clip.caption for clip in clips])


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
    return depth > np.median(depth, axis=-1, keepdims=True) + 0.06


def _class_word(character: Character) -> str:
    return character.class_word or character.name.replace("-", " ").replace("_", " ")


def _identity(character: Character, model: str) -> dict[str, str]:
    """What a character's weights depend on."""
    content = hashlib.sha256()
    for path in pictures(character.dir):
        content.update(hashlib.sha256(path.read_bytes()).digest())
    return {
        "model": model,
        "weights": _digest_of(model),
        "class_word": _class_word(character),
        "token": WORD,
        "pictures": content.hexdigest(),
    }


def _digest_of(model: str) -> str:
    """The sha256 of the networks that a character is bound to: those that make pictures."""
    from storycli import catalogue

    entry = catalogue.named(model)
    used = hashlib.sha256()
    for file in entry.files:
        if not any(part in file.name for part in ("depth", "midas", "retrieval", "frozen", "upscaler")):
            path = entry.folder / file.name
            status = path.stat()
            used.update(_sha256(path, status.st_size, status.st_mtime_ns))
    return used.hexdigest()


@functools.cache
def _sha256(path: Path, size: int, modified: int) -> bytes:
    """The digest of a file, which may be gigabytes: taken once, unless its size or time of change says otherwise."""
    with path.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").digest()
