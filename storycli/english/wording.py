"""Events to words: a query that finds footage of the motion, and a prompt that describes the finished picture.

Both speak as the captions of the storybook world do ("a panda walking through a snowy forest"). The prompt tells what
the story says and marks its heroes; the query puts anybody of that kind in the hero's place.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from storycli.english import lexicon
from storycli.english.cast import Thing
from storycli.english.events import Event, Part
from storycli.english.mentions import Mention
from storycli.english.naming import Heroes, Movers
from storycli.story import Character
from storycli.world import words as world_words

MAX_WORDS = 16  # the small text encoder reads 24 tokens
ARRIVING = {
    "into": "in",
    "to": "in",
    "inside": "in",
    "through": "in",
    "across": "in",
    "onto": "on",
    "down": "on",
    "up": "on",
}
PLACED = {"in", "on", "at", "under", "underneath", "beneath", "among", "by", "near", "beside", "outside", "along"}
ENTERING = {"enter", "reach", "cross", "visit", "explore"}
LEAVING = {"leave", "exit", "flee", "escape"}
COOKING = {"bake", "boil", "cook", "fry"}
ON_LAND = {"climb", "dance", "jog", "march", "run", "sit", "stroll", "walk", "wander"}  # in no water
LOOKING = {"look", "peek", "peer", "gaze", "stare", "glance", "point"}  # under the bed: who does is not there
RISING, SETTING = {"rise", "come", "appear", "climb", "peek"}, {"set", "go", "sink", "disappear"}


@dataclass(slots=True)
class Scene:
    """Where and when the story stands: carried from one event to the next until it says otherwise."""

    place: Part | None = None
    weather: str = ""
    hour: str = ""
    here: list[Part] = field(default_factory=list)
    spot: Part | None = None  # a place for one alone, "on the sofa"
    there: frozenset[Thing] = frozenset()  # who is on it
    gone: frozenset[Thing] = frozenset()  # who has left the place
    met: set[Thing] = field(default_factory=set)  # whom and what earlier events have shown

    def enter(self, event: Event) -> None:
        """Move on to ``event``."""
        self.here = [part for part in event.parts if part.role == "place"]
        if event.verb in ENTERING:
            self.here += [part for part in event.parts if part.role == "object" and _place_of(part)]
        if "outside" in event.words or "bedtime" in event.words:
            self.place = self.spot = None
        for part in event.scene:
            if part.role == "place" and (part.lead in PLACED or part.lead in ARRIVING):
                self._move(part, event)
        times = {part.words[0] for part in event.parts if part.role == "time"}
        if times & lexicon.SEASONS or (event.words & lexicon.LATER and event.words & lexicon.DAYS):
            self.weather = ""
        if self._outdoors() and (event.verb in COOKING or any(thing.head in lexicon.INSIDE for thing in event.things)):
            self.place = None
        if event.verb in ON_LAND and self._in_water():
            self.place = None
        for hour, words in lexicon.HOURS.items():
            if words & event.words and not event.before:
                self.hour = hour
        self.hour = _sky(event, self.hour)
        for weather, words in lexicon.WEATHER.items():
            if words & event.words:
                self.weather = "" if event.verb in ("pass", "stop", "end", "clear") else weather

    def leave(self, event: Event) -> None:
        """Stay, after ``event``, where it has led."""
        self.met |= event.things
        if event.verb in LEAVING and any(part.role == "object" and _place_of(part) for part in event.parts):
            self.place = self.spot = None
        if self.spot is not None and event.verb in lexicon.MOVING and self.there.issuperset(event.actors):
            self.spot = None
        if any(part.words == ("away",) for part in event.parts):
            self.gone |= frozenset(event.actors)
        for part in self.here:
            if event.verb in LOOKING and part.lead != "into":
                continue
            if event.verb == "cross" or (event.verb == "leave" and part.role == "place" and _moves_a_thing(event)):
                continue  # "left her scarf in the kitchen"
            if part.lead in ("into", "onto", "to") and _moves_a_thing(event):
                continue
            if event.before and _way(part) not in ("into", "onto", "to"):
                continue  # where somebody once was
            if part.role == "object" or _way(part) in PLACED or _way(part) in ARRIVING or part.lead == "":
                self._move(part, event)
            elif part.lead in ("out of", "from"):
                self.place = self.spot = None

    def _move(self, part: Part, event: Event) -> None:
        self.spot, self.gone = None, frozenset()
        if part.words == ("home",):
            self.place, self.weather = Part("place", ("home",), "at"), ""
            return
        noun = _place_of(part)
        if noun is None or (noun.head in ("snow", "water", "ice", "sand", "stage", "stairs") and self.place):
            return
        if noun.head in lexicon.SPOTS:
            lead = ARRIVING.get(part.lead, part.lead or "on")
            self.spot, self.there = Part("place", part.words, lead, part.side), frozenset(event.actors)
            return
        if part.lead == "in" and noun.head in lexicon.WATERS and self._outdoors():
            return
        lead = ARRIVING.get(_way(part), part.lead or "in")
        if noun.head in lexicon.AT and _way(part) == "to":
            lead = "at"
        elif noun.head in lexicon.ON and not noun.plural and part.lead not in PLACED:
            lead = "on"
        self.place = Part("place", part.words, lead, part.side)
        if noun.head in lexicon.INDOORS:
            self.weather = ""

    def _in_water(self) -> bool:
        noun = _place_of(self.place)
        return noun is not None and noun.head in lexicon.WATERS and self.place.lead == "in"

    def _outdoors(self) -> bool:
        noun = _place_of(self.place)
        return noun is not None and noun.head not in lexicon.INDOORS | lexicon.WATERS


def _way(part: Part) -> str:
    """The preposition that says which way: "to" of "down to the lake"."""
    return part.lead.split()[-1] if part.lead and part.lead != "out of" else part.lead


def _sky(event: Event, hour: str) -> str:
    """The hour that a sun or a moon tells by its coming and going, or else ``hour``."""
    for head in (thing.head for thing in event.actors):
        if head == "sun" and event.verb in RISING | SETTING:
            return "" if event.verb in RISING else "at sunset"
        if head == "moon" and event.verb in RISING:
            return "at night"
    return hour


def _moves_a_thing(event: Event) -> bool:
    """ "Threw a ball into the lake": who did it has not come there."""
    objects = [part.words[0] for part in event.parts if part.role == "object" and not _place_of(part)]
    moved = [thing for first in objects if isinstance(first, Mention) for thing in first.things]
    moved = event.actors if event.passive else moved
    return event.verb not in lexicon.CARRYING and any(not thing.animate and thing.head != "way" for thing in moved)


def _place_of(part: Part | None) -> Thing | None:
    first = part.words[0] if part is not None and part.words else None
    if isinstance(first, Mention) and first.things and lexicon.is_place(first.things[0].head, part.lead):
        return first.things[0]
    return None


def prompt(event: Event, scene: Scene, characters: Sequence[Character]) -> str:
    """The picture in words: the heroes as ``{name}``, what they do, where, and when it is not an ordinary day."""
    heroes = Heroes(characters, scene.met)
    pieces = [(9, heroes.all_of(event.mention)), (9, _doing(event))]
    pieces += [(_weight(part), _words_of(part, heroes)) for part in _ordered(event)]
    inside = any(part.lead in ("among", "into", "onto", "between") for part in event.parts)
    place = _carried(scene, event)
    if place is not None and not inside:
        pieces.append((7, _words_of(place, heroes)))
    told = " ".join(words for _, words in pieces)
    where = [_place_of(part) for part in scene.here or ([place] if place else [])]
    indoors = any(noun is not None and noun.head in lexicon.INDOORS for noun in where)
    if scene.weather and not indoors and scene.weather.split()[-1] not in told:
        pieces.append((5, scene.weather))
    if scene.hour and scene.hour.split()[-1] not in told:
        pieces.append((4, scene.hour))
    return _short(pieces)


def query(event: Event, scene: Scene, characters: Sequence[Character]) -> str:
    """The motion in words: the same deed by anybody, in the place of the storybook world that is near in meaning."""
    movers = Movers(characters, scene.met)
    particles = " ".join(
        part.words[0] for part in event.parts if part.role == "particle" and isinstance(part.words[0], str)
    )
    objects = [part for part in _ordered(event) if part.role in ("object", "with") and part not in scene.here]
    motion = lexicon.MOTIONS.get(f"{event.verb} {particles}") or lexicon.MOTIONS.get(event.verb)
    if event.passive or not any(thing.animate for thing in event.actors) or (motion == "talking" and objects):
        motion = None
    if event.verb == "go" and any(part.role == "object" for part in objects):
        motion = None  # "went camping"
    if event.verb == "leave" and _moves_a_thing(event):
        motion = None  # "left her bag in the car"
    if event.verb == "wait":
        objects = [part for part in objects if part.lead != "for"]
    pieces = [(9, movers.all_of(event.mention)), (9, motion or _doing(event))]
    if not (motion and motion.endswith(("away", "closer"))):
        pieces += [(_weight(part), _words_of(part, movers)) for part in objects]
    place = scene.here[-1] if scene.here else _carried(scene, event)
    if place is not None:
        pieces.append((7, _footage_place(place, event, movers)))
    pieces += [(_weight(part), _words_of(part, movers)) for part in event.parts if part.role == "while"]
    return _short(pieces)


def _carried(scene: Scene, event: Event) -> Part | None:
    """The place of earlier events, where this one tells none; what is done to a house is not done in it."""
    place = scene.spot if scene.spot is not None and scene.there.issuperset(event.actors) else scene.place
    if place is None or scene.here or _place_of(place) in event.things:
        return None
    return None if event.actors and scene.gone.issuperset(event.actors) else place


def _doing(event: Event) -> str:
    if event.verb == "be" and not event.passive and any(part.role in ("place", "with") for part in event.parts):
        return ""  # "a wolf in the woods"
    particles = [part.words[0] for part in event.parts if part.role == "particle"]
    if event.verb == "say" and not any(part.role in ("object", "particle") for part in event.parts):
        return lexicon.MOTIONS["say"]
    spoken = event.verb == "cry" and re.search('["\u201c\u2018]', event.text)  # '"Fire!" he cried'
    verb = f"being {event.passive}" if event.passive else "shouting" if spoken else gerund(event.verb)
    return " ".join([verb, *(word for word in particles if isinstance(word, str))])


def _ordered(event: Event) -> list[Part]:
    order = {"object": 0, "with": 1, "place": 2, "manner": 3, "while": 4}
    return sorted((part for part in event.parts if part.role in order), key=lambda part: order[part.role])


def _weight(part: Part) -> int:
    return {"object": 8, "place": 7, "with": 6, "while": 6}.get(part.role, 3)


def _short(pieces: list[tuple[int, str]]) -> str:
    """The pieces in order; the least important are left out while there are too many words."""
    pieces = [(weight, words) for weight, words in pieces if words]
    while sum(len(words.split()) for _, words in pieces) > MAX_WORDS and min(weight for weight, _ in pieces) < 8:
        pieces.remove(min(reversed(pieces), key=lambda piece: piece[0]))
    return " ".join(words for _, words in pieces).replace(" in in ", " in ")  # "walks in", told to be in a corridor


def _words_of(part: Part, names: Heroes) -> str:
    words = [names.all_of(word) if isinstance(word, Mention) else word for word in part.words]
    return " ".join(word for word in (part.lead, part.side, *words) if word)


def _footage_place(part: Part, event: Event, names: Heroes) -> str:
    noun = _place_of(part)
    known = world_words.PLACES.get(lexicon.PLACES.get(noun.head, "") if noun else "")
    if known is None or (part.role == "place" and part.lead not in PLACED and part.lead not in ARRIVING):
        return _words_of(part, names)
    moving = event.verb in lexicon.MOVING or lexicon.MOTIONS.get(event.verb, "").startswith(("walking", "running"))
    own = [phrase for phrase in known.phrases if noun is not None and noun.head in phrase.split()]
    through = [phrase for phrase in own or known.phrases if phrase.startswith(("through", "down")) == moving]
    return (through or own or list(known.phrases))[0]


def gerund(verb: str) -> str:
    """The -ing form of a verb: run, running; lie, lying; make, making."""
    if verb.endswith("ie"):
        return verb[:-2] + "ying"
    if verb.endswith("e") and not verb.endswith(("ee", "oe", "ye")) and verb not in ("be", "singe"):
        return verb[:-1] + "ing"
    one_syllable = re.fullmatch(r"(?:qu|[^aeiou])*[aeiou][^aeiouwxy]", verb)
    return verb + (verb[-1] if one_syllable or verb in lexicon.DOUBLING else "") + "ing"
