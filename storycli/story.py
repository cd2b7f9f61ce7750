"""The nouns of the project: a Story of Plots, told by Characters, shown in Shots that follow Clips.

``Story``, ``Plot`` and ``Character`` are what people and language models write, so pydantic checks them.
``Clip``, ``Candidate``, ``Shot`` and ``Film`` are made by the program itself.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, PlainSerializer, StringConstraints, WrapValidator

NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,31}")  # of a character
NAMED = re.compile(r"\{([A-Za-z][\w-]*)\}")  # how a prompt marks one

Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=2000)]
Tau = Annotated[  # a share of diffusion time, or "auto": the one that suits the plot
    float,
    Field(ge=0, le=1),
    WrapValidator(lambda value, check: value if value == "auto" else check(value)),
    PlainSerializer(lambda value: value),
]
Name = Annotated[str, StringConstraints(pattern=f"^{NAME.pattern}$")]


class Written(BaseModel):
    """Something a person or a language model wrote: unknown keys are mistakes."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Character(Written):
    """A hero of the story: a folder of pictures and, once trained, a ``character.safetensors`` in it."""

    name: Name
    dir: Path
    class_word: Text | None = None  # "teddy bear"; what the character is a kind of


class Plot(Written):
    """One event without a change of shot ("one plot = one single event with no shot transition")."""

    text: Text  # the event, in the story's language
    query: Text  # English; finds the motion in the library
    prompt: Text  # English; describes the finished picture, {name} marks a character
    reference: Path | None = None  # a video to take the motion from, instead of searching
    candidate: int | None = Field(None, ge=1, strict=True)  # which search result to use, 1 = best
    seed: int | None = Field(None, ge=0, lt=2**63, strict=True)
    tau: Tau | None = Field(None, strict=True)  # structure is dropped for t < tau * T
    guidance: float | None = Field(None, ge=1, le=50, strict=True)
    frames: int | None = Field(None, ge=1, le=64, strict=True)
    negative: str | None = None


class Story(Written):
    """A whole storyboard."""

    title: Text
    plots: tuple[Plot, ...] = Field(min_length=1)
    characters: tuple[Character, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Clip:
    """One shot of a video in the library."""

    id: str  # content key of the shot, stable under moves of the file
    path: Path
    start: int  # first frame of the shot
    end: int  # one past its last frame
    fps: float
    width: int
    height: int
    caption: str = ""
    source: str = ""  # where it comes from, for the credits
    licence: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Candidate:
    """A clip that search found for a query; the score says how well it fits: its similarity, less its flaws."""

    clip: Clip
    score: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Take:
    """How a plot is filmed: its own wishes, else the settings', else the model's."""

    seed: int
    sampler: str
    steps: int
    guidance: float
    tau: float | Literal["auto"]
    negative: str
    frames: int
    fps: float
    size: tuple[int, int]  # width, height
    retries: int = 0  # how often a clip that is not like its character or its guide is rendered again
    smooth: int = 1  # frames shown for each that the model makes

    @property
    def seconds(self) -> float:
        return self.frames / self.fps


@dataclass(frozen=True, kw_only=True, slots=True)
class Shot:
    """A rendered plot: the clip its motion came from and the video made of it."""

    plot: Plot
    candidates: tuple[Candidate, ...]
    reference: Clip
    take: Take
    depth: Path
    video: Path


@dataclass(frozen=True, kw_only=True, slots=True)
class Film:
    """A finished film: its shots, joined, and the recipe that it carries."""

    story: Story
    shots: tuple[Shot, ...]
    video: Path
    recipe: Mapping[str, Any]
