"""A paragraph as a parser reads it, with the parser's usual slips put right."""

import re
from collections.abc import Iterator

from storycli.english.beside import name_of
from storycli.english.dictionary import index, parser, past_lemma, verb_lemma
from storycli.english.misread import FINITE, NAME, NOUN, misread

QUOTE = re.compile(r"\"[^\"\n]+\"|\u201c[^\u201d\n]+\u201d|(?<!\w)[\u2018'](?=\w)[^\n\"]*?[.,!?][\u2019'](?!\w)")
GAMES = (["hide", "and", "seek"], ["hide", "-", "and", "-", "seek"])
READINGS = 3  # a word that is put right can show that another was wrong


class Page:
    """A parsed paragraph: ``doc`` has the grammar, ``surface`` the words that the story has there.

    Quotations are parsed as ``"Yes,"``, so that what is said in them is not taken for what happens (``quoted``). Words
    that the tagger took for something else are parsed as common ones, "walked" and "man"; ``lemmas`` has what the
    verbs among them stand for, ``nouns`` the nouns. "Her cat Whiskers" is parsed as "her cat"; ``names`` has the name.
    """

    def __init__(self, text: str):
        words: list[str] = []
        spaces: list[bool] = []  # whether one follows
        self.surface: list[str] = []
        self.quoted: list[bool] = []
        self.names: dict[int, str] = {}
        for piece, quote in self._pieces(text):
            if spaces and piece.startswith(" "):
                spaces[-1] = True
            tokens = list(parser().tokenizer(piece.lstrip(" ")))
            words += [token.text.replace("\u2019", "'") for token in tokens]
            spaces += [bool(token.whitespace_) for token in tokens]
            self.surface += [quote, *[""] * (len(tokens) - 1)] if quote else [token.text for token in tokens]
            self.quoted += [bool(quote)] * len(tokens)
        self._take_names(words, spaces)
        self.lemmas: dict[int, str] = {}
        self.nouns: dict[int, str] = {}
        self._take_games(words, spaces)
        self.doc = self._parsed(words, spaces)
        self._reread()

    @staticmethod
    def _pieces(text: str) -> Iterator[tuple[str, str]]:
        """What is parsed, with the quotation that it stands for, if any: a word that touches one is still a word."""
        position = 0
        for match in QUOTE.finditer(text):
            inner, after = match[0][1:-1], text[match.end() :].lstrip()
            spoken = inner[-1] in ".,!?-\u2026\u2014" or text[: match.start()].endswith((", ", ": "))
            if not spoken and len(inner.split()) < 4:
                continue  # a name or an odd word in quotation marks
            yield text[position : match.start()], ""
            yield '"Yes,"' if after[:1].islower() or inner.endswith(",") else '"Yes."', match[0]
            position = match.end()
        yield text[position:], ""

    def _take_names(self, words: list[str], spaces: list[bool]) -> None:
        """Take the names out of the words that stand beside a noun."""
        i = 0
        while i < len(words):
            at = name_of(words, i)
            if at is None or self.quoted[at]:
                i += 1
                continue
            if at > i:
                self.surface[i] += f" {self.surface[at]}"
                spaces[i] = spaces[at]
            else:
                self.surface[at + 1] = f"{self.surface[at]} {self.surface[at + 1]}"
            noun = i if at > i else i - 1
            self.names[noun] = " ".join([*self.names.pop(i, "").split(), words[at]])
            for kept in (words, spaces, self.surface, self.quoted):
                del kept[at]
            i = noun

    def _take_games(self, words: list[str], spaces: list[bool]) -> None:
        """Read "hide and seek" as one noun, "chess"; nobody hides or seeks by themselves."""
        for i in range(len(words)):
            for game in GAMES:
                end = i + len(game)
                if [word.lower() for word in words[i:end]] == game and not self.quoted[i]:
                    between = zip(self.surface[i:end], [*spaces[i : end - 1], False], strict=True)
                    self.surface[i:end] = ["".join(word + " " * space for word, space in between)]
                    spaces[i:end], words[i:end] = spaces[end - 1 : end], ["chess"]
                    del self.quoted[i + 1 : end]
                    self.nouns[i] = "hide-and-seek"

    @staticmethod
    def _parsed(words: list[str], spaces: list[bool]):
        from spacy.tokens import Doc

        return parser()(Doc(parser().vocab, words=words, spaces=spaces))

    def _reread(self) -> None:
        """Parse again with common words for those that were misread ("Anna swam to the island")."""
        words, spaces = [token.text for token in self.doc], [bool(token.whitespace_) for token in self.doc]
        for _ in range(READINGS):
            known = self.lemmas.keys() | self.nouns.keys()
            found = [pair for sent in self.doc.sents for pair in misread(sent)]
            found = [(token, word) for token, word in found if token.i not in known and not self.quoted[token.i]]
            if not found:
                return
            for token, stand_in in found:
                words[token.i] = stand_in
                if stand_in == NOUN:
                    self.nouns[token.i] = token.lower_
                elif stand_in != NAME:
                    self.lemmas[token.i] = verb_lemma(token.lower_)
            self.doc = self._parsed(words, spaces)

    def is_verb(self, token) -> bool:
        """Whether the token heads a clause (an auxiliary does not)."""
        if self.quoted[token.i] or token.dep_ in ("aux", "auxpass", "amod", "compound"):
            return False
        return token.tag_.startswith("VB") or token.i in self.lemmas

    def lemma(self, token) -> str:
        """Dictionary form, in lower case."""
        if token.i in self.lemmas or token.i in self.nouns:
            return self.lemmas.get(token.i) or self.nouns[token.i]
        word, lemma = token.lower_, token.lemma_.lower()
        if lemma == word and past_lemma(word) and (token.tag_ in (*FINITE, "VBN") or word not in index("verb")):
            return past_lemma(word)  # a past form read as a present one
        if word.endswith("es") and lemma == word[:-2] and word[:-1] in index("verb"):
            return word[:-1]
        stem = word[:-3] if word.endswith("ing") else word[:-2] if word.endswith("ed") else ""
        if stem == lemma and stem.endswith("th") and stem + "e" in index("verb"):
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
