"""Words that the tagger took for something else, each with a common word that it does not mistake."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from storycli.english import lexicon
from storycli.english.dictionary import index, past_lemma, present_lemma

if TYPE_CHECKING:
    from spacy.tokens import Token

FINITE = ("VBD", "VBZ", "VBP")
WALKED, EATING, NOUN, NAME = "walked", "eating", "man", "Anna"  # what they are parsed as
BENDING = {"arch", "bend", "hurt", "press", "rub", "scratch", "straighten", "stretch", "turn", "wash"}
AROUND = lexicon.PARTICLES | {"at", "to", "into", "from", "towards", "onto"}


def misread(sent) -> "Iterator[tuple[Token, str]]":
    """Words of a sentence that the tagger took for something else, each with a common word to parse in its place."""
    finite = any(token.tag_ in (*FINITE, "MD") for token in sent)
    present = not finite or any(token.tag_ == "VBZ" or token.text == WALKED for token in sent)
    for token in sent:
        if _main_verb(token):
            yield token, WALKED
        elif token.tag_ == "VBG" and token.dep_ == "amod" and token.i > sent.start and token.nbor(-1).lemma_ == "be":
            yield token, EATING  # "she was peeling potatoes"
        elif _joined_past(token) or _cooked(token):
            yield token, WALKED
        elif (lost := _lost_verb(token)) is not None:
            yield lost, WALKED
        elif token.tag_ not in FINITE and (
            _surely_past(token, finite)
            or (present and token.tag_ == "NNS" and _surely_present(token, finite))
            or _goes_on(token)
        ):
            yield token, WALKED
        elif _surely_noun(token):
            yield token, NOUN
        elif _surely_name(token):
            yield token, NAME


def _main_verb(token) -> bool:
    """A past form that was read as a participle: "a hand reached up", "ran home, dug a hole and found a key"."""
    if token.dep_ == "acl" and token.tag_ == "VBD":
        return True
    if token.dep_ == "acl" and token.head.dep_ == "nsubj" and past_lemma(token.lower_):
        return any(child.dep_ == "nsubj" and child.i > token.i for child in token.head.head.lefts)  # "and they ran"
    listed = any(child.dep_ == "conj" and child.tag_ == "VBD" for child in token.children)
    if not listed or token.dep_ not in ("acl", "advcl") or token.tag_ != "VBN":
        return False
    return token.i > 0 and token.nbor(-1).text == "," and bool(past_lemma(token.lower_))


def _joined_past(token) -> bool:
    """A past form after "and" that was read as an adjective: "threw her coffee into the bin and left"."""
    joined = token.dep_ == "conj" and token.head.tag_ in FINITE and token.tag_ in ("JJ", "NN", "RB")
    return joined and token.nbor(-1).dep_ == "cc" and bool(past_lemma(token.lower_))


def _cooked(token) -> bool:
    """A past form between two nouns that was read as an adjective: "my mum cooked spaghetti"."""
    before = token.nbor(-1) if token.i > token.sent.start else token
    beside = before.dep_ in ("compound", "nmod") and before.head == token.head and before.tag_[:2] == "NN"
    own = any(child.tag_ in ("DT", "PRP$") for child in before.lefts) or before.tag_ == "NNP"
    return token.tag_ == "VBN" and token.dep_ == "amod" and beside and own and bool(past_lemma(token.lower_))


def _lost_verb(noun):
    """The verb of a clause that was read as a bare noun joined to a verb ("when a bottle floated by"), or None."""
    joined = noun.dep_ in ("conj", "advcl") and noun.head.tag_.startswith("VB")
    if not joined or noun.pos_ not in ("NOUN", "PROPN", "PRON"):
        return None
    alone = noun.dep_ == "advcl" and any(child.dep_ in ("mark", "advmod") for child in noun.lefts)
    if alone and any(child.dep_ == "compound" for child in noun.lefts) and past_lemma(noun.lower_):
        return noun  # "as the sun set"
    inside = (
        t for t in noun.subtree if t.i > noun.i and t.tag_ in ("VBN", "NNP", "JJ") and t.dep_ not in ("amod", "pobj")
    )
    return next((token for token in inside if past_lemma(token.lower_)), None)


def _goes_on(token) -> bool:
    """A verb that stands first, after a sentence in the present: "His horse stumbles. Falls." """
    sent = token.sent
    if token.i != sent.start or token.i == 0 or not token.tag_.startswith("NN") or not present_lemma(token.lower_):
        return False
    before = any(other.tag_ == "VBZ" or other.text == WALKED for other in token.doc[0 : token.i])
    after = token.nbor() if token.i + 1 < sent.end else token
    return before and (after.is_punct or after.tag_ in ("IN", "DT", "PRP$", "RP", "TO", "RB"))


def _surely_noun(token) -> bool:
    """What "her" owns ("grabs her sled"), or a person or an animal after its article ("the innkeeper opened it")."""
    before = token.nbor(-1) if token.i > token.sent.start else token
    if before.lower_ == "her" and before.dep_ == "nsubj" and before.head == token and token.tag_ in FINITE:
        return True
    after = token.nbor() if token.i + 1 < token.sent.end else token
    if before.lower_ == "her" and token.lower_ == "back" and before.head.lemma_ in BENDING:
        return after.lower_ != "into"  # "arched her back"
    if token.pos_ in ("NOUN", "PROPN", "ADJ") or token.lower_ not in lexicon.PERSON | lexicon.ANIMAL:
        return False
    return before.tag_ in ("DT", "PRP$")


def _surely_name(token) -> bool:
    """A first name that was read as an adverb: "Lily gets into a washtub"."""
    known = lexicon.gender_of_name(token.lower_) != ""
    return known and token.text[:1].isupper() and not token.tag_.startswith("NN")


def _surely_past(token, finite: bool) -> bool:
    """A past form that is no noun or adjective ("swam"), or that must be the verb of a sentence without one."""
    word = token.lower_
    if not past_lemma(word) or (word.endswith(("n", "ne")) and word not in ("ran", "began", "won", "spun", "span")):
        return False
    before = token.nbor(-1) if token.i > token.sent.start else token
    if not finite:
        return token.tag_ != "VBG" and before.tag_ not in ("DT", "PRP$", "CD")
    if token.tag_.startswith("VB"):
        return False
    if token.dep_ == "ROOT" and before.dep_ == "compound" and before.tag_ in ("NN", "NNP"):
        return True  # "When the bear came, the mitten burst"
    return (word not in index("noun") or word == "sang") and word not in index("adj")


def _surely_present(token, finite: bool) -> bool:
    """A plural noun that must be a verb: "the statue winks", "she pours a coffee and glances at the screens"."""
    if not present_lemma(token.lower_) or token.i == token.sent.start:
        return False
    if any(child.dep_ in ("det", "amod", "nummod", "poss") and child.nbor() == token for child in token.lefts):
        return False
    if token.dep_ == "conj" and present_lemma(token.lower_) == token.lower_[:-1] not in index("noun"):
        return True  # "drops his spade and flees"
    before = token.nbor(-1)
    following = token.nbor().lower_ if token.i + 1 < token.sent.end else "."
    if before.dep_ == "compound" and before.head == token and before.tag_ in ("NN", "NNP"):
        single = any(c.lower_ in ("a", "an") for c in (*before.children, *token.children))
        joined = any(child.dep_ == "conj" and child.tag_ == "VBZ" for child in token.rights)  # "waves and opens"
        return not finite or single or joined or token.dep_ in ("conj", "advcl")
    if token.dep_ != "conj":
        return False
    return token.head.tag_.startswith("VB") or (token.head.tag_ == "NN" and following in AROUND)
