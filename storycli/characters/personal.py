"""What a trained character is: one file of weights, bound to its pictures and to the model that it was made for."""

import functools
import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path

from torch import Tensor

from models.personal import TimeInv
from models.weights import WeightsError, read_metadata, read_state_dict
from storycli import catalogue, digest, pins
from storycli.characters.methods import CharacterConfig, rates_of
from storycli.characters.views import WORD
from storycli.errors import StoryError
from storycli.media.pictures import pictures
from storycli.story import Character

FILE = "character.safetensors"
AGAIN = "train the character again: storycli train-character"
NOT_BOUND_TO = ("depth", "midas", "retrieval", "frozen", "upscaler", "autoencoder")


@dataclass(frozen=True, kw_only=True, slots=True)
class Personal:
    """A trained character: its word by diffusion time, what it changes in the U-Net, and what it is a kind of."""

    class_word: str
    word: TimeInv
    tensors: dict[str, Tensor]  # as ``models.personal.modulated`` takes them


def ready(character: Character, model: str, config: CharacterConfig | None = None) -> Path | None:
    """The weights in a character's folder, if they were made from these pictures for this model (by this training).

    Raises StoryError when they cannot be read.
    """
    path = character.dir / FILE
    if not path.is_file():
        return None
    try:
        made = read_metadata(path)
    except WeightsError as error:
        raise StoryError(error.message, AGAIN) from error
    wanted = identity(character, model) | (recipe(config) if config else {})
    if character.class_word is None:  # whatever it was trained with will do
        del wanted["class_word"]
    return path if all(made.get(key) == value for key, value in wanted.items()) else None


def load_character(path: Path, model: str) -> Personal:
    """A trained character. Raises StoryError when it was made for another model or cannot be read."""
    try:
        made, tensors = read_metadata(path), read_state_dict(path)
    except WeightsError as error:
        raise StoryError(error.message, AGAIN) from error
    if made.get("weights") != networks_digest(model):
        raise StoryError(
            f"{path} was trained for the model {made.get('model', 'of another program')}, not this {model}",
            AGAIN,
        )
    table = tensors.pop("word")
    word = TimeInv(table[0], len(table))
    word.table.data = table.float()
    return Personal(class_word=made["class_word"], word=word.requires_grad_(False), tensors=tensors)


def kind(character: Character) -> str:
    """What a character is a kind of: its name, where nobody says."""
    return character.class_word or character.name.replace("-", " ").replace("_", " ")


def identity(character: Character, model: str) -> dict[str, str]:
    """What a character's weights depend on."""
    content = hashlib.sha256()
    for path in pictures(character.dir):
        content.update(bytes.fromhex(digest.file(path)))
    return {
        "model": model,
        "weights": networks_digest(model),
        "class_word": kind(character),
        "token": WORD,
        "pictures": content.hexdigest(),
    }


def recipe(config: CharacterConfig) -> dict[str, str]:
    """How its weights are learnt."""
    rates = rates_of(config)._asdict()
    return {"method": config.method, "training": json.dumps(asdict(config)), "rates": json.dumps(rates)}


def networks_digest(model: str) -> str:
    """The sha256 of the networks that a character is bound to: those that make latents.

    A decoder in a file of its own may be trained on; its encoder stays what the U-Net learnt with.
    """
    entry = catalogue.named(model)
    used = hashlib.sha256()
    for file in entry.files:
        if not any(part in file.name for part in NOT_BOUND_TO):
            path = entry.path(file)
            status = path.stat()
            used.update(_sha256(path, entry.built_in, status.st_size, status.st_mtime_ns))
    return used.hexdigest()


@functools.cache
def _sha256(path: Path, built_in: bool, size: int, modified: int) -> bytes:
    """The digest of a file, which may be gigabytes: taken once, unless its size or time of change says otherwise."""
    return bytes.fromhex(digest.file(path) if built_in else pins.digest_of(path))
