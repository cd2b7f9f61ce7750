"""What a film will take, told before anything heavy is done."""

import math
from dataclasses import dataclass

from models import precision
from storycli import catalogue, stages
from storycli.config import Settings
from storycli.story import Story, Take

CLIP_MB = 1.5  # the files of a plot of 16 frames at 512x512
SLOW = 3  # times as long on cores that are not quick in bf16
NO_GPU = 130  # times as long where a model needs one; lvdm took 45 min to 1.4 h for a clip on two cores, in fp32


@dataclass(frozen=True, kw_only=True, slots=True)
class Cost:
    """An estimate for two cores, quick in bf16 or not as those of this machine, or for a GPU if the model needs it and
    there is one.
    """

    plots: int
    model: str
    seconds: int
    at_most: bool  # ``seconds`` counts clips rendered again, which may not be needed
    memory_gb: float
    disk_mb: int
    to_train: tuple[str, ...]  # characters


def of(story: Story, settings: Settings) -> Cost:
    """What rendering ``story`` from nothing takes. Raises StoryError for a character that cannot be learnt or used."""
    from storycli.characters.personal import ready

    model = catalogue.choose(settings.model, settings.device)
    takes = [stages.take(plot, settings, model) for plot in story.plots]
    pixels = [take.frames * math.prod(take.size) / (model.frames * math.prod(model.size)) for take in takes]
    clips = sum(
        size * (take.steps * (take.retries + 1) + _rehearsal(take)) / model.steps
        for size, take in zip(pixels, takes, strict=True)
    )
    device = precision.pick_device(settings.device)
    pace = 1
    if device.type == "cpu":
        pace = NO_GPU if model.needs_gpu else 1 if precision.quick_in_bf16(device) else SLOW
    untrained = tuple(hero.name for hero in story.characters if stages.pictures(hero) and not ready(hero, model.name))
    return Cost(
        plots=len(takes),
        model=model.name,
        seconds=round(pace * (clips * model.seconds + len(untrained) * model.training_seconds)),
        at_most=any(take.retries for take in takes),
        memory_gb=round(model.memory * max(1, max(pixels)), 1),
        disk_mb=math.ceil(sum(pixels) * CLIP_MB),
        to_train=untrained,
    )


def _rehearsal(take: Take) -> float:
    """How many steps of a take's whole clip are as much as trying which tau suits it."""
    if take.tau != "auto":
        return 0
    from storycli.rehearse import FRAMES, STEPS, TAUS

    return len(TAUS) * STEPS * min(FRAMES, take.frames) / take.frames
