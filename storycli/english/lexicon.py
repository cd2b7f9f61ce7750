"""The words that the splitter knows, as ``lexicon.toml`` lists them: it says what each list is for."""

import tomllib
from collections.abc import Mapping
from importlib import resources
from typing import Any

_LISTS: dict[str, Any] = tomllib.loads(resources.files(__package__).joinpath("lexicon.toml").read_text("utf-8"))


def _words(name: str) -> frozenset[str]:
    return frozenset(_LISTS[name].split())


def _told_by(name: str) -> Mapping[str, frozenset[str]]:
    """What is told, with the words that tell it, in the order of the file."""
    return {told: frozenset(words.split()) for told, words in _LISTS[name].items()}


def _meant_by(name: str) -> Mapping[str, str]:
    """Each word with what it stands for."""
    return {word: meant for meant, words in _LISTS[name].items() for word in words.split()}


# Who
MALE = _words("male")
FEMALE = _words("female")
BEFORE_NAME = _words("before_name")
VAGUE = _words("vague")
PERSON = _words("person")
ANIMAL = _words("animal")
MALE_NAMES = _words("male_names")
FEMALE_NAMES = _words("female_names")
CREATURES = _words("creatures")
GROUPS = _words("groups")
INDEFINITE = _words("indefinite")
NEVER = _words("never")
PASSING = _words("passing")
RELATED = _words("related")
PARENTS = _words("parents")

# Things
BODY = _words("body")
MASS = _words("mass")
COUNTS = _words("counts")
COUNTS_OF_ONE = _words("counts_of_one")
SIDES = _words("sides")
TREATS = _words("treats")
PLANETS = _words("planets")
MISSED = _words("missed")
TIME = _words("time")
SEASONS = _words("seasons")
LATER = _words("later")
DAYS = _words("days")

# Verbs
STATES = _words("states")
SPEECH = _words("speech")
VOICES = _words("voices")
PERCEPTION = _words("perception")
ASPECT = _words("aspect")
NOT_DONE = _words("not_done")
STAYING = _words("staying")
CHANGES = _words("changes")
MOVING = _words("moving")
LEADING = _words("leading")
CARRYING = _words("carrying")
PARTICLES = _words("particles")
NO_MANNER = _words("no_manner")
UNCHANGED = _words("unchanged")
DOUBLING = _words("doubling")

# Where and when
AT = _words("at")
ON = _words("on")
INDOORS = _words("indoors")
INSIDE = _words("inside")
WATERS = _words("waters")
SPOTS = _words("spots")
PLACES = _meant_by("places")
UNDER = _words("under")
WEATHER = _told_by("weather")
HOURS = _told_by("hours")

# What pictures show
TITLES = _meant_by("titles")
KIN = _meant_by("kin")
GROWN = _meant_by("grown")
FOOTAGE = _meant_by("footage")
MOTIONS: Mapping[str, str] = _LISTS["motions"]


def gender_of_name(name: str) -> str:
    """Whether a first name, in lower case, is one for "he" or "she"; neither where it is not known."""
    return "he" if name in MALE_NAMES else "she" if name in FEMALE_NAMES else ""


def is_place(noun: str, after: str = "") -> bool:
    """Whether a noun says where one is, after a preposition where it needs one: one is under the stars, not at them."""
    return noun in PLACES and (PLACES[noun] != "starry night" or after in UNDER)
