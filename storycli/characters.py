"""A few pictures of a character to one ``character.safetensors``: TimeInv with low-rank modulation (PAPER.md, stage 3).

The pictures stand still, so each is trained with its own depth as structure: stillness is explained by the structure
and not bound to the word. Everything that does not change, latents and depth of the pictures and of the clips that keep
the class word honest, is encoded once before the loop.
"""

import functools
import hashlib
import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor

from models import precision
from models.personal import TimeInv, remove_branches
from models.video_model import VideoModel
from models.weights import WeightsError, read_metadata, read_state_dict, write_tensors
from storycli.errors import StoryError
from storycli.personalise import LOOK, METHODS, CharacterConfig, Pupil, config_for, personal_loss
from storycli.pictures import pictures
from storycli.story import Character
from storycli.views import WORD, class_views, picture_views

FILE = "character.safetensors"
CHECKPOINT = ".character.ckpt"
Watch = Callable[[int, VideoModel, "Personal"], None]


@dataclass(frozen=True, kw_only=True, slots=True)
class Personal:
    """A trained character: its word by diffusion time, what it changes in the U-Net, and what it is a kind of."""

    class_word: str
    word: TimeInv
    tensors: dict[str, Tensor]  # as ``models.personal.modulated`` takes them


def ready(character: Character, model: str, config: CharacterConfig | None = None) -> Path | None:
    """The weights in a character's folder, if they were made from these pictures for this model (by this training)."""
    path = character.dir / FILE
    if not path.is_file():
        return None
    made = read_metadata(path)
    wanted = _identity(character, model) | (_training(config) if config else {})
    if character.class_word is None:  # whatever it was trained with will do
        del wanted["class_word"]
    return path if all(made.get(key) == value for key, value in wanted.items()) else None


def load_character(path: Path, model: str) -> Personal:
    """A trained character. Raises StoryError when it was made for another model or cannot be read."""
    try:
        made, tensors = read_metadata(path), read_state_dict(path)
    except WeightsError as error:
        raise StoryError(error.message, "train the character again: storycli train-character") from error
    if made.get("weights") != networks_digest(model):
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
    watch: Watch | None = None,
    save_every: float = 20,
) -> Path:
    """Learn a character from the pictures in its folder and write ``character.safetensors`` beside them.

    Every ``save_every`` seconds the state is kept there too; the same training, started again after it was killed, goes
    on from it and ends with the same character. Every 25 steps ``watch(step, model, character)`` may look at how far
    it is: the model then draws the character as it stands. Raises StoryError for pictures that cannot be used.
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
    shown = picture_views(whole, model, pictures(character.dir), class_word, size, config.views, config.seed)
    others = class_views(whole, model, class_word, size, config.frames)

    header = _identity(character, model) | _training(config)
    pupil = Pupil.begin(whole, class_word, config)
    checkpoint = character.dir / CHECKPOINT
    pupil.resume(checkpoint, header)
    saved = time.monotonic()
    with whole.at_work("structure", "text"), precision.attention_for_training(where):
        while pupil.step < config.steps and not pupil.tired(config):
            generator = torch.Generator().manual_seed(config.seed * 1_000_003 + pupil.step)
            with precision.autocast(where):
                loss = personal_loss(whole, pupil.word, shown, others, config, generator)
            pupil.learn(loss, config)
            if pupil.step % LOOK == 0:
                with torch.no_grad(), precision.autocast(where):
                    pupil.look(personal_loss(whole, pupil.word, shown, None, config, torch.Generator()))
                if watch:
                    watch(pupil.step, whole, Personal(class_word=class_word, word=pupil.word, tensors={}))
            if time.monotonic() - saved > save_every:
                pupil.save(checkpoint, header)
                saved = time.monotonic()
            if progress:
                progress(pupil.step, config.steps)

    path = character.dir / FILE
    tensors = {"word": pupil.word.table.detach()} | pupil.weights()
    remove_branches(whole.unet, pupil.branches)
    write_tensors(path, {key: tensor.cpu().contiguous() for key, tensor in tensors.items()}, header)
    checkpoint.unlink(missing_ok=True)
    return path


def _class_word(character: Character) -> str:
    return character.class_word or character.name.replace("-", " ").replace("_", " ")


def _identity(character: Character, model: str) -> dict[str, str]:
    """What a character's weights depend on."""
    content = hashlib.sha256()
    for path in pictures(character.dir):
        content.update(hashlib.sha256(path.read_bytes()).digest())
    return {
        "model": model,
        "weights": networks_digest(model),
        "class_word": _class_word(character),
        "token": WORD,
        "pictures": content.hexdigest(),
    }


def _training(config: CharacterConfig) -> dict[str, str]:
    return {"method": config.method, "training": json.dumps(asdict(config))}


def networks_digest(model: str) -> str:
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
