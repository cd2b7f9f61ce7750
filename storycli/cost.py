"""What a film will take, told before anything heavy is done."""

import math
from dataclasses import dataclass

from storycli import catalogue, stages
from storycli.config import Settings
from storycli.story import Story

CLIP_MB = 1.5  # the files of a plot of 16 frames at 512x512
TRAINING_SECONDS = 90  # for a character that has only pictures, with the built-in model on two cores


@dataclass(frozen=True, kw_only=True, slots=True)
class Cost:
    """An estimate for the machine of the README: two cores, or one GPU for a model that needs it."""

    plots: int
    model: str
    seconds: int
    memory_gb: float
    disk_mb: int
    to_train: tuple[str, ...]  # characters


def of(story: Story, settings: Settings) -> Cost:
    """What rendering ``story`` from nothing takes."""
    model = catalogue.choose(settings.model, settings.device)
    takes = [stages.take(plot, settings, model) for plot in story.plots]
    pixels = [take.frames * math.prod(take.size) / (model.frames * math.prod(model.size)) for take in takes]
    clips = sum(size * take.steps / model.steps for size, take in zip(pixels, takes, strict=True))
    untrained = tuple(c.name for c in story.characters if not (c.dir / "character.safetensors").exists())
    return Cost(
        plots=len(takes),
        model=model.name,
        seconds=round(clips * model.seconds + len(untrained) * TRAINING_SECONDS),
        memory_gb=round(model.memory * max(1, max(pixels)), 1),
        disk_mb=math.ceil(sum(pixels) * CLIP_MB),
        to_train=untrained,
    )
