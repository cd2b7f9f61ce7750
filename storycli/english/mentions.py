"""Whom the words of a sentence mean: its nouns and pronouns, each with the things of the story that it stands for."""

import re
from dataclasses import dataclass

from storycli.english import lexicon
from storycli.english.cast import PLURAL, SINGULAR, SPEAKER, Cast, Thing, kind_of
from storycli.english.clauses import Clauses
from storycli.english.dictionary import is_plural

PRONOUNS = {*SINGULAR, *PLURAL, *SPEAKER, "it", "itself"}
OWNED_BY = {"his": "he", "her": "she", "its": "it", "their": "they"}
SPAN = 100_000  # more tokens than a sentence has: places in the story grow with its sentences
ALIKE = {"cattle", "deer", "fish", "sheep"}  # one or many
ASLEEP, WAKING = {"sleep", "doze", "nap", "snore"}, {"wake", "awake", "awaken"}
INSIDE = ("compound", "nmod", "nummod", "quantmod", "amod")
# Whom somebody speaks to: "Good morning, Bear!", "Anna, look!"
SPOKEN_TO = re.compile(r"(?:^|(?<=, ))[A-Z][a-z]+(?=[,.!?]*$)|^[A-Z][a-z]+(?=[,!])")
AROUND_ONE = {"about", "around", "before", "behind", "beside"}  # "shut the door behind him": behind himself
EACH_OTHER = {("each", "other"), ("another", "one")}  # the second is what the first hangs on


@dataclass(frozen=True, slots=True)
class Mention:
    """A noun phrase or pronoun, as the things that it stands for and the article it came with."""

    things: tuple[Thing, ...]
    article: str = ""  # a, the, a possessive, or nothing


