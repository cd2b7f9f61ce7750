"""Names beside the word for somebody, "her cat Whiskers" and "Bruno the bear", which taggers read in a dozen ways."""

import re
from collections.abc import Sequence

from storycli.english import lexicon
from storycli.english.cast import kind_of

OWNERS = {"my", "your", "his", "her", "its", "our", "their", "'s", "\u2019s", "'", "\u2019"}
OTHER = {"he": "she", "she": "he"}


def name_of(words: Sequence[str], i: int) -> int | None:
    """Where the name stands of somebody whom word ``i`` is a noun for."""
    kind, gender = kind_of(words[i], False)
    if not words[i].islower() or kind == "thing":
        return None
    article = next((j for j in (i - 1, i - 2) if j >= 0 and words[j].lower() in {"the", *OWNERS}), None)  # an adjective
    if article is None:
        return None
    after = words[i + 1] if i + 1 < len(words) else ""
    known = lexicon.gender_of_name(after.lower())
    owned = words[article].lower() in OWNERS or not known  # but "the girl Tom met"
    if _is_name(after) and owned and known != OTHER.get(gender, "nobody"):
        return i + 1
    name, goes_on = article - 1, after.islower() and kind_of(after, False)[0] != "thing"  # "Bella the bear cub"
    if name < 0 or goes_on or words[article].lower() != "the" or not _is_name(words[name]):
        return None
    return name if name == 0 or words[name - 1].lower() in lexicon.BEFORE_NAME | set(".,;:!?") else None


def _is_name(word: str) -> bool:
    lower = word.lower()
    capital = re.fullmatch("[A-Z][a-z]+", word) and lower not in lexicon.BEFORE_NAME
    return bool(capital) and lower not in lexicon.TIME and not lexicon.is_place(lower)
