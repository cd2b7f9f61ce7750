"""Who is who in a story: the things it speaks of, and what its pronouns stand for."""

from dataclasses import dataclass, field

from storycli.english import lexicon

SINGULAR = {"he": "he", "him": "he", "himself": "he", "she": "she", "her": "she", "herself": "she"}
PLURAL = {"they", "them", "themselves", "these", "those"}
YOUNG = {"boy", "girl", "child", "kid", "lad", "lass"}  # that a story may call whom it knows by name
SPEAKER = {"i": "i", "me": "i", "myself": "i", "we": "we", "us": "we", "ourselves": "we", "you": "you"}


@dataclass(eq=False, slots=True)
class Thing:
    """A person, animal, place or object of the story, as it was first named."""

    head: str  # lemma of the noun, or the name, in lower case
    words: str  # the noun with its adjectives: "old keeper"
    kind: str = "thing"  # person, animal or thing
    gender: str = ""  # he, she, it, or not known yet
    plural: bool = False
    proper: bool = False
    looks: str = ""  # what a name is said to be, "shepherd boy", or a relative: a bear's son is a bear
    part: bool = False  # of a body; but "a chest" is none
    names: set[str] = field(default_factory=set)  # every noun it has been called by
    given: set[str] = field(default_factory=set)  # of these the names that came beside its noun
    seen: float = -1  # sentence of the last mention
    place: float = -1  # token of the last mention
    subject: bool = False  # the last mention was a subject
    aside: bool = False  # the last mention stood after a preposition
    acted: bool = False  # some mention was a subject
    asleep: bool = False

    @property
    def animate(self) -> bool:
        return self.kind != "thing"

    @property
    def lasting(self) -> str:
        """The noun without what may be over by now: a sleeping bear is a bear."""
        *adjectives, noun = self.words.split()
        return " ".join([*(word for word in adjectives if word not in lexicon.PASSING), noun])

    def call(self, name: str) -> None:
        """Give it a name beside its noun: "her cat Whiskers"."""
        given = {name, *name.split()}
        self.names, self.given = self.names | given, self.given | given
        if self.kind == "person" and not self.gender:
            self.gender = kind_of(name.split()[0], True)[1]


def kind_of(head: str, proper: bool) -> tuple[str, str]:
    """Kind and gender of a noun: ("person", "she") for a queen, ("animal", "") for a wolf."""
    if head in lexicon.MALE:
        return "person", "he"
    if head in lexicon.FEMALE:
        return "person", "she"
    if proper and (gender := lexicon.gender_of_name(head)):
        return "person", gender
    if head in lexicon.PERSON:
        return "person", ""
    if head in lexicon.ANIMAL:
        return "animal", ""
    if head.endswith("woman"):
        return "person", "she"
    if head.endswith("man") and len(head) > 5:
        return "person", "he"
    if proper and not lexicon.is_place(head) and head not in lexicon.TIME | lexicon.PLANETS:
        return "person", ""
    return "thing", "it"


def _may_be_it(thing: Thing) -> bool:
    """Whether "it" may be somebody: an animal or a creature, but by name only one who is told to be such."""
    noun = thing.looks.split()[-1] if thing.looks else thing.head
    told = bool(thing.looks) and kind_of(noun, False)[0] == "thing"  # "Bolt was a car"
    return (thing.kind == "animal" or noun in lexicon.CREATURES or told) and (bool(thing.looks) or not thing.proper)