class Mentions:
    """The mentions of sentence number ``number``, by token; resolving them moves the ``cast`` on."""

    def __init__(self, clauses: Clauses, cast: Cast, number: float):
        self.clauses, self.cast, self.number = clauses, cast, number
        self.page, self.sent = clauses.page, clauses.sent
        self.found: dict[int, Mention] = {}
        late = []
        for token in self.sent:
            if self.page.quoted[token.i]:
                self._speak_to(token)
                continue
            mention = self._of(token)
            if mention is not None and mention.things:
                self.found[token.i] = mention
            elif mention is not None and token.dep_ != "poss":
                late.append(token)
        for token in late:
            self.found[token.i] = self._backwards(token)
        for token in self.sent:
            self._christen(token)
            self._put_to_sleep(token)

    def counted(self, noun):
        """ "Hundreds of candles": the candles; "the two of them": them."""
        counts = noun.lemma_.lower() in lexicon.COUNTS or noun.like_num
        return (after_of(noun) or noun) if counts else noun

    def actor(self, verb) -> Mention:
        """Who does it: the agent of a passive, the subject and whoever is joined to it, or whoever acted last."""
        for agent in verb.children:
            for child in agent.children if agent.dep_ == "agent" else ():
                if child.i in self.found:
                    return self.found[child.i]
        subject = self.clauses.subject(verb)
        if subject is not None and subject.tag_ in ("WP", "WDT", "WP$"):
            clause = subject.head
            while clause.dep_ == "conj":
                clause = clause.head
            subject = clause.head
        counted = subject if subject is None or subject.lower_ == "one" else self.counted(subject)
        if subject is None or not {subject.i, counted.i} & self.found.keys():
            return Mention(self.cast.last_actor())
        joined = [
            *self._read_apart(verb, subject),
            *self._and_me(subject),
            self.found[counted.i if counted.i in self.found else subject.i],
            *(self.found[t.i] for t in _joined(subject) if t.i in self.found),
        ]
        return Mention(tuple(dict.fromkeys(t for mention in joined for t in mention.things)), joined[0].article)

    def _read_apart(self, verb, subject) -> list[Mention]:
        """Whoever stands before "and" but was read as no part of the subject: "my bear and I flew"."""
        first, before = verb.head, self.page.doc[subject.left_edge.i - 1]
        apart = verb.dep_ == "conj" and first.i in self.found and before.dep_ == "cc" and before.head == first
        return [self.found[first.i]] if apart and all(thing.animate for thing in self.found[first.i].things) else []

    def _and_me(self, subject) -> list[Mention]:
        """Both of "Grandpa and I", where only one was read as the subject."""
        around = self.page.doc[max(subject.i - 2, 0) : subject.i + 3]
        for first, joint, me in zip(around, around[1:], around[2:], strict=False):
            named = {first.i, me.i} <= self.found.keys() and first.head.i > me.i  # not "he saw Tom and I ran"
            if named and joint.lower_ == "and" and me.lower_ == "i" and subject in (first, me):
                return [self.found[first.i], self.found[me.i]]
        return []

    def note(self, thing: Thing, token, *, subject: bool, aside: bool = False) -> None:
        """Remember that ``thing`` was spoken of here."""
        self.cast.mention(thing, self.number, token.i + SPAN * self.number, subject, aside)

    def _of(self, token) -> Mention | None:
        if token.pos_ == "PRON" and token.lower_ in PRONOUNS:
            return self._pronoun(token)
        if any((child.lower_, token.lower_) in EACH_OTHER for child in token.children):
            return Mention((Thing("each other", "each other"),))  # nobody new
        stands = token.dep_ in ("nsubj", "dobj", "pobj", "nsubjpass", "conj")
        if token.lower_ in lexicon.INDEFINITE and (stands or self.clauses.own_subject(token.head) == token):
            return self._indefinite(token)
        return self._noun(token) if self._is_noun(token) else None

    def _is_noun(self, token) -> bool:
        if token.i in self.page.lemmas:
            return False
        if token.dep_ in INSIDE:
            verb = token.head.tag_.startswith("VB") and self.clauses.own_subject(token.head) == token
            return verb or (token.head.lower_ == "home" and token.pos_ in ("NOUN", "PROPN"))  # "followed the girl home"
        misread = token.dep_ in ("nsubj", "dobj", "pobj") and token.tag_[0] in "JNV" and _has_article(token)
        return token.pos_ in ("NOUN", "PROPN") or (misread and not any(c.dep_[:5] == "nsubj" for c in token.children))

    def _is_subject(self, token) -> bool:
        while token.dep_ == "conj" and token.head.pos_ in ("NOUN", "PROPN", "PRON"):
            token = token.head
        if token.dep_ in ("nsubj", "nsubjpass"):
            return token.head.dep_ != "relcl"
        if token.dep_ == "attr" and any(c.dep_ == "nsubj" and c.lower_ == "it" for c in token.head.lefts):
            return True  # "It was a raven. It perched"
        return self.clauses.is_verb(token.head) and self.clauses.own_subject(token.head) == token

    def _speak_to(self, token) -> None:
        """A quotation tells of whom it speaks to, if that is a name or an animal."""
        for word in SPOKEN_TO.findall(self.page.surface[token.i][1:-1]):
            head = word.lower()
            if head in lexicon.ANIMAL or lexicon.gender_of_name(head) or self._is_known(head):
                thing = self.cast.noun(head, word, plural=False, proper=True, new=False, modifiers=frozenset())
                self.note(thing, token, subject=False)

    # Nouns

    def _noun(self, token) -> Mention:
        owner = next((child for child in token.lefts if child.dep_ == "poss" and child.tag_ != "PRP$"), token)
        article = next((c.lower_ for c in (*owner.lefts, *token.lefts) if c.tag_ in ("DT", "PRP$")), "")
        inside = [child for child in token.lefts if child.dep_ in (*INSIDE, "poss") and child.tag_ != "PRP$"]
        inner = [t for child in inside for t in child.subtree if t.tag_ not in ("DT", "PRP$") and not t.is_punct]
        given = self.page.names.get(token.i, "").lower()
        name = token.text if given else self.page.surface[token.i]
        before = (lexicon.TITLES.get(t.lower_.rstrip("."), self.page.surface[t.i]) for t in inner)
        words = re.sub(" ['\u2019]s", "'s", " ".join([*before, name]))
        known = lexicon.gender_of_name(token.lower_) or self._is_known(token.lower_)
        name_like = token.tag_.startswith("NNP") or known  # "Ines" is no plural
        proper = name_like and name[:1].isupper() and not article
        proper = proper and not self._alone(token) and not self._plain_plural(token)
        head = name.lower() if proper else self.page.nouns.get(token.i) or token.lemma_.lower()
        if token.dep_ == "appos" and token.head.i in self.found and token.tag_ == "NNS":
            return self._called_together(token, head)
        if token.dep_ == "appos" and token.head.i in self.found:
            return self._called(self.found[token.head.i], head, "" if proper else words)
        if article in ("a", "an") and (who := self._said_to_be(token)) is not None:
            return self._called(who, head, words)
        if (
            article == "the"
            and token.tag_ == "NN"
            and not inner
            and self._is_subject(token)
            and (one := self.cast.unseen(head, self.number))
        ):
            self.note(one, token, subject=True)
            return self._called(Mention((one,), "a"), head, words)
        if self._plain_plural(token):
            head = head.removesuffix("s")
        one = article in ("a", "an", "another") or token.lower_ in lexicon.ANIMAL - ALIKE  # "the hedgehog"
        plural = self._plain_plural(token) or (token.tag_ in ("NNS", "NNPS") and not proper and not one)
        both = article == "the" or any(child.lower_ == "both" for child in token.lefts)
        if plural and both and head in lexicon.RELATED and (friends := self.cast.two(self.number)):
            for friend in friends:
                self.note(friend, token, subject=self._is_subject(token))
            return Mention(friends, "the")
        if head in lexicon.TIME and token.dep_ not in ("nsubj", "dobj"):
            return Mention((Thing(head, words, plural=plural),), article)
        thing = self.cast.noun(
            head,
            words if proper else words.lower(),
            plural=plural,
            proper=proper,
            new=article in ("a", "an", "another") or bool(inner and (inner[0].like_num or inner[0].lower_ == "other")),
            modifiers=frozenset(t.lower_.rstrip(".") for t in inner),
        )
        if given:
            thing.call(given)
        if proper and thing.kind == "person" and not thing.looks and {"little", "young"} & {t.lower_ for t in inner}:
            thing.looks = {"he": "boy", "she": "girl"}.get(thing.gender, "child")  # "little Mia"
        if proper and not known and not lexicon.is_place(head) and _led_to(token):
            thing.kind, thing.gender = "thing", "it"  # "in Hawaii"
        if head in lexicon.KIN and not plural:
            self._take_after(thing, token)
        if token.dep_ != "poss" or (thing.animate and thing.seen < 0):
            self.note(thing, token, subject=self._is_subject(token), aside=token.dep_ == "pobj")
        return Mention((thing,), "a" if article == "an" else article)

    @staticmethod
    def _alone(token) -> bool:
        """Whether a word's capital is only that of a sentence without a verb: "Splash!", "Bread, cheese"."""
        named = lexicon.gender_of_name(token.lower_)
        return token.i == token.sent.start and not named and not any(other.tag_[:2] == "VB" for other in token.sent)

    def _plain_plural(self, token) -> bool:
        """ "Sparks flew": a common noun with the capital of its sentence."""
        word = token.lower_
        return token.i == token.sent.start and token.tag_[:3] == "NNP" and is_plural(word) and not self._is_known(word)

    def _is_known(self, name: str) -> bool:
        """Whether somebody of the story goes by a name."""
        return any(name in thing.names and (thing.proper or name in thing.given) for thing in self.cast.things)

    def names(self, token) -> bool:
        """Whether a word is somebody's name: Thunder may be a horse."""
        mention = self.found.get(token.i)
        return mention is not None and any(token.lower_ in thing.given for thing in mention.things)

    def _said_to_be(self, noun) -> Mention | None:
        """Whom a sentence tells the kind of ("Max is a little boy"), if it is somebody known by name."""
        be = noun.head
        if noun.dep_ != "attr" or be.lemma_ != "be" or any(child.dep_ == "neg" for child in be.children):
            return None
        subjects = (self.found[child.i] for child in be.lefts if child.dep_ == "nsubj" and child.i in self.found)
        return next((who for who in subjects if len(who.things) == 1 and who.things[0].proper), None)

    @staticmethod
    def _called(mention: Mention, head: str, words: str) -> Mention:
        """ "Finn, a shepherd boy": another name for the same thing."""
        thing = mention.things[0]
        thing.names.add(head)
        thing.looks = thing.looks or words.lower()
        kind, gender = kind_of(head, False)
        if (thing.proper or thing.head in lexicon.VAGUE) and kind != "thing":
            thing.kind, thing.gender = kind, gender or thing.gender
        return mention

    def _called_together(self, noun, head: str) -> Mention:
        """ "Leo and Max, two brothers": each of them is one."""
        first = noun.head
        while first.dep_ == "conj" and first.head.i in self.found:
            first = first.head
        joined = [self.found[word.i] for word in (first, *_joined(first)) if word.i in self.found and word != noun]
        for mention in joined:
            if not mention.things[0].plural:
                self._called(mention, head, lexicon.KIN.get(head, head))
        return Mention(tuple(thing for mention in joined for thing in mention.things))

    def _christen(self, verb) -> None:
        """ "A girl named Lucy", "they named the boat Luna", "her name was Lucy": from now on that is its name."""
        if self.page.quoted[verb.i]:
            return
        if verb.lemma_ == "be":
            name = next((child for child in verb.rights if child.dep_ == "attr" and child.pos_ == "PROPN"), None)
            if name is not None and (whose := self._whose_name(verb, name)):
                self._name(whose[0], name)
            return
        if not verb.tag_.startswith("VB") or verb.lemma_ not in ("name", "call"):
            return
        undergoes = [child for child in verb.children if child.dep_ in ("dobj", "nsubjpass")]
        whom = verb.head if verb.dep_ == "acl" else next(iter(undergoes), verb)
        name = next((c for c in verb.rights if c.pos_ == "PROPN" and c.i != whom.i), None)
        if name is None or whom.i not in self.found:
            return
        self._name(self.found[whom.i].things[0], name)

    def _whose_name(self, be, name) -> tuple[Thing, ...]:
        """ "Her name was", "the name of the girl was", "a girl, whose name was": the girl."""
        noun = next((child for child in be.lefts if child.lower_ == "name"), None)
        if noun is None:
            return ()
        owner = next((child for child in noun.lefts if child.dep_ == "poss"), None) or after_of(noun)
        if owner is not None and owner.tag_ == "WP$":
            owner = be.head
        own = tuple(thing for word in (noun, name) if word.i in self.found for thing in self.found[word.i].things)
        return self._owners(owner, noun, own) if owner is not None else ()

    def _name(self, thing: Thing, name) -> None:
        given = self.found.get(name.i)
        if given is not None and given.things[0] in self.cast.things and given.things[0].proper:
            self.cast.things.remove(given.things[0])
        thing.call(self.page.surface[name.i].lower())

    def _take_after(self, thing: Thing, token) -> None:
        """A relative of an animal is one, too; and whose mother the story tells of is a child, if it tells no more."""
        for owner in (child for child in token.lefts if child.dep_ == "poss"):
            whose = self._owners(owner, token, (thing,))
            if len(whose) == 1 and whose[0].kind == "animal" and not whose[0].plural:
                noun = whose[0].looks or whose[0].head
                grown = lexicon.KIN[thing.head] not in ("boy", "girl")
                thing.kind, thing.looks = "animal", lexicon.GROWN.get(noun, noun) if grown else noun
            for child in whose if thing.head in lexicon.PARENTS else ():
                if child.proper and not child.looks and child.words.lower() == child.head:  # "Mrs. Brown" is none
                    child.looks = {"he": "boy", "she": "girl"}.get(child.gender, "")

    def _owners(self, owner, token, owned: tuple[Thing, ...]) -> tuple[Thing, ...]:
        """Whose ``token`` is: a noun's, or of those a pronoun may be, who acts first ("the pig ran to his brother")."""
        wanted = OWNED_BY.get(owner.lower_)
        if wanted is None:
            return self.found[owner.i].things if owner.i in self.found else ()
        actor = self.actor_around(token)
        alone = len(actor) == 1 and wanted != "they" and actor[0] not in owned
        if alone and actor[0].gender in (wanted, "") and actor[0].animate:
            actor[0].gender = wanted
            return actor
        return self.cast.pronoun(wanted, self.number, subject=True, other_than=owned)

    def actor_around(self, token) -> tuple[Thing, ...]:
        """Who does what a word stands in the clause of."""
        verb = token.head
        while not self.clauses.is_verb(verb) and verb.dep_ != "ROOT":
            verb = verb.head
        actor = self.clauses.subject(verb) if self.clauses.is_verb(verb) else None
        return self.found[actor.i].things if actor is not None and actor.i in self.found else ()

    def _object_before(self, token) -> tuple[Thing, ...]:
        """ "Threw a bucket of water at it": neither bucket nor water, which are what is done to it."""
        if token.dep_ != "pobj" or not self.clauses.is_verb(token.head.head):
            return ()
        objects = [child for child in token.head.head.rights if child.dep_ == "dobj" and child.i < token.i]
        inside = [word for noun in objects for word in noun.subtree if word.i in self.found]
        return tuple(thing for word in inside for thing in self.found[word.i].things)

    # Pronouns

    def _put_to_sleep(self, verb) -> None:
        """Whoever sleeps can wake up."""
        if self.page.quoted[verb.i] or not self.clauses.is_verb(verb):
            return
        lemma, subject = self.clauses.lemma(verb), self.clauses.own_subject(verb)
        asleep = lemma in ASLEEP or any(child.lower_ == "asleep" for child in verb.rights)
        for thing in self.found[subject.i].things if subject is not None and subject.i in self.found else ():
            thing.asleep = (thing.asleep or asleep) and lemma not in WAKING

    def _sleeper(self, token) -> Thing | None:
        """ "A lion slept. A mouse came. He woke up": the lion, if it is the only one that sleeps."""
        if self.clauses.lemma(token.head) not in WAKING or token.dep_ != "nsubj":
            return None
        gender = SINGULAR.get(token.lower_, "it")
        asleep = [thing for thing in self.cast.things if thing.asleep and thing.gender in (gender, "")]
        return asleep[0] if len(asleep) == 1 and token.lower_ not in (*PLURAL, *SPEAKER) else None

    def _pronoun(self, token) -> Mention:
        if (sleeper := self._sleeper(token)) is not None:
            sleeper.gender = SINGULAR.get(token.lower_, "it")
            self.note(sleeper, token, subject=True)
            return Mention((sleeper,), "the")
        subject = self._is_subject(token) or token.dep_ == "poss"
        other_than: tuple[Thing, ...] = ()
        if not subject and not token.lower_.endswith(("self", "selves")):
            other_than = (*self.actor_around(token), *self._object_before(token))
        if subject and token.lower_ == "they":  # "they feed the ducks": who are no ducks
            objects = {child.lemma_.lower() for child in token.head.rights if child.dep_ == "dobj"}
            other_than = tuple(thing for thing in self.cast.things if thing.plural and thing.names & objects)
        both = any(other.lower_ == "it" for other in self.sent)  # "he kneels beside it": it is the animal
        things = self.cast.pronoun(token.lower_, self.number, subject=subject, other_than=other_than, person=both)
        if self._around_oneself(token, things):
            return Mention(self.actor_around(token), "the")
        for thing in things if token.dep_ != "poss" else ():
            self.note(thing, token, subject=subject)
        return Mention(things, "the")

    def _around_oneself(self, token, others: tuple[Thing, ...]) -> bool:
        """ "The fox shut the door behind him", where the story has not just told of another."""
        if token.dep_ != "pobj" or token.head.lower_ not in AROUND_ONE:
            return False
        actor, gender = self.actor_around(token), SINGULAR.get(token.lower_, "it")
        told = any(self.number - other.seen <= 1 for other in others)
        return not told and len(actor) == 1 and actor[0].animate and actor[0].gender in (gender, "")

    def _backwards(self, token) -> Mention:
        """A pronoun before its noun ("Before he ate, Tom fed the hens"), or one whose noun the story never tells."""
        clause = token.head
        while clause.dep_ not in ("advcl", "ROOT"):
            clause = clause.head
        subject = self.clauses.subject(clause.head) if clause.dep_ == "advcl" else None
        word = token.lower_
        gender = SINGULAR.get(word, "" if word in PLURAL else "it")
        if subject is not None and subject.i in self.found:
            mention = self.found[subject.i]
            if gender not in ("he", "she") or all(thing.animate for thing in mention.things):
                return mention
        noun = {"he": "man", "she": "woman", "": "people"}.get(gender, "thing")
        kind = "thing" if noun == "thing" else "person"
        head = {"he": "he", "she": "she", "": "they"}.get(gender, word)
        thing = Thing(head, noun, kind, gender, word in PLURAL, names={head, word})
        if kind == "person":
            self.cast.things.append(thing)
            self.note(thing, token, subject=self._is_subject(token))
        return Mention((thing,), "a")

    def _indefinite(self, token) -> Mention:
        """ "One", "both", "the other" of those that were spoken of; "everyone", "somebody"."""
        head, subject, counted = token.lower_, self._is_subject(token), self.counted(token)
        if head == "one" and token.dep_ in ("dobj", "pobj") and counted == token:  # "he saw one"
            same = [thing for thing in self.cast.things if not thing.animate and thing.seen >= 0]
            same = [thing for thing in same if not lexicon.is_place(thing.head)] or same
            if same:
                return Mention((max(same, key=lambda thing: (thing.plural, thing.place)),), "a")
        group = self.cast.last_plural() if head in ("one", "other", "others", "another", "both") else None
        if counted != token and (of := self._of(counted)) is not None and of.things:  # "one of the boys"
            group = of.things[0] if of.things[0].head not in lexicon.INDEFINITE else group  # "one of the others"
        plural = head in ("both", "all", "some", "many", "few", "others", "several", "most")
        words, kind = (group.words.split()[-1] if plural else group.head, group.kind) if group else (head, "person")
        if head.endswith("thing"):
            kind = "thing"
        plural = plural or head in ("everyone", "everybody")
        thing = Thing(head, words, kind, "it" if kind == "thing" else "", plural, names={head})
        if group is not None and group.plural:
            thing.names |= group.names
        if not plural and head not in lexicon.NEVER:
            self.cast.things.append(thing)
        self.note(thing, token, subject=subject)
        return Mention((thing,))


