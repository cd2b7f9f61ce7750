"""One character learnt by one method: what it plays, and how well. The unit of ``evaluate-characters``.

It is measured by two networks that no method learns from and that know every character of the world, as CLIP knows
those of the paper: identity by one trained to tell them apart, and the fit to a sentence by the retrieval network after
it has met those that are held out.
"""

import functools
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from models import weights
from models.recogniser import Recogniser, RecogniserConfig
from storycli import catalogue, digest
from storycli.characters import learn, personal
from storycli.characters.methods import METHODS, CharacterConfig, config_for
from storycli.depth import DepthEstimator
from storycli.library.encoder import BUILT_IN, Encoder
from storycli.media import video
from storycli.media.ffmpeg import replacing
from storycli.render import load_model, sample, to_frames
from storycli.retrieve import Library
from storycli.story import Character
from storycli.training import recogniser as train_recogniser
from storycli.training import retrieval as train_retrieval
from storycli.training.fit import FitSettings
from storycli.world.generator import World

WORLD, CLASS_WORD = "the world itself", "class word alone"  # the ceiling, and the floor
OURS = "timeinv"
RIVALS = ("textual-inversion", "dreambooth", "custom-diffusion")
TAKEN_APART = ("timeinv-alone", "timeinv-attention", "low-rank", "custom-timeinv")
ANYONE = "animal"  # in queries: the retrieval network never heard the names of held-out characters
SIZE = 128  # of what is learnt from, and played
PICTURES = (
    ("sit", "bedroom", "right"),
    ("walk", "park", "right"),
    ("dance", "garden", "left"),
    ("jump", "beach", "right"),
    ("approach", "mountains", "left"),
)
SCENES = (
    ("walk", "snowy forest"),
    ("dance", "garden"),
    ("sit", "beach"),
    ("jump", "mountains"),
    ("drink", "kitchen"),
    ("run", "park"),
    ("approach", "palace"),
    ("guitar", "starry night"),
    ("read", "bedroom"),
    ("swim", "underwater"),
    ("eat", "city"),
    ("balloon", "mars"),
)
FIRST_SEED = 800_000_000  # of the scenes that the world itself plays
JUDGING = FitSettings(samples=6_000, batch_size=32, learning_rate=5e-4, weight_decay=0.1)
JUDGED_ON = 2000  # clips


@dataclass(frozen=True, kw_only=True, slots=True)
class Study:
    """What is learnt and played, and how. Equal studies make equal tables."""

    assets: Path  # the world's emoji
    characters: tuple[str, ...]
    methods: tuple[str, ...] = (*RIVALS, OURS, *TAKEN_APART)
    scenes: int = 10
    seeds: int = 4
    train_steps: int = 200
    steps: int = 12  # of the sampler
    frames: int = 4
    seed: int = 0

    @property
    def cells(self) -> list[tuple[str, str]]:
        """Every character with every way of showing it; the paper's method is taken apart last."""
        ways = (WORLD, CLASS_WORD, *self.methods)
        pairs = [(character, way) for character in self.characters for way in ways]
        return sorted(pairs, key=lambda pair: pair[1] in TAKEN_APART)


def cell(study: Study, folder: Path, chosen: tuple[str, str]) -> Path:
    """Learn a character by a method, have it play every scene, and measure: a file with the measures, and some frames.

    ``prompt``, ``scene``, ``identity``, ``recognised`` and ``steady`` are (scenes, seeds); ``frames`` uint8
    (scenes,f,h,w,3).
    """
    name, way = chosen
    stage = staged(study, folder)
    path = folder / "cells" / f"{name}--{way}--{stage.key(chosen)}.safetensors".replace(" ", "-")
    if path.exists():
        return path
    hero, pictures, shown = stage.hero(name, way), stage.embed(stage.pictures(name)), []
    for scene in SCENES[: study.scenes]:
        clips = stage.real(name, scene) if way == WORLD else stage.play(hero, way, scene)
        measures = stage.measure(clips, pictures, name, scene)
        shown.append(measures | {"frames": torch.from_numpy(clips[0])})
    path.parent.mkdir(exist_ok=True)
    weights.write_tensors(path, {key: torch.stack([one[key] for one in shown]) for key in shown[0]}, {})
    return path