class Cast:
    """Every thing mentioned so far; finds what a noun phrase or a pronoun refers to."""

    def __init__(self) -> None:
        self.things: list[Thing] = []
        self.together: tuple[Thing, ...] = ()  # who last acted together

    def noun(self, head: str, words: str, *, plural: bool, proper: bool, new: bool, modifiers: frozenset[str]) -> Thing:
        """The known thing of that name, or a new one; ``new`` (an indefinite article) always makes one."""
        if not new:
            for thing in sorted(self.things, key=lambda thing: -thing.place):
                if head in thing.names and thing.plural == plural and not self._differs(thing, modifiers):
                    return thing
        kind, gender = kind_of(head, proper)
        for title in modifiers & (lexicon.MALE | lexicon.FEMALE) if proper else ():
            gender = kind_of(title, False)[1]
            kind = kind if kind == "animal" else "person"  # Mr. Fox is a fox
        part = kind == "thing" and head in lexicon.BODY and not new
        thing = Thing(head, words, kind, gender, plural, proper, part=part, names={head})
        if proper:  # Santa Claus is Santa, and Captain Vega the captain
            thing.names |= set(words.lower().split()) - lexicon.KIN.keys()
        self.things.append(thing)
        return thing

    @staticmethod
    def _differs(thing: Thing, modifiers: frozenset[str]) -> bool:
        known = {word.rstrip(".") for word in thing.words.lower().split()}
        return bool(modifiers) and bool(known - {thing.head}) and not modifiers & known

    def unseen(self, head: str, sentence: float) -> Thing | None:
        """Whom "the girl" may be where the story told of none: a sister, or the one that it knows by a name alone."""
        if head not in YOUNG or any(head in thing.names for thing in self.things):
            return None
        _, gender = kind_of(head, False)

        def may_be(thing: Thing) -> bool:
            if thing.kind != "person" or thing.plural or thing.looks or {thing.gender, gender} == {"he", "she"}:
                return False
            alone = thing.proper and thing.words.lower() == thing.head and thing.head not in lexicon.KIN
            return (alone or lexicon.KIN.get(thing.head) == head) and 0 < sentence - thing.seen <= 3

        found = list(filter(may_be, self.things))
        return found[0] if len(found) == 1 else None

    def mention(self, thing: Thing, sentence: float, token: float, subject: bool, aside: bool = False) -> None:
        """Note where a thing was last spoken of, and in what role."""
        thing.seen, thing.place, thing.subject, thing.aside = sentence, token, subject, aside
        thing.acted = thing.acted or subject

    def pronoun(
        self,
        word: str,
        sentence: float,
        *,
        subject: bool,
        other_than: tuple[Thing, ...] = (),
        person: bool = False,
    ) -> tuple[Thing, ...]:
        """What the pronoun stands for, by number, gender and nearness; subjects carry on as subjects.

        ``person``: where there is one, he or she is no animal.
        """
        if word in SPEAKER:
            who = SPEAKER[word]
            return (Thing(who, "people" if who == "we" else "person", "person", plural=who == "we"),)
        if word in PLURAL:
            return self._group(sentence, subject, other_than)
        wanted = SINGULAR.get(word, "it")
        if person and wanted != "it":
            animals = (thing for thing in self.things if thing.kind == "animal" and not thing.gender)
            people = self.pronoun(word, sentence, subject=subject, other_than=(*other_than, *animals))
            if people and people[0].kind == "person" and sentence - people[0].seen < 3:
                return people
        found = self._best(lambda thing: self._agreement(thing, wanted), sentence, subject, other_than)
        if found is None:
            return ()
        if found.animate and not found.gender:
            found.gender = wanted
        return (found,)

    @staticmethod
    def _agreement(thing: Thing, wanted: str) -> float | None:
        if thing.plural or (thing.head in lexicon.GROUPS and wanted != "it"):
            return None
        if thing.gender == wanted:
            return 1.5 if wanted != "it" else 1.0 if thing.animate else 0.0
        if thing.kind == "animal" and thing.gender == "it" and wanted != "it":
            return -1.5
        if thing.gender:
            return -2.0 if thing.kind == "animal" or (wanted == "it" and _may_be_it(thing)) else None
        if thing.head in lexicon.INDEFINITE and thing.kind == "person" and wanted != "it":
            return -1.0
        if wanted == "it":
            return 0.6 if _may_be_it(thing) else 0.0 if thing.head in lexicon.GROUPS else None
        if thing.head in lexicon.CREATURES:
            return 0.0
        return 0.4 if thing.kind == "person" else -0.8

    def _best(self, agreement, sentence: float, subject: bool, other_than: tuple[Thing, ...]) -> Thing | None:
        ranked = []
        for thing in self.things:
            fit = agreement(thing)
            if fit is None or thing in other_than or thing.seen < 0:
                continue
            nearness = -0.8 * min(sentence - thing.seen, 6)
            carried = 0.9 if thing.subject and subject else 0.5 if not thing.subject and not subject else 0.0
            if thing.part:
                fit -= 1.5
            where = lexicon.is_place(thing.head) or thing.head in lexicon.PLANETS
            aside = (-1.2 if where else -0.6) if thing.aside and not thing.animate else 0.0
            lively = 0.3 if subject and thing.animate else 0.0
            ranked.append((fit + nearness + carried + aside + lively, thing.place, thing))
        return max(ranked, key=lambda entry: entry[:2])[2] if ranked else None

    def _group(self, sentence: float, subject: bool, other_than: tuple[Thing, ...]) -> tuple[Thing, ...]:
        def agreement(thing: Thing) -> float | None:
            if thing.plural or thing.head in lexicon.GROUPS:
                return 0.6 if thing.animate else -0.4
            return None

        found = self._best(agreement, sentence, subject, other_than)
        if self._still_together(sentence, subject, other_than):
            return self.together
        singles = [
            thing
            for thing in self.things
            if thing.animate and not thing.plural and thing not in other_than and 0 <= sentence - thing.seen <= 4
        ]
        acted = [thing for thing in singles if thing.acted or thing.aside]  # no fish that somebody brought
        singles = sorted(acted if len(acted) > 1 else singles, key=lambda thing: thing.place)[-2:]
        if (
            found is not None
            and (found.animate or len(singles) < 2)
            and not (len(singles) == 2 and min(thing.seen for thing in singles) > found.seen + 1)
        ):
            return (found,)
        if len(singles) == 2:
            return tuple(singles)
        return (found,) if found is not None else ()

    def _still_together(self, sentence: float, subject: bool, other_than: tuple[Thing, ...]) -> bool:
        """Whether "they" are those who last acted together: nobody else has acted since, nor do "them" stand nearer."""
        if not self.together or set(self.together) & set(other_than):
            return False
        since = [thing for thing in self.things if thing.animate and thing not in other_than]
        since = [thing for thing in since if thing.place > max(one.place for one in self.together)]
        recent = sentence - max(thing.seen for thing in self.together) <= 2
        return recent and not any(thing.subject or (thing.plural and not subject) for thing in since)

    def last_actor(self) -> tuple[Thing, ...]:
        """Who acted last: the subject of a sentence that names none ("Ran. Climbed a fence.")."""
        actors = [thing for thing in self.things if thing.subject and thing.animate]
        actors = actors or [thing for thing in self.things if thing.subject]
        return (max(actors, key=lambda thing: thing.place),) if actors else ()

    def two(self, sentence: float) -> tuple[Thing, ...]:
        """Who "the friends" are: the two that last acted together, or have been told of of late, if they are two."""
        if len(self.together) == 2 and sentence - max(one.seen for one in self.together) <= 4:
            return self.together
        near = [one for one in self.things if one.animate and one.seen >= 0 and sentence - one.seen <= 3]
        near.sort(key=lambda one: one.place)
        return tuple(near) if len(near) == 2 and not any(one.plural for one in near) else ()

    def last_plural(self) -> Thing | None:
        """What "one", "both" and "the other" pick from: somebody alive, if there is."""
        plurals = [thing for thing in self.things if thing.plural]
        return max(plurals, key=lambda thing: (thing.animate, thing.place)) if plurals else None
