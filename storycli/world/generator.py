"""The storybook world: captioned video with exact depth and masks, drawn from a seed.

Every picture is a function of its ``Scene``; the geometry is in units of a 128 x 128 picture, so a world of
another ``size`` draws the same scene with more pixels. Used to train and to measure the built-in models.
"""

import math
import random
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from storycli.world import words
from storycli.world.plush import matching_colours, plush
from storycli.world.sprites import Emoji, Sprite, assets_in, cropped, fetch_assets
from storycli.world.stage import FRAMES_PER_SECOND, TALLEST, UNITS, Stage
from storycli.world.words import Scene

__all__ = [
    "FRAMES_PER_SECOND",
    "UNITS",
    "Scene",
    "Stage",
    "World",
    "WorldClip",
    "assets_in",
    "cache_sprites",
    "fetch_assets",
]


def cache_sprites(assets: Path, tier: str = "wide") -> Path:
    """Decode what a tier needs into one file in ``assets`` (16 MB; 4 MB for the core), which then is all it needs."""
    return Emoji(assets).save(words.load_tables(tier).codes())


@dataclass(frozen=True, slots=True)
class WorldClip:
    """Frames uint8 (f,h,w,3), depth uint8 (f,h,w) with 255 = near, mask bool (f,h,w) of characters and their things."""

    caption: str
    frames: np.ndarray
    depth: np.ndarray
    mask: np.ndarray
    scene: Scene


class World:
    """Draws scenes; ``assets`` is a folder filled by ``fetch_assets`` (or the file of ``cache_sprites``).

    Training scenes never show a held-out character, nor a held-out pair of a character with an action or a place.
    ``often`` makes actions, and company (``companion``), so many times as frequent as they are.
    """

    def __init__(self, assets: Path, tier: str = "core", size: int = UNITS, often: Mapping[str, float] | None = None):
        self.tables = words.load_tables(tier)
        self.size = size
        self.scale = size / UNITS
        self.emoji = Emoji(assets)
        self.train_characters = tuple(self.tables.characters)
        self.held_out_characters = tuple(self.tables.held_out)
        self.characters = {**self.tables.characters, **self.tables.held_out}
        self.places, self.actions = self.tables.places, self.tables.actions
        self.often = often or {}
        self._sprites: dict[tuple[str, str | float], Sprite] = {}

    # ---- scenes and captions -----------------------------------------------------------------------------

    def scene(self, seed: int, split: str = "train", **fixed: str) -> Scene:
        """Draw a scene; ``fixed`` sets fields of it. ``split`` is train or held_out.

        A held-out scene has a held-out character, or a training character in a held-out pair, half and half.
        """
        rng = random.Random(f"scene {seed}")
        novel = split == "held_out" and rng.random() < 0.5
        pool = self.held_out_characters if novel else self.train_characters
        while True:
            character = fixed.get("character") or rng.choice(pool)
            place = fixed.get("place") or self._place_for(fixed.get("action"), rng)
            action = fixed.get("action") or self._action_in(place, rng)
            pairs = [
                (character, name)
                for name, key in ((action, "action"), (place, "place"))
                if not {"character", key} <= fixed.keys()
            ]
            new_pair = any(words.held_out_pair(*pair) for pair in pairs)
            if novel or not pairs or new_pair == (split == "held_out"):
                break
        others = [other for other in self.train_characters if other != character]
        alone = action == "sleep" or self.actions[action].ride
        accompanied = rng.random() < 0.08 * self.often.get("companion", 1) and not alone
        companion = rng.choice(others) if accompanied else ""
        drawn = dict(
            direction=rng.choice(("left", "right")),
            companion=companion if split == "held_out" or not words.held_out_pair(companion, place) else "",
            weather=self._weather(place, rng),
            camera=rng.choice(words.CAMERAS),
        )
        return Scene(**{"seed": seed, "character": character, "action": action, "place": place} | drawn | fixed)

    def _place_for(self, action: str | None, rng: random.Random) -> str:
        return rng.choice([place for place in self.places if action is None or self.tables.fits(action, place)])

    def _action_in(self, place: str, rng: random.Random) -> str:
        possible = [action for action in self.actions if self.tables.fits(action, place)]
        weights = [self.actions[action].weight * self.often.get(action, 1) for action in possible]
        return rng.choices(possible, weights)[0]

    def _weather(self, place: str, rng: random.Random) -> str:
        roll = rng.random()
        if place == "snowy forest":
            return "snow" if roll < 0.6 else ""
        if place == "garden" and roll < 0.25:
            return "petals"
        if self.places[place].setting not in ("outdoors", "night") or place == "mars":
            return ""
        return rng.choice(("rain", "snow", "petals")) if roll < 0.12 else ""

    def caption(self, scene: Scene, rng: random.Random | None = None) -> str:
        """One of many captions of the scene; without ``rng`` always the same one."""
        return words.tell(scene, self.tables, rng or random.Random(f"caption {scene.seed}"))

    # ---- pictures ----------------------------------------------------------------------------------------

    def clip(self, scene: Scene, num_frames: int = 16) -> WorldClip:
        stage = Stage(self, scene)
        pictures = [stage.frame(index, num_frames) for index in range(num_frames)]
        frames, depth, mask = (np.stack(parts) for parts in zip(*pictures, strict=True))
        return WorldClip(self.caption(scene), frames, depth, mask, scene)

    def still(self, scene: Scene, frame: int | None = None, num_frames: int = 16) -> WorldClip:
        """A clip of one frame: the frame with this index (drawn from the seed by default) of ``clip``."""
        if frame is None:
            frame = random.Random(f"frame {scene.seed}").randrange(num_frames)
        picture = Stage(self, scene).frame(frame, num_frames)
        return WorldClip(self.caption(scene), *(part[None] for part in picture), scene)

    def sprite(self, character: str, pose: str = "idle") -> Sprite:
        """The sprite of a character; only heads and busts have poses."""
        look = self.characters[character]
        pose = pose if look.kind in ("head", "bust") else "idle"
        if (character, pose) not in self._sprites:
            picture = cropped(self.emoji.read(look.code), look.crop)
            limit = math.ceil(TALLEST * self.scale)
            if look.kind in ("head", "bust"):
                colours = look.colours or matching_colours(picture)
                sprite = plush(picture, colours, pose, look.kind == "bust", limit)
            else:
                sprite = Sprite.from_pictures([picture], limit)
            self._sprites[character, pose] = sprite
        return self._sprites[character, pose]

    def thing(self, code: str, below: float = 0.0) -> Sprite:
        """The sprite of a thing, or of what lies below a share of its height."""
        if (code, below) not in self._sprites:
            picture = self.emoji.read(code).copy()
            picture[: int(below * len(picture))] = 0
            self._sprites[code, below] = Sprite.from_pictures([picture], math.ceil(92 * self.scale))
        return self._sprites[code, below]
