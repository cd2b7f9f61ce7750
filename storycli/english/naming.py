"""What prompts and queries call the things of a story: heroes by their marks, people by their looks."""

import re
from collections.abc import Collection, Sequence

from storycli.english import lexicon
from storycli.english.cast import Thing, kind_of
from storycli.english.mentions import Mention
from storycli.story import Character
from storycli.world import words as world_words
from storycli.world.words import with_article

OWN_WORDS = {name for hero in world_words.CORE.values() for name in hero.names}
ORDINALS = {"first", "second", "third", "fourth", "fifth", "last", "next"}  # "a first pig" says nothing
NAMED = OWN_WORDS | {name for hero in world_words.HELD_OUT.values() for name in hero.names}


class Heroes:
    """Names things as a prompt does: characters marked, people and objects by their nouns.

    Those that are ``met`` already need not be any more what they were found to be ("a sleeping bear").
    """

    def __init__(self, characters: Sequence[Character], met: Collection[Thing] = ()):
        self.characters, self.met = characters, met

    def all_of(self, mention: Mention) -> str:
        """Every thing of a mention, joined by "and"."""
        names: list[str] = []
        for thing in mention.things:
            name = self.one(thing, mention.article)
            if name in names and "{" not in name:
                name = re.sub("^an? ", "another ", name)  # Anna and Mary are two
            names.append(name)
        return " and ".join(dict.fromkeys(names)) or "someone"

    def one(self, thing: Thing, article: str) -> str:
        """One thing with its article."""
        hero = hero_of(thing, self.characters)
        if hero is not None:
            return self.called(hero, thing)
        if thing.proper and thing.animate:
            return with_article(_looks(thing))
        return self.plain(thing, article)

    @staticmethod
    def called(hero: Character, thing: Thing) -> str:
        """The hero that ``thing`` is, or that it is of."""
        return "a {" + hero.name + "}"

    def plain(self, thing: Thing, article: str) -> str:
        """A thing that is no hero and has no name of its own."""
        words = thing.lasting if thing in self.met else thing.words
        if thing.head in lexicon.VAGUE and not thing.plural:
            words = thing.looks or {"he": "man", "she": "woman"}.get(thing.gender, words)
        if thing.head in lexicon.KIN and not thing.plural:
            adjectives = [word for word in words.split()[:-1] if not (thing.looks and word.endswith("'s"))]
            words = " ".join([*adjectives, thing.looks or lexicon.KIN[thing.head]])
        owner, _, bare = words.rpartition("'s ")
        hero = self._whose(owner) if owner else None
        if hero is not None and thing.head in lexicon.BODY:
            return f"{self.called(hero, thing)}'s {bare}"  # one sees whose eye it is
        somebodys = hero is not None or bool(lexicon.gender_of_name(owner))  # "Mia's hat" is a hat
        words = bare if somebodys else words
        if len(numbered := words.split()) > 1 and not thing.plural:
            words = " ".join(word for word in numbered if word not in ORDINALS)
        if thing.proper and thing.kind != "person":
            return words
        alone = words == thing.head  # "some", and not "some of the foxes"
        many = ("everyone", "everybody", "all", "some", "many", "most", "several", "others")
        if thing.head == "we" or (alone and thing.head in many):
            return "people"
        if thing.head in ("someone", "somebody", "i", "you", "anyone", "anybody", "other", "another", "one", "both"):
            words = "person" if alone else words
            return f"two {'people' if words == 'person' else words}" if thing.head == "both" else with_article(words)
        if article == "the" and not thing.animate:
            return f"the {words}"
        if article in ("his", "her", "its", "their", "my", "our", "your") and thing.head in lexicon.BODY:
            return f"{'their' if article in ('my', 'our', 'your') else article} {words}"
        if thing.plural:
            return f"a {words}" if words.split()[0] in lexicon.COUNTS_OF_ONE else words
        if (words.split()[-1] in lexicon.MASS and article != "a") or (
            article == "" and not thing.animate and not somebodys
        ):
            return words
        return with_article(words)

    def _whose(self, owner: str) -> Character | None:
        """The hero that something belongs to, by name or kind: "mia", "teddy bear"."""
        head = owner.split()[-1]
        return hero_of(Thing(head, owner, names={head}), self.characters)


class Movers(Heroes):
    """Names things as a query does: whoever common footage shows doing it."""

    def one(self, thing: Thing, article: str) -> str:
        hero = hero_of(thing, self.characters)
        if hero is not None:
            return self.called(hero, thing)
        noun = thing.words if thing.head in lexicon.INDEFINITE else thing.head
        if thing.looks and (thing.proper or thing.head in lexicon.VAGUE or thing.head in lexicon.KIN):
            noun = thing.looks.split()[-1]
            if kind_of(noun, False)[0] == "thing":  # "Bolt was a car"
                return with_article(noun)
        elif thing.head in lexicon.KIN:
            noun = lexicon.KIN[thing.head].split()[-1]
        if thing.kind == "person" and thing.words not in OWN_WORDS and noun not in OWN_WORDS:
            if thing.plural or thing.head in lexicon.GROUPS or thing.head == "we":
                return "people"
            common = lexicon.FOOTAGE.get(noun) or {"he": "man", "she": "woman"}.get(thing.gender, "person")
            return with_article("child" if noun in ("child", "baby", "kid", "toddler") else common)
        if thing.kind == "animal" and not thing.plural:
            return with_article(lexicon.FOOTAGE.get(noun, noun))
        if thing.kind == "person" and not thing.plural:
            return with_article(noun)
        return self.plain(thing, article)

    @staticmethod
    def called(hero: Character, thing: Thing) -> str:
        kinds = [kind_of(word, False) for word in reversed((hero.class_word or hero.name).lower().split())]
        kind, gender = next(
            (found for found in (*kinds, (thing.kind, thing.gender)) if found[0] != "thing"), ("person", "")
        )
        if kind == "animal":
            return "an animal"
        return with_article({"he": "man", "she": "woman"}.get(gender, "person"))


def hero_of(thing: Thing, characters: Sequence[Character]) -> Character | None:
    """The character that a thing of the story is, by name ("teddy") or by kind ("teddy bear", "the bear")."""
    _, _, own = thing.words.lower().rpartition("'s ")  # "the teddy bear's hat" is no teddy
    words = set(own.split()) | thing.names
    for character in characters:
        if character.name.lower() in words and not thing.plural:
            return character
    for character in characters:
        kind = (character.class_word or "").lower().split()
        if not kind or thing.plural or not {kind[-1], " ".join(kind)} & (thing.names | {thing.words}):
            continue
        adjectives = set((thing.looks or thing.words).lower().split()[:-1])
        if adjectives & (lexicon.ANIMAL | lexicon.PERSON | {"polar", "toy"}) <= set(kind):
            return character
    return None


def _looks(thing: Thing) -> str:
    """What a person known by name looks like: the story's own word for them, a title, or man and woman."""
    title = thing.words.lower().split()[0]
    if thing.words.lower() in NAMED or title in NAMED:
        return thing.words.lower() if thing.words.lower() in NAMED else title
    if thing.head in lexicon.KIN:
        return lexicon.KIN[thing.head]
    if thing.kind == "animal" and thing.head in lexicon.ANIMAL:
        return thing.head
    if title in lexicon.KIN:
        return lexicon.KIN[title]
    if title != thing.head and title in lexicon.PERSON | lexicon.MALE | lexicon.FEMALE and len(title) > 3:
        return title
    return thing.looks or {"he": "man", "she": "woman"}.get(thing.gender, "person")