def after_of(noun):
    """The noun that another one is of ("hundreds of candles"), or None."""
    prep = next((child for child in noun.rights if child.lower_ == "of"), None)
    return next((child for child in prep.children if child.dep_ == "pobj"), None) if prep is not None else None


def _led_to(noun) -> bool:
    """Whether a name is a place's, by what stands before it: "in Hawaii", "sailed to Bergen", "a train to Rome"."""
    prep = noun.head
    if noun.dep_ != "pobj" or prep.dep_ != "prep":
        return False
    leading = {word.lemma_.lower() for word in (prep.head, prep.doc[max(prep.i - 1, 0)])} & (
        lexicon.MOVING | lexicon.LEADING
    )
    return prep.lower_ == "in" or (prep.lower_ in ("to", "from") and bool(leading))


def _has_article(token) -> bool:
    return (
        token.tag_[0] == "N"
        or token.lower_ in lexicon.KIN
        or any(child.tag_ in ("DT", "PRP$") for child in token.lefts)
    )


def _joined(noun) -> list:
    """The nouns that "and" joins to one; a comma alone joins none ("on the table sat a cat, its paws in the jam")."""
    nouns = [noun]
    for one in nouns:
        nouns += [c for c in one.children if c.dep_ == "conj" and c.pos_ in ("NOUN", "PROPN", "PRON")]
    joined = nouns[1:] if any(child.dep_ == "cc" for one in nouns for child in one.children) else []
    names = noun.tag_ == "NNS" and all(one.tag_ == "NNP" for one in joined)
    return [] if joined and names and noun.nbor().text == "," else joined  # "two children, Hansel and Gretel"