def recogniser(assets: Path, folder: Path, progress=None) -> Recogniser:
    """The network that identity is measured with; trained first when ``folder`` has none."""
    path = folder / "recogniser.safetensors"
    if not path.exists():
        train_recogniser.train(assets, path, progress=progress)
    return weights.load(path, Recogniser, RecogniserConfig)


def judge(assets: Path, folder: Path, progress=None) -> Path:
    """The weights that Sem. is measured with: the built-in retrieval network's, trained further on all characters."""
    path = folder / "judge.safetensors"
    if not path.exists():
        how = dict(settings=JUDGING, clips=JUDGED_ON, splits=("train", "held_out"), further=BUILT_IN)
        train_retrieval.train(assets, path, progress=progress, **how)
    return path


class Stage:
    """The world and its scenes, and the networks that play and measure them."""

    def __init__(self, study: Study, folder: Path):
        self.study, self.folder = study, folder
        self.world = World(study.assets)
        self.settings = catalogue.named("storybook")
        self.model = replace(load_model("storybook"), upscaler=None)  # at the size that is sampled
        self.estimator, self.encoder = DepthEstimator("storybook", "cpu"), Encoder(judge(study.assets, folder))
        self.recogniser = recogniser(study.assets, folder)

    def key(self, chosen: tuple[str, str]) -> str:
        """What a cell hangs on, in 16 letters."""
        how = {name: value for name, value in asdict(self.study).items() if name not in ("assets", "characters")}
        del how["methods"]
        how |= {name: getattr(self.settings, name) for name in ("sampler", "guidance", "tau")}
        networks = self.settings, self.encoder.digest, self.folder / "recogniser.safetensors"
        trained = [METHODS[chosen[1]], self.training(chosen[1])] if chosen[1] in METHODS else []
        return digest.key([chosen, how, trained, networks])[:16]

    # ---- the play ---------------------------------------------------------------------------------------

    def pictures(self, name: str) -> list[np.ndarray]:
        """A character in five poses and places, each uint8 (h,w,3)."""
        shown = []
        for number, (action, place, direction) in enumerate(PICTURES, 1):
            fixed = dict(action=action, place=place, direction=direction, companion="", weather="", camera="still")
            scene = self.world.scene(number, "held_out", character=name, **fixed)
            shown.append(self.world.still(scene, frame=12).frames[0])
        return shown

    def hero(self, name: str, way: str) -> Character:
        """A character in a folder of its own, with its pictures."""
        home = self.folder / "characters" / way / name.replace(" ", "-")
        home.mkdir(parents=True, exist_ok=True)
        for number, picture in enumerate(self.pictures(name), 1):
            with replacing(home / f"{number:02}.png") as partial:
                Image.fromarray(picture).save(partial)
        return Character(name="hero", dir=home, class_word=self.world.tables.named(name)[0])

    def sentence(self, who: str, scene: tuple[str, str]) -> str:
        """A scene in words."""
        action, place = self.world.actions[scene[0]], self.world.places[scene[1]]
        return f"a {who} {action.verbs[0].split('/')[1]} {place.phrases[0]}"

    @functools.cache  # noqa: B019 (a stage lives as long as its process)
    def guide(self, scene: tuple[str, str], frames: int) -> Tensor:
        """The depth (1,1,f,h,w) of the middle of the clip that retrieval finds for a scene."""
        clip = Library(None).search(self.sentence(ANYONE, scene), 1)[0].clip
        start = clip.start + max(0, (clip.end - clip.start - frames) // 2)
        pixels = video.read(clip.path, start=start, end=start + frames, num_frames=frames, size=(SIZE, SIZE))
        return torch.from_numpy(self.estimator.estimate(pixels))[None, None]

    def training(self, method: str) -> CharacterConfig:
        return config_for("storybook", method=method, steps=self.study.train_steps, seed=self.study.seed)

    def learnt(self, hero: Character, method: str) -> personal.Personal:
        """A character as a method learns it; trained when it is not there."""
        config = self.training(method)
        path = personal.ready(hero, "storybook", config) or learn.train(hero, device="cpu", config=config)
        return personal.load_character(path, "storybook")

    def play(
        self,
        hero: Character,
        way: str,
        scene: tuple[str, str],
        *,
        tau: float | None = None,
        seeds: int | None = None,
        frames: int | None = None,
    ) -> np.ndarray:
        """A scene with the character, for every seed: uint8 (seeds,f,h,w,3). From tau 1 on it has no guide."""
        cast = {} if way == CLASS_WORD else {"hero": self.learnt(hero, way)}
        tau = self.settings.tau if tau is None else tau
        latents = sample(
            self.model,
            self.sentence("{hero}" if cast else hero.class_word, scene) + ", storybook style",
            self.guide(scene, frames or self.study.frames),
            seed=[self.study.seed + number for number in range(seeds or self.study.seeds)],
            steps=self.study.steps,
            guidance=self.settings.guidance,
            sampler=self.settings.sampler,
            tau=tau,
            cast=cast,
        )
        return np.stack([to_frames(self.model, one) for one in latents.split(1)])

    def real(self, name: str, scene: tuple[str, str]) -> np.ndarray:
        """Clips that the world itself draws of a scene: uint8 (seeds,f,h,w,3)."""
        fixed = dict(character=name, action=scene[0], place=scene[1], companion="", weather="")
        middle = range((16 - self.study.frames) // 2, (16 + self.study.frames) // 2)
        drawn = (self.world.scene(FIRST_SEED + seed, "held_out", **fixed) for seed in range(self.study.seeds))
        return np.stack([[self.world.still(one, frame=n).frames[0] for n in middle] for one in drawn])

    # ---- the measures -----------------------------------------------------------------------------------

    @torch.inference_mode()
    def embed(self, frames: Sequence[np.ndarray]) -> Tensor:
        """What the recogniser sees in frames uint8 (h,w,3): (n, d), of length 1."""
        return self.recogniser(train_recogniser.batch([np.float32(frame) / 255 for frame in frames]))

    @torch.inference_mode()
    def measure(self, clips: np.ndarray, pictures: Tensor, name: str, scene: tuple[str, str]) -> dict[str, Tensor]:
        """How well clips uint8 (seeds,f,h,w,3) of a scene show a character with embedded ``pictures``: (seeds,) each.

        ``prompt`` is the cosine of a clip to its sentence, and ``scene`` whether no other scene's sentence is nearer.
        """
        seen = self.embed(clips.reshape(-1, *clips.shape[2:])).unflatten(0, clips.shape[:2])
        best = self.recogniser.likeness(seen).argmax(-1)
        chosen = self.encoder.sample(0, clips.shape[1])
        scenes = SCENES[: self.study.scenes]
        who = self.world.tables.named(name)[0]
        sentences = self.encoder.embed_text([self.sentence(who, each) for each in scenes])
        told = torch.from_numpy(self.encoder.embed_clips([clip[chosen] for clip in clips]) @ sentences.T)
        own = scenes.index(scene)
        return {
            "prompt": told[:, own],
            "scene": (told.argmax(1) == own).float(),
            "identity": (seen @ pictures.T).mean((1, 2)),
            "recognised": (best == self.recogniser.config.names.index(name)).float().mean(1),
            "steady": (seen[:, 1:] * seen[:, :-1]).sum(-1).mean(1),
        }


@functools.cache
def staged(study: Study, folder: Path) -> Stage:
    return Stage(study, folder)
