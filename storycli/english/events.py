"""The events of an English story, one by one, in the order of time.

What tells no event (states, thoughts, speech, fragments) goes with the event that follows it, so no word is lost.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from storycli.english import lexicon
from storycli.english.cast import Cast, Thing
from storycli.english.clauses import JOINING, Clauses
from storycli.english.mentions import AROUND_ONE, Mention, Mentions, after_of
from storycli.english.reading import Page
from storycli.english.visible import real

WITH_NOUN = {"of", "with", "in", "on", "at", "under", "behind", "beside", "near", "inside"}
NO_PLACE_AFTER = {"of", "with", "for", "about"}
LESSONS = {"class", "lesson", "practice", "school", "work"}  # "after school"
SEEKING = {"hunt", "look", "search", "seek", "wait"}  # what is not there
# What opens an item of a list, or a scene
ITEM = re.compile(r"\s*([-*+\u2022\u2013]|\d\d?[.)]|(chapter|page|part|scene|shot|step) \d+ ?[.):-])(\s|$)", re.I)


@dataclass(frozen=True, slots=True)
class Part:
    """A piece of a clause beside its verb.

    ``role`` is particle, object, manner, place, time, with, or while: what is done at the same time.
    """

    role: str
    words: tuple[str | Mention, ...]
    lead: str = ""  # the preposition
    side: str = ""  # "the edge of", before a place


@dataclass(frozen=True, kw_only=True, slots=True)
class Event:
    """One visible action of one actor or group."""

    text: str  # the words of the story that tell it
    verb: str  # lemma
    mention: Mention  # who acts
    parts: tuple[Part, ...]
    words: frozenset[str]  # every word of it and of what was told just before, in lower case
    scene: tuple[Part, ...] = ()  # places that were told just before
    passive: str = ""  # "destroyed", where nobody is named who did it
    before: bool = False  # told as over by then: "long ago he had run across the lake"

    @property
    def actors(self) -> tuple[Thing, ...]:
        """Who acts."""
        return self.mention.things

    @property
    def things(self) -> set[Thing]:
        """Who acts, and whom and what it is done to or with."""
        mentions = (word for part in self.parts for word in part.words if isinstance(word, Mention))
        return {thing for mention in (self.mention, *mentions) for thing in mention.things}


@dataclass(slots=True)
class Waiting:
    """Words of the story that tell no event, kept for the next one."""

    text: list[str] = field(default_factory=list)
    scene: list[Part] = field(default_factory=list)
    words: set[str] = field(default_factory=set)

    def before(self, event: Event) -> Event:
        """``event`` with the words that wait put before it."""
        told = replace(
            event,
            text=" ".join([*self.text, event.text]),
            scene=(*self.scene, *event.scene),
            words=event.words | self.words,
        )
        self.text, self.scene, self.words = [], [], set()
        return told


def events(text: str) -> list[Event]:
    """Events of an English story; a story of nothing but states, thoughts and speech gives those."""
    paragraphs = [_running(block) for block in re.split(r"\n\s*\n", text) if block.strip()]
    pages = [Page(paragraph) for paragraph in paragraphs]
    return _events(pages) or _events(pages, relaxed=True)


def _running(block: str) -> str:
    """The lines of a paragraph as running text: those of a list lose their marks and end with a full stop."""
    marked, lines = ITEM.match(block) is not None, block.splitlines()
    single = len(lines) > 1 and not re.search("[.!?]", block) and all(line.strip()[:1].isupper() for line in lines)
    items: list[str] = []
    for line in lines:
        mark = ITEM.match(line) if marked else None
        if mark or single or not items:
            items.append(line[mark.end() :] if mark else line)
        else:
            items[-1] += " " + line
    if marked or single:
        items = [item.strip() + ("." if item.strip()[-1:].isalnum() else "") for item in items]
    return " ".join(" ".join(items).split())


def _events(pages: list[Page], *, relaxed: bool = False) -> list[Event]:
    cast, waiting, found, number = Cast(), Waiting(), [], 0.0
    for page in pages:
        for sent in page.doc.sents:
            clauses = Clauses(page, sent, relaxed)
            sentence = _Sentence(clauses, Mentions(clauses, cast, number))
            told = list(sentence.events())
            if told:
                told[0] = waiting.before(told[0])
            else:
                sentence.wait_in(waiting)
            found += told
            number += 1 if sum(not token.is_punct for token in sent) > 1 else 0.25
    if found and waiting.text:
        found[-1] = replace(found[-1], text=" ".join([found[-1].text, *waiting.text]))
    return found


class _Sentence:
    """Puts together the events of a sentence."""

    def __init__(self, clauses: Clauses, mentions: Mentions):
        self.clauses, self.mentions, self.page = clauses, mentions, clauses.page

    def events(self) -> Iterator[Event]:
        """The events of the sentence, in the order of time."""
        verbs = self.clauses.telling(lambda verb: any(thing.animate for thing in self.mentions.actor(verb).things))
        extents = self.clauses.extents(verbs) if verbs else {}
        for verb in verbs:
            mention, tokens = self.mentions.actor(verb), extents[verb.i]
            roles = {child.dep_ for child in verb.children}
            self._note_actors(verb, mention)
            yield Event(
                text=self.page.text(tokens) if len(verbs) == 1 else self._told(tokens, verb, mention),
                verb=self.clauses.lemma(verb),
                mention=mention,
                parts=tuple(self._parts(verb, {other.i for other in verbs})),
                words=frozenset(self._words(tokens)),
                scene=tuple(self._setting(verb, mention)),
                passive=verb.lower_ if "auxpass" in roles and "agent" not in roles else "",
                before=any(child.dep_ == "aux" and child.lower_ in ("had", "'d") for child in verb.lefts),
            )

    def _setting(self, verb, actor: Mention) -> Iterator[Part]:
        """Where it is, as told before the verb: "when she was in the kitchen, she danced", "back at the castle"."""
        for word in verb.lefts:
            around = list(word.rights) if word.lower_ == "back" or self._is_there(word, actor) else []
            for prep in (*around, *(inner for back in around if back.lower_ == "back" for inner in back.rights)):
                if prep.dep_ == "prep":
                    yield from (part for part in self.preposition(prep) if part.role == "place")

    def _is_there(self, clause, actor: Mention) -> bool:
        """Whether a clause tells where the actor was, or "it" was: "when it was dark in the wood"."""
        if clause.dep_ != "advcl" or self.clauses.lemma(clause) != "be" or not real(self.clauses, clause):
            return False
        subject = self.clauses.own_subject(clause)
        own = self.mentions.found.get(subject.i) if subject is not None else None
        return own is None or subject.lower_ == "it" or own.things == actor.things

    def _words(self, tokens: Iterable) -> set[str]:
        """The words that may tell when it is, or what the weather: not what is said, feared or told of, nor names."""
        plain = (token for token in tokens if not self.page.quoted[token.i] and not self.mentions.names(token))
        return {token.lower_ for token in plain if not _told_of(token)}

    def _note_actors(self, verb, mention: Mention) -> None:
        """Who acts is whom the next sentence goes on with; where a passive names who did it, it is the other one."""
        own, found = self.clauses.own_subject(verb), self.mentions.found
        by_agent = own is not None and own.i in found and any(child.dep_ == "agent" for child in verb.children)
        undergoing = [thing for thing in found[own.i].things if thing.animate] if by_agent else []
        for thing in mention.things:
            self.mentions.note(thing, own if undergoing else verb, subject=not undergoing)
        for thing in undergoing:
            self.mentions.note(thing, verb, subject=True)
        if len(mention.things) > 1 and all(thing.animate for thing in mention.things):
            self.mentions.cast.together = mention.things

    def wait_in(self, waiting: Waiting) -> None:
        """Leave a sentence without events to the next one that has some."""
        sent, quoted = self.clauses.sent, self.page.quoted
        waiting.text.append(self.page.text(list(sent)))
        waiting.words |= self._words(sent)
        for token in sent:
            if token.dep_ == "prep" and not quoted[token.i] and self._happened(token):
                waiting.scene += [part for part in self.preposition(token) if part.role == "place"]

    def _happened(self, token) -> bool:
        """Whether what a word belongs to is so, and not only wished for or denied ("wanted to go to the zoo")."""
        verbs = [verb for verb in token.ancestors if verb.tag_.startswith("VB")]
        return all(verb.tag_ != "VB" and real(self.clauses, verb) for verb in verbs)

    def _told(self, tokens: list, verb, mention: Mention) -> str:
        """The clause as a sentence of its own: joining words dropped, its subject put in where it has none."""
        quoted = self.page.quoted
        while len(tokens) > 1 and not quoted[tokens[0].i] and (tokens[0].is_punct or _joins(tokens)):
            tokens = tokens[1:]
        while (
            len(tokens) > 1
            and not quoted[tokens[-1].i]
            and (tokens[-1].text in ",:;-.\u2014" or tokens[-1].dep_ == "cc")
        ):
            tokens = tokens[:-1]
        text = re.sub("^having ", "had ", self.page.text(tokens), flags=re.IGNORECASE)
        own, subject = self.clauses.own_subject(verb), self.clauses.subject(verb)
        stated = subject in tokens if own is None else own.tag_ not in ("WP", "WDT")  # "he began to run"
        if not stated and mention.things:
            if own is not None:
                text = text.removeprefix(own.text).strip()
            pronoun = subject is not None and subject.tag_ == "PRP"
            text = f"{subject.text if pronoun else _named(mention)} {text}"
        text = text[:1].upper() + text[1:]
        return text if text.endswith((".", "!", "?", '"', "\u201d")) else text + "."

    def _parts(self, verb, telling: set[int]) -> Iterator[Part]:
        subject, found = self.clauses.own_subject(verb), self.mentions.found
        if subject is not None and subject.i in found and any(child.dep_ == "agent" for child in verb.children):
            yield Part("object", (found[subject.i],))
        for child in verb.children:
            if child == subject or child.i in telling or self.page.quoted[child.i]:
                continue
            match child.dep_:
                case "dobj" if child.i in found and (bare := self._bare_preposition(verb, child)) is not None:
                    yield from self._led(child, bare)
                case "dobj" if child.i not in found and (counted := self.mentions.counted(child)).i in found:
                    yield Part("object", (child.lower_, "of", *self._phrase(counted)))
                case "dobj" | "dative" | "oprd" | "attr" | "npadvmod" if child.i in found:
                    yield self._object(child)
                    for prep in self._around(child):
                        yield from self.preposition(prep)
                case "prep" | "dative":
                    yield from self.preposition(child)
                case "ccomp" if child.tag_ in ("VB", "VBG") and child.i > verb.i:
                    yield from self._seen(child)
                case "advcl" if self._meanwhile(child):
                    yield Part("while", self._deed(child))
                case "ccomp" if child.tag_[:2] in ("JJ", "RP", "RB") and child.i > verb.i:  # "swallowed her whole"
                    yield from (Part("object", self._phrase(noun)) for noun in child.lefts if noun.i in found)
                    if child.lower_ in lexicon.PARTICLES:  # "let the dog in"
                        yield Part("particle", (child.lower_,))
                case "oprd" if child.lower_ in lexicon.PARTICLES:  # "falls asleep"
                    yield Part("particle", (child.lower_,))
                case "prt" | "acomp":
                    yield Part("particle", (child.lower_,))
                    for noun in child.rights:  # "put on her cap", where "on" was read as both
                        if noun.dep_ == "pobj" and noun.i in found:
                            yield self._object(noun)
                case "advmod" | "npadvmod" if child.lower_ == "home":
                    yield Part("place", ("home",))
                    yield from (Part("object", self._phrase(noun)) for noun in child.lefts if noun.i in found)
                case "advmod" if child.lower_ == "back" and any(word.lower_ == "forth" for word in child.rights):
                    yield Part("manner", ("back and forth",))
                case "advmod" if child.i > verb.i and child.lower_ in lexicon.PARTICLES:
                    alone = child.lower_ in ("alone", "together") and "dobj" in {other.dep_ for other in verb.children}
                    yield Part("manner" if alone else "particle", (child.lower_,))  # "drank tea together"
                    for prep in (word for word in child.rights if word.dep_ == "prep"):  # "back to bed"
                        yield from self.preposition(prep)
                case "advmod" if (
                    child.pos_ != "PROPN" and child.lower_.endswith("ly") and child.lower_ not in lexicon.NO_MANNER
                ):
                    yield Part("manner", (child.lower_,))

    def _object(self, noun) -> Part:
        lemma = noun.lemma_.lower()
        if lemma in lexicon.TIME or (lemma == "life" and any(word.lower_ == "all" for word in noun.lefts)):
            return Part("time", (noun.lower_,))
        if lemma == "home" and not list(noun.children):
            return Part("place", ("home",))
        return Part("object", self._phrase(noun))

    def _around(self, noun) -> list:
        """The prepositions after an object that tell where the deed is, too: "ate cake in the garden"."""
        if noun.dep_ != "dobj" or self.clauses.lemma(noun.head) in lexicon.PERCEPTION:  # "saw a cat on the roof"
            return []
        preps = [child for child in noun.rights if child.dep_ == "prep" and child.lower_ in ("in", "on", "at", "under")]
        return [prep for prep in preps if any(part.role == "place" for part in self.preposition(prep))]

    def _seen(self, verb) -> Iterator[Part]:
        """ "Saw a fox running", "helps him build a tower": who else does what."""
        subject = self.clauses.own_subject(verb)
        if subject is not None and subject.i in self.mentions.found:
            yield Part("object", (self.mentions.found[subject.i], *self._deed(verb)))

    def _deed(self, verb) -> tuple[str | Mention, ...]:
        """A verb as it stands, with what it is done to and where: "running into the woods"."""
        words: list[str | Mention] = [verb.lower_]
        for child in verb.rights:
            if child.dep_ == "dobj" and child.i in self.mentions.found:
                words += self._phrase(child)
            elif child.dep_ == "prep":
                for part in self.preposition(child):
                    words += [part.lead, *part.words]
        return tuple(words)

    def _meanwhile(self, verb) -> bool:
        """Whether a clause after a comma tells what is done at the same time: "ran along the beach, flying a kite"."""
        comma = verb.left_edge.i > self.clauses.sent.start and verb.left_edge.nbor(-1).text == ","
        if verb.tag_ != "VBG" or verb.i < verb.head.i or not comma or list(verb.lefts) or verb.head.lemma_ == "be":
            return False
        unseen = lexicon.STATES | lexicon.SPEECH | lexicon.ASPECT | lexicon.PERCEPTION - {"watch"} | SEEKING
        return self.clauses.lemma(verb) not in unseen and not any(c.dep_ in ("ccomp", "xcomp") for c in verb.rights)

    def _bare_preposition(self, verb, noun) -> str | None:
        """The preposition that a noun was taken from for an object: "flew over the castle"."""
        before = noun.left_edge.nbor(-1) if noun.left_edge.i > self.clauses.sent.start else noun
        bare = before.dep_ == "prep" and before.head == verb and before.i > verb.i and not list(before.children)
        return before.lower_ if bare else None

    def preposition(self, prep) -> Iterator[Part]:
        """What follows a preposition, as a place, a time or something else."""
        as_much = prep.lower_ == "as" and prep.i > 1 and prep.nbor(-2).lower_ == "as"
        if prep.lower_ == "like" or as_much:
            return  # "as slowly as a snail": nobody sees the snail
        for noun in prep.children:
            if noun.dep_ == "conj" and noun.pos_ == "ADP":  # "out of the gate and into the forest"
                yield from self.preposition(noun)
            elif noun.dep_ == "prep":  # "out of the rocket"
                yield from (replace(part, lead=f"{prep.lower_} {part.lead}") for part in self.preposition(noun))
            elif noun.dep_ == "pobj" and noun.i in self.mentions.found:
                yield from self._led(noun, prep.lower_)

    def _led(self, noun, where: str) -> Iterator[Part]:
        """A noun after the preposition ``where``, and who comes along: "to the forest with Papa"."""
        of = after_of(noun) if noun.lower_ in ("end", "middle", "rest") else None
        lemma = (of or noun).lemma_.lower()  # "for the rest of the summer"
        if lemma in lexicon.TIME or (where in ("after", "before") and lemma in lexicon.TREATS | LESSONS):
            yield Part("time", (noun.lower_,), where)
            return
        whole = self._whole(noun)
        if self._is_oneself(noun, where):
            return
        travelling = where == "by" and noun.tag_ == "NN" and not list(noun.lefts)  # "by bus"
        if where in NO_PLACE_AFTER or travelling or not self._is_place(whole, where):
            yield Part("with", self._phrase(noun), where)
            return
        company = [prep for prep in whole.rights if prep.lower_ == "with" and self._is_company(prep)]
        yield Part("place", self._phrase(whole, company), where, f"the {noun.lower_} of" if whole != noun else "")
        for prep in company:
            yield from self.preposition(prep)

    def _is_oneself(self, noun, where: str) -> bool:
        """ "Looked around her", "the door behind him": who does it."""
        own = self.mentions.found.get(noun.i) if where in AROUND_ONE else None
        return own is not None and own.things == self.mentions.actor_around(noun)

    def _is_company(self, prep) -> bool:
        found = [self.mentions.found[noun.i] for noun in prep.children if noun.i in self.mentions.found]
        return any(thing.animate for mention in found for thing in mention.things)

    def _is_place(self, noun, after: str) -> bool:
        return any(lexicon.is_place(thing.head, after) for thing in self.mentions.found[noun.i].things)

    def _whole(self, noun):
        """ "The edge of a forest": the forest."""
        whole = after_of(noun) if noun.lower_ in lexicon.SIDES else None
        return whole if whole is not None and whole.i in self.mentions.found else noun

    def _phrase(self, noun, apart: Sequence = ()) -> tuple[str | Mention, ...]:
        """A noun with what is joined to it, though not by ``apart``: "a piece of cheese", "bread and jam"."""
        if noun.lower_.endswith(("self", "selves")):
            return (noun.lower_,)
        found = self.mentions.found
        words: list[str | Mention] = [found[noun.i]]
        around = [*self._around(noun), *apart]
        for child in noun.rights:
            if child.dep_ == "prep" and child.lower_ in WITH_NOUN and child not in around:
                for inner in child.children:
                    if self._is_oneself(inner, child.lower_):
                        continue
                    if inner.dep_ == "pobj" and inner.i in found and inner.lemma_.lower() not in lexicon.TIME:
                        if noun.lower_ == "one":  # "one of the foxes"
                            continue
                        if noun.lower_ in lexicon.INDEFINITE:  # "both of them"
                            return self._phrase(inner)
                        words += [child.lower_, *self._phrase(inner)]
            elif child.dep_ == "conj" and child.i in found:
                words += ["and", *self._phrase(child)]
        return tuple(words)


def _told_of(noun) -> bool:
    """ "Afraid of rain", "sang about the snow": it is not there."""
    about = noun.dep_ == "pobj" and noun.head.lower_ in ("of", "about")
    return about and noun.head.head.tag_[:2] in ("JJ", "VB")  # not "in the middle of the night"


def _joins(tokens: list) -> bool:
    """Whether the first word joins its clause to another: "where a wolf slept", "just as she left"; not "that wolf"."""
    word, clause = tokens[0], tokens[0].head
    if word.lower_ == "just":
        return tokens[1].lower_ in JOINING - {"then"}
    if word.lower_ == "that" and clause.dep_ == "conj":  # "and that wolf slept"
        return False
    if clause.dep_ == "advcl" and clause.head in tokens:
        return False  # both are here: "while he rode, he was surprised by a dragon"
    leads = word.dep_ == "prep" and any(child.dep_ == "pobj" for child in word.children)  # "after school"
    return word.lower_ in JOINING and word.dep_ not in ("det", "nsubj", "nsubjpass", "dobj") and not leads


def _named(mention: Mention) -> str:
    """ "The wolf", "Anna and Ben": the subject of a clause that has lost its own."""
    names = []
    for thing in mention.things:
        own = thing.proper or (thing.head in lexicon.INDEFINITE and thing.words == thing.head)
        names.append(
            "I"
            if thing.head == "i"
            else thing.head
            if thing.head in ("we", "you")
            else thing.words
            if own
            else f"the {thing.lasting}"
        )
    return " and ".join(names)
