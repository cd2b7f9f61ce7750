"""The clauses of a sentence: which verbs tell an event, who their subjects are, where each begins, in what order.

One event is one visible action. States, thoughts, reported words, negated and possible actions are none of their
own. Labels are those of spaCy's English models: Penn tags ("VBD") and ClearNLP dependencies ("nsubj").
"""

from itertools import pairwise

from storycli.english import lexicon
from storycli.english.dictionary import past_lemma
from storycli.english.misread import FINITE
from storycli.english.reading import Page
from storycli.english.visible import free_relative, names_deed, real, visible

UNREAL = {"if", "unless", "whether", "lest", "though", "although", "so", "that", "than", "where", "how"}
EARLIER = {"after", "when", "once", "because", "since", "soon"}
LATER = {"before", "until", "till"}
WILL = {"'ll", "shall", "will", "wo"}
GREETINGS = {"goodbye", "bye", "hello", "hi", "thanks"}
JOINING = {"and", "but", "or", "then", "so", "while", "as", "where", "that", *EARLIER, *LATER}
MOMENTS = {"time", "moment", "minute", "instant", "second", "day"}


class Clauses:
    """The verbs of one sentence. ``relaxed`` takes states and thoughts for events too, where there is nothing else."""

    def __init__(self, page: Page, sent, relaxed: bool = False):
        self.page, self.sent, self.relaxed = page, sent, relaxed
        self.lemma, self.is_verb = page.lemma, page.is_verb
        self.has_quote = any(page.quoted[token.i] for token in sent)

    def telling(self, animate) -> list:
        """Verbs that tell events, in the order of time. ``animate(verb)`` says whether somebody alive does it."""
        verbs = [token for token in self.sent if self.is_verb(token) and self._in_story(token)]
        if not self.relaxed:
            verbs = [verb for verb in verbs if visible(self, verb, animate)]
        return sorted(verbs, key=self._time)

    def extents(self, verbs: list) -> dict[int, list]:
        """The words of each verb's clause, from where it begins to where the next one does."""
        told = sorted(verbs, key=lambda verb: verb.i)
        starts = [self.sent.start, *(self._start(verb, before) for before, verb in pairwise(told)), self.sent.end]
        ends = starts[1:]
        doc = self.page.doc
        return {v.i: [doc[i] for i in range(a, b)] for v, a, b in zip(told, starts[:-1], ends, strict=True)}

    # Subjects

    def own_subject(self, verb):
        """The subject that stands with the verb itself, or None."""
        helpers = [child for child in verb.children if child.dep_ in ("aux", "auxpass")]
        for child in (*verb.children, *(c for helper in helpers for c in helper.children)):
            if child.pos_ in ("ADV", "ADP") or child.lower_ in GREETINGS:  # "out came the turnip", "said goodbye"
                continue
            if child.dep_ in ("nsubj", "nsubjpass", "csubj") and not self.page.quoted[child.i]:
                return self.own_subject(child) if self.is_verb(child) else child
        return self._inverted(verb) or self._misread_subject(verb)

    def subject(self, verb):
        """The verb's own subject, or that of the clause that it is joined to."""
        seen: set[int] = set()
        while verb.i not in seen:
            seen.add(verb.i)
            if verb.dep_ == "relcl" and self._second_of_two(verb):
                return verb.head
            own = self.own_subject(verb)
            if own is not None or verb.dep_ == "acl":
                return own if own is not None else verb.head
            if verb.dep_ == "pcomp":
                verb = verb.head.head
            elif verb.dep_ in ("conj", "xcomp", "advcl", "ccomp", "dep"):
                verb = verb.head
            elif verb.dep_ == "ROOT":  # a list whose first verb was read as a remark
                firsts = [c for c in verb.lefts if c.dep_ in ("parataxis", "ccomp") and self.is_verb(c)]
                return self.own_subject(firsts[0]) if firsts else None
        return None

    def _inverted(self, verb):
        """A subject after its verb: '"Fire!" shouted the cook', "there stood a man", "down the street came a band"."""
        after = next((c for c in verb.rights if _may_act(c) and not _is_time(c)), None)
        if after is None or after.lower_ in GREETINGS or verb.i == self.sent.start:
            return None
        before = self.page.doc[verb.i - 1]
        if _has(verb, "expl"):
            return after if self.lemma(verb) != "be" else None
        where = self.page.doc[verb.i - 2] if before.text == "," and verb.i > self.sent.start + 1 else before
        if any(c.dep_ in ("prep", "prt", "advmod") and where in c.subtree for c in verb.lefts):
            opening = next(iter(verb.subtree)).i == self.sent.start or verb.dep_ == "conj"
            first = min(verb.lefts, key=lambda c: c.i)
            leads = first.dep_ == "prep" or first.lower_ in lexicon.PARTICLES | {"there", "here"}
            return after if opening and leads else None
        said = self.has_quote and verb.dep_ in ("ROOT", "conj") and self.lemma(verb) not in ("give", "hand")
        return after if said and self.page.quoted[before.i] else None

    def _misread_subject(self, verb):
        """A subject that the parser took for something else: "the wolf huffed", "the butterfly flutters"."""
        if verb.tag_ not in FINITE:
            return None
        before = [child for child in verb.lefts if not _is_time(child)]
        for child in before:
            if child.dep_ in ("advmod", "compound", "npadvmod", "dep") and child.pos_ in ("NOUN", "PROPN"):
                return child
        if any(child.dep_ == "det" for child in before):  # "and the other paddled"
            return next((child for child in before if child.dep_ == "amod"), None)
        return None

    # Whether a clause is told as happening

    def _in_story(self, verb) -> bool:
        """Main, joined to a main clause, or a clause of time or cause."""
        head = verb.head
        match verb.dep_:
            case "ROOT":
                return not any(child.dep_ == "mark" and child.lower_ == "if" for child in verb.lefts)
            case "conj" if not self.is_verb(head):
                after_and = verb.tag_ == "VBN" and verb.nbor(-1).dep_ == "cc" and not _has(verb, "aux")
                return verb.tag_ in FINITE or (after_and and bool(past_lemma(verb.lower_)))
            case "conj":
                own_tense = self.finite(verb) and not self.finite(head)
                return (own_tense and head.dep_ in ("xcomp", "advcl", "ccomp", "pcomp")) or self._in_story(head)
            case "nsubj" | "csubj":
                asked = any(child.tag_[0] == "W" for child in verb.children)  # "whatever she painted"
                return verb.tag_ in FINITE and self.own_subject(verb) is not None and not asked
            case "dep" if verb.tag_ in FINITE and self.own_subject(verb) is None:
                return self.is_verb(head) and self._in_story(head)
            case "ccomp" if not self.is_verb(head):
                return self._so_that(verb)
            case "ccomp" if free_relative(verb):
                return False
            case "ccomp" | "parataxis" | "dep":
                own = self.finite(verb) and self.own_subject(verb) is not None
                reporting = lexicon.SPEECH | (lexicon.STATES | lexicon.PERCEPTION if verb.i > head.i else set())
                reported = self.lemma(head) in reporting and not self._so_that(verb)
                return own and not reported and self.is_verb(head) and self._in_story(head)
            case "advcl" if verb.tag_ == "VBG" and self.lemma(head) == "be" and self._after_comma(verb):
                return self._in_story(head) and real(self, head)  # "was already there, building a snowman"
            case "advcl" if any(child.tag_ == "MD" and child.lower_ in WILL for child in head.lefts):
                return False  # "when you come, I will show you the place"
            case "xcomp" | "advcl" if names_deed(self, verb):
                return self._in_story(head) and real(self, head)
            case "advcl":
                return self._adverbial(verb)
            case "pcomp":
                return verb.tag_ == "VBG" and head.lower_ in ("after", "before")
            case "relcl":
                return self._goes_on(verb)
            case "acl":
                return self._in_list(verb) or (verb.tag_ == "VBG" and _existential(head))
        return False

    def _after_comma(self, verb) -> bool:
        return verb.i > self.sent.start and verb.nbor(-1).text == ","

    def _adverbial(self, verb) -> bool:
        marks = self._marks(verb)
        if "where" in marks and verb.left_edge.i > self.sent.start and verb.left_edge.nbor(-1).text == ",":
            return True
        if marks & UNREAL and "soon" not in marks:
            return self._so_that(verb)
        if any(c.dep_ == "aux" and c.lower_ == "having" for c in verb.children) or (not marks and self._in_list(verb)):
            return True
        if not self.finite(verb):
            return verb.tag_ == "VBG" and bool(marks & {"after", "before"})
        before = verb.nbor(-1).text if verb.i > self.sent.start else ""
        listed = before in (".", "!", "?") or (before == "," and verb.tag_ == "VBD" and not _has(verb, "agent"))
        return self.own_subject(verb) is not None or bool(marks) or listed  # "He fell. Ran.", "He fell, ran, and"

    def _so_that(self, verb) -> bool:
        """ "Sneezed so hard that the mouse flew away"."""
        head = verb.head if self.is_verb(verb.head) else verb.head.head
        between = self.page.doc[head.i : verb.i] if head.i < verb.i else ()
        return "that" in self._marks(verb) and any(token.lower_ == "so" for token in between)

    def _in_list(self, verb) -> bool:
        """A past form read as a participle in a list: ", sneezed, and ran", "An eagle swooped down, took a fish"."""
        if verb.tag_ != "VBN" or _has(verb, "agent") or _has(verb, "aux") or not past_lemma(verb.lower_):
            return False
        before = verb.nbor(-1).text if verb.i > self.sent.start else ""
        joined = (*verb.children, *verb.head.children, *verb.head.head.children)
        listed = any(child.dep_ == "conj" and child.i > verb.i for child in joined)
        if verb.dep_ == "acl" and verb.head.dep_ == "ROOT":  # "The car skidded and hit a tree"
            relative = any(child.dep_ == "relcl" and child.i < verb.i for child in verb.head.children)
            return relative or any(child.dep_ == "conj" and child.tag_ == "VBD" for child in verb.children)
        if verb.dep_ == "acl":
            after = self.page.doc[min(verb.right_edge.i + 1, self.sent.end - 1)]
            closed = "," in (after.text, verb.right_edge.text)
            return listed and closed and before != "," and verb.head.dep_ == "nsubj" and verb.head.head.i > verb.i
        return listed and verb.i > verb.head.i and before == ","

    def _goes_on(self, verb) -> bool:
        """A relative clause that goes on with the story (", who ran home") or hangs on "there was"."""
        noun, subject, first = verb.head, self.own_subject(verb), verb.left_edge
        if self._second_of_two(verb):
            return True
        if subject is None or not self.finite(verb):
            return False
        if self._opening(verb):
            return True
        if noun.lemma_ in MOMENTS and noun.i < _main_of(noun).i:  # "the moment she touched it, the glass broke"
            return True
        last = all(token.i <= verb.right_edge.i or token.is_punct for token in self.sent)
        if any(child.lower_ == "where" for child in verb.children):  # "a village where an old woman served them tea"
            new = any(child.lower_ in ("a", "an") for child in noun.children)
            apart = first.i > 0 and first.nbor(-1).text == ","
            return (last and new) or (apart and (last or noun.i > _main_of(noun).i))
        if subject.tag_ not in ("WP", "WDT"):
            return False
        comma = first.i > 0 and first.nbor(-1).text == ","
        return _existential(noun) or (comma and last and noun.dep_ not in ("nsubj", "nsubjpass"))

    def _opening(self, verb) -> bool:
        """A main clause read as one about a place before it: "At the end of the lane they found a well"."""
        if any(token.tag_[0] == "W" or token.lower_ == "that" for token in verb.lefts):
            return False
        phrase = verb.head
        while phrase.dep_ in ("pobj", "dobj", "pcomp", "prep") and phrase.tag_ not in FINITE:
            if phrase.dep_ == "prep" and not self._within(phrase.head):
                break
            phrase = phrase.head
        if phrase.pos_ != "ADP":
            return False
        if phrase.dep_ in ("ROOT", "conj"):
            return True
        main = phrase.head
        joined = any(token.dep_ == "cc" for token in self.page.doc[verb.i : main.i] if verb.i < main.i)
        return phrase.i == self.sent.start and joined

    @staticmethod
    def _within(word) -> bool:
        """Whether a word is part of a phrase that a preposition opens."""
        return word.pos_ in ("NOUN", "PROPN", "ADP") or word.tag_ == "VBG"

    def _second_of_two(self, verb) -> bool:
        """The main verb read as a second relative clause ("A mermaid who loved music swam away")."""
        first = next((child for child in verb.head.children if child.dep_ == "relcl"), verb)
        return verb.head.dep_ == "ROOT" and first.i < verb.i and self.finite(verb)

    def finite(self, verb) -> bool:
        helped = any(c.dep_ in ("aux", "auxpass") and c.tag_ in (*FINITE, "MD") for c in verb.children)
        return (
            verb.tag_ in FINITE or helped or (verb.tag_ == "VBN" and (_has(verb, "nsubj") or _has(verb, "nsubjpass")))
        )

    def _marks(self, verb) -> set[str]:
        marks = {child.lower_ for child in verb.lefts if child.dep_ in ("mark", "advmod")}
        if verb.head.lower_ == "soon":
            marks.add("soon")
        if verb.dep_ == "relcl" and verb.head.lemma_ in MOMENTS:
            marks.add("when")
        if {"as", "if"} <= marks:
            return {"if"}
        return marks & {"while", "as", *UNREAL, *EARLIER, *LATER}

    # Where and when

    def _time(self, verb) -> tuple[float, int]:
        """Sort key: the place in the text, moved where before, after and when say so."""
        key, clause = float(verb.i), verb
        while clause.dep_ == "conj" and self.is_verb(clause.head):
            clause = clause.head
        if clause.dep_ in ("advcl", "pcomp"):
            main = clause.head if clause.dep_ == "advcl" else clause.head.head
            if not self.is_verb(main) and self.is_verb(main.head):  # "as soon as"
                main = main.head
            marks = self._marks(clause) or {clause.head.lower_}
            if marks & EARLIER and clause.i > main.i and main.tag_ != "VBG":
                key = main.i - 0.5
            if marks & LATER and clause.i < main.i:
                key = self._last_joined(main) + 0.5
        return key, verb.i

    def _last_joined(self, verb) -> int:
        return max([verb.i, *(self._last_joined(c) for c in verb.children if c.dep_ == "conj" and self.is_verb(c))])

    def _start(self, verb, before) -> int:
        """First token of the clause of ``verb``, after the one of ``before``; its joining words belong to it."""
        first, clause = verb.i, verb
        while (clause.dep_ == "xcomp" or names_deed(self, clause)) and clause.head.i > before.i:  # "began to clap"
            clause = clause.head
            first = min(first, clause.i)
        for child in (*verb.lefts, *clause.lefts):
            tokens = {token.i for token in child.subtree}
            if child.i > before.i and child.dep_ != "punct" and before.i not in tokens:
                first = min(first, *(i for i in tokens if i > before.i))
        while first - 1 > before.i and self._joins(self.page.doc[first - 1]):
            first -= 1
        return first

    def _joins(self, token) -> bool:
        dash_or_comma = token.text in (",", ";", "-", "\u2014") or token.lower_ in ("then", "soon", "as")
        return dash_or_comma or token.dep_ in ("cc", "mark")


def _has(verb, role: str) -> bool:
    return any(child.dep_ == role for child in verb.children)


def _may_act(word) -> bool:
    """Whether a word after its verb may be who acts; a name may have been read as an adverb ("shouted Lily")."""
    return word.dep_ in ("dobj", "attr", "npadvmod") or (word.dep_ == "advmod" and word.pos_ == "PROPN")


def _main_of(noun):
    """What a noun, or the preposition before it, hangs on."""
    return noun.head.head if noun.head.dep_ == "prep" else noun.head


def _existential(noun) -> bool:
    return noun.dep_ in ("attr", "nsubj", "dobj") and _has(noun.head, "expl")


def _is_time(token) -> bool:
    return token.lemma_.lower() in lexicon.TIME
