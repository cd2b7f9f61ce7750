"""A few pictures of a character to one ``character.safetensors``: TimeInv with low-rank modulation (He et al. 2023).

The pictures stand still, so each is trained with its own depth as structure: stillness is explained by the structure
and not bound to the word. Everything that does not change, latents and depth of the pictures and of the clips that keep
the class word honest, is encoded once before the loop.
"""

import time
from collections.abc import Callable
from pathlib import Path

import torch

from models import precision
from models.personal import remove_branches, word_start
from models.video_model import VideoModel
from models.weights import write_tensors
from storycli import catalogue
from storycli.characters.methods import LOOK, METHODS, CharacterConfig, Pupil, config_for, personal_loss, without_gaps
from storycli.characters.personal import FILE, Personal, identity, kind, recipe
from storycli.characters.views import class_views, picture_views
from storycli.errors import StoryError
from storycli.media.pictures import pictures
from storycli.render import load_model
from storycli.story import Character

CHECKPOINT, LOCK = ".character.ckpt", ".character.lock"
SAVING = 0.1  # of the time, at most, goes into keeping the state, which may be gigabytes
SEEDS = 2**63  # larger ones are the same as smaller ones; torch takes no larger numbers
Watch = Callable[[int, VideoModel, Personal], None]


def train(
    character: Character,
    model: str = "storybook",
    *,
    index: Path | None = None,
    device: str = "auto",
    config: CharacterConfig | None = None,
    progress: Callable[[int, int], None] | None = None,
    watch: Watch | None = None,
    save_every: float = 20,
) -> Path:
    """Learn a character from the pictures in its folder and write ``character.safetensors`` beside them.

    Clips of an ``index`` keep its class word honest; for the built-in model, those of the built-in library.

    Every ``save_every`` seconds (0: after every step), or more seldom where that takes long, the state is kept there
    too; the same training, started again after it was killed, goes on from it and ends with the same character. Every
    25 steps ``watch(step, model, character)`` may look at how far it is: the model then draws the character as it
    stands. Raises StoryError for pictures that cannot be used.
    """
    config = config or config_for(model)
    if config.method not in METHODS:
        raise StoryError(f"there is no method {config.method!r}", f"choose one of {', '.join(METHODS)}")
    where = precision.pick_device(device)
    torch.manual_seed(config.seed % SEEDS)
    whole = load_model(model).to(where, "unet")
    whole.unet.checkpointing = config.checkpointing
    for part in (whole.unet, whole.structure, whole.text):
        part.requires_grad_(False)
    class_word = kind(character)
    size = catalogue.named(model).sampled[0]
    shown = picture_views(whole, model, pictures(character.dir), class_word, size, config.views, config.seed)
    others = class_views(whole, model, class_word, size, config.frames, index)

    header = identity(character, model) | recipe(config)
    pupil = Pupil.begin(whole, class_word, config)
    checkpoint = character.dir / CHECKPOINT
    pupil.resume(checkpoint, header)
    saved, pause = time.monotonic(), save_every
    with whole.at_work("structure", "text"), precision.attention_for_training(where):
        while pupil.step < config.steps and not pupil.tired(config):
            generator = torch.Generator().manual_seed((config.seed * 1_000_003 + pupil.step) % SEEDS)
            with precision.autocast(where):
                loss = personal_loss(whole, pupil, shown, others, config, generator)
            pupil.learn(loss, config)
            if pupil.step % LOOK == 0:
                with torch.no_grad(), precision.autocast(where):
                    pupil.look(personal_loss(whole, pupil, shown, None, config, torch.Generator()))
                if watch:
                    watch(pupil.step, whole, Personal(class_word=class_word, word=pupil.word, tensors={}))
            if (began := time.monotonic()) - saved > pause:
                pupil.save(checkpoint, header)
                saved = time.monotonic()
                pause = save_every and max(save_every, (saved - began) / SAVING)
            if progress:
                progress(pupil.step, config.steps)

    path = character.dir / FILE
    word = without_gaps(pupil.word.table.detach().cpu(), word_start(whole.text, class_word).cpu())
    tensors = {"word": word} | pupil.weights()
    remove_branches(whole.unet, pupil.branches)
    write_tensors(path, {key: tensor.cpu().contiguous() for key, tensor in tensors.items()}, header)
    checkpoint.unlink(missing_ok=True)
    return path
