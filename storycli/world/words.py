"""What the storybook world holds and how it is told: tables of characters, places and actions, and a caption grammar.

The tables are in ``core.toml`` and, for the wide tier, also in ``wide.toml``.
"""

import random
import re
import tomllib
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

Colour = tuple[int, int, int]
Things = tuple[tuple[str, float], ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Character:
    """``kind``: head and bust get a plush body; front faces us whole; side faces left whole.

    ``crop``: the part of the emoji that is used (left, top, right, bottom), such as the head of a whole figure.
    """

    code: str
    kind: str
    names: tuple[str, ...]
    height: float
    colours: tuple[Colour, Colour, Colour] | None = None
    crop: tuple[float, float, float, float] = (0, 0, 1, 1)


@dataclass(frozen=True, kw_only=True, slots=True)
class Place:
    """Colours of a picture (sky top, sky bottom, ground far, ground near), its things, and its words.

    ``far`` stands on the horizon, ``sky`` hangs, ``middle`` stands behind the characters, ``fore`` before
    them: (code, height in units of the 128 canvas). ``phrases`` hold their preposition.
    """

    phrases: tuple[str, ...]
    colours: tuple[Colour, Colour, Colour, Colour]
    horizon: float
    far: Things = ()
    sky: Things = ()
    middle: Things = ()
    fore: Things = ()
    pattern: str = ""
    setting: str = "outdoors"
    tone: float = 1.0
    clouds: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Held:
    """A thing in hand: how far to the side and up (shares of the bearer's height), and how it turns and lifts."""

    code: str
    height: float
    across: float
    up: float
    turn: float = 0.0
    lift: float = 0.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Ride:
    """A vehicle: height of the seat (share of the vehicle's), size of the rider, way back of the seat in units.

    With ``hull``, the part of the vehicle below this share of its height covers the rider; else all of it does.
    """

    code: str
    height: float
    seat: float
    rider: float
    back: float
    hull: float = 0.0
    wheels: bool = True
    faces: str = "left"


@dataclass(frozen=True, kw_only=True, slots=True)
class Action:
    """``verbs``: -s/-ing/past, one string per wording; ``span``: units travelled.

    ``moving``: goes through a place; ``sideways``: its direction is worth telling.
    """

    verbs: tuple[str, ...]
    pose: str = "idle"
    span: tuple[float, float] = (0, 0)
    hold: Held | None = None
    ride: Ride | None = None
    settings: tuple[str, ...] = ("outdoors", "indoors", "night", "underwater")
    places: tuple[str, ...] = ()
    phrases: tuple[str, ...] = ()
    weight: float = 1.0
    moving: bool = False
    sideways: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Scene:
    """What a clip shows. ``companion`` and ``weather`` may be empty; the details come from ``seed``."""

    seed: int
    character: str
    action: str
    place: str
    direction: str
    companion: str = ""
    weather: str = ""
    camera: str = "still"


CAMERAS = ("still", "still", "pan left", "pan right", "zoom in", "zoom out")
WEATHER = {
    "snow": ("in the falling snow", "while snow is falling", "as it snows"),
    "rain": ("in the rain", "while it rains", "on a rainy day"),
    "petals": ("among falling petals", "while petals are falling"),
}
SMALL_THINGS = ("2601", "2600", "1f4a4")
ADJECTIVES = ("little", "happy", "cute", "small", "friendly", "cheerful", "brave", "kind", "curious")
OPENINGS = ("One day, ", "One morning, ", "Once upon a time, ", "Then ", "Later, ", "After that, ", "At last, ", "Now ")
NAMES = ("Milo", "Ruby", "Oscar", "Luna", "Max", "Bella", "Toby", "Nina")


@dataclass(frozen=True, slots=True)
class Tables:
    """All that one tier holds, by name."""

    characters: Mapping[str, Character]
    held_out: Mapping[str, Character]
    places: Mapping[str, Place]
    actions: Mapping[str, Action]

    def codes(self) -> list[str]:
        """Every emoji that the world is drawn with."""
        found = [character.code for character in (*self.characters.values(), *self.held_out.values())]
        for place in self.places.values():
            found += [code for code, _ in (*place.far, *place.sky, *place.middle, *place.fore)]
        for action in self.actions.values():
            found += [thing.code for thing in (action.hold, action.ride) if thing]
        return sorted({*found, *SMALL_THINGS})

    def fits(self, action: str, place: str) -> bool:
        """Whether the action makes sense there (nobody flies on the ocean floor)."""
        chosen = self.actions[action]
        return place in chosen.places if chosen.places else self.places[place].setting in chosen.settings

    def named(self, character: str) -> tuple[str, ...]:
        return (self.characters.get(character) or self.held_out[character]).names


@cache
def load_tables(tier: str) -> Tables:
    """The tables of a tier, core or wide; the wide one holds the core."""
    files = {"core": ("core.toml",), "wide": ("core.toml", "wide.toml")}
    if tier not in files:
        raise ValueError(f"unknown tier {tier!r}")
    rows: dict[str, dict[str, Any]] = {"characters": {}, "held_out": {}, "places": {}, "actions": {}}
    for name in files[tier]:
        read = tomllib.loads(resources.files("storycli.world").joinpath(name).read_text("utf-8"))
        for kind, entries in read.items():
            rows[kind] |= {key: _frozen(entry) for key, entry in entries.items()}
    return Tables(
        {name: Character(**row) for name, row in rows["characters"].items()},
        {name: Character(**row) for name, row in rows["held_out"].items()},
        {name: Place(**row) for name, row in rows["places"].items()},
        {name: _action(row) for name, row in rows["actions"].items()},
    )


def _action(row: dict[str, Any]) -> Action:
    held, ride = row.pop("hold", None), row.pop("ride", None)
    return Action(**row, hold=held and Held(**held), ride=ride and Ride(**ride))


def _frozen(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _frozen(item) for key, item in value.items()}
    return tuple(map(_frozen, value)) if isinstance(value, list) else value


CORE, HELD_OUT = load_tables("core").characters, load_tables("core").held_out
PLACES, ACTIONS = load_tables("core").places, load_tables("core").actions


def held_out_pair(character: str, other: str) -> bool:
    """Whether this character is never shown with this action or place in training (one pair in sixteen)."""
    return zlib.crc32(f"{character}|{other}".encode()) % 16 == 0


# ---- captions ------------------------------------------------------------------------------------------


def tell(scene: Scene, tables: Tables, rng: random.Random) -> str:
    """One caption of a scene, drawn from the grammar: wording, tense, order and detail vary with ``rng``."""
    action, place = tables.actions[scene.action], tables.places[scene.place]
    subject = _subject(tables.named(scene.character), rng)
    present, progressive, past = rng.choice(action.verbs).split("/")
    where = rng.choice(action.phrases or place.phrases)
    if not action.moving and where.split()[0] in ("through", "down"):
        where = place.phrases[0]
    if action.sideways and rng.random() < 0.25:
        present, progressive, past = (f"{verb} to the {scene.direction}" for verb in (present, progressive, past))
    extra = ""
    if scene.companion:
        extra = f" {rng.choice(('with', 'next to', 'beside'))} {with_article(tables.named(scene.companion)[0])}"
    if scene.weather and rng.random() < 0.75:
        extra += f" {rng.choice(WEATHER[scene.weather])}"
    roll = rng.random()
    if roll < 0.34:
        text = f"{subject} is {progressive} {where}{extra}"
    elif roll < 0.54:
        text = f"{subject} {present} {where}{extra}"
    elif roll < 0.64:
        text = f"{subject} {past} {where}{extra}"
    elif roll < 0.74:
        text = f"{where}, {subject} {rng.choice((f'is {progressive}', present, past))}{extra}"
    elif roll < 0.84:
        text = f"{subject} {progressive} {where}{extra}"
    elif roll < 0.96:
        opening, verb = rng.choice(OPENINGS), rng.choice((past, past, f"was {progressive}", present))
        text = f"{opening}{subject} {verb} {where}{extra}"
    else:
        text = f"{rng.choice(('a cartoon of ', 'a storybook picture of '))}{subject} {progressive} {where}{extra}"
    return text[0].upper() + text[1:] + ("." if rng.random() < 0.6 else "")


def _subject(names: tuple[str, ...], rng: random.Random) -> str:
    noun = names[0] if rng.random() < 0.55 else rng.choice(names)
    if rng.random() < 0.3:
        adjective = rng.choice(ADJECTIVES)
        noun = noun if adjective in noun or "young" in noun or "old" in noun else f"{adjective} {noun}"
    if rng.random() < 0.05:
        return f"{rng.choice(NAMES)} the {noun}"
    return f"the {noun}" if rng.random() < 0.22 else with_article(noun)


def with_article(words: str) -> str:
    """Words with "a" or "an" before them, by how they sound: "an owl", "a unicorn"; "another" is one word."""
    if words.startswith("other "):
        return f"an{words}"
    return f"{'an' if re.match(r'[aeio]|u(?!ni|s)', words) else 'a'} {words}"
