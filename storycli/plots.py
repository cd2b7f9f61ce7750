"""A written story to plots: one event without a change of shot each, with the query and the prompt that film it."""

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Literal

from storycli import config
from storycli.errors import StoryError
from storycli.story import Character, Plot, Story

MAX_CHARACTERS = 2 * 2**20
MAX_TEXT = 2000  # characters of one plot
NO_ENGLISH = (
    "set OPENAI_API_KEY, or OPENAI_BASE_URL for a local server such as Ollama; or use --llm none, with one plot a line"
)


def split(
    text: str,
    *,
    llm: Literal["auto", "openai", "offline", "none"] = "auto",
    characters: Sequence[Character] = (),
    title: str | None = None,
    llm_model: str | None = None,
    style: str = "storybook style",
    progress: Callable[[int, int], None] | None = None,
) -> Story:
    """Split a story into plots, in the order of its events.

    ``llm`` says who reads it: ``openai`` a language model on any compatible server, ``offline`` a parser of English,
    ``none`` nobody (every line is a plot as it stands), ``auto`` the model where a key or a server is set, else the
    parser. Prompts end with the ``style`` that the video model knows. ``progress(done, total)`` counts the parts of a
    long story.

    Raises:
        StoryError: the story is empty, no text, too long, or not one that the chosen reader can read; or the language
            model's server fails.
    """
    heading, body = _heading(_checked(text))
    title = title or heading or _first_words(body)
    llm = reader(llm)
    if llm == "openai":
        from storycli import llm as language_model

        scenes = language_model.split(body, characters=characters, model=llm_model, progress=progress)
        plots = [_plot(scene.text, scene.query, marked(scene.prompt, characters), style) for scene in scenes]
    elif llm == "offline":
        plots = _offline(body, characters, style)
    elif llm == "none":
        plots = [_as_it_stands(line.strip(), characters) for line in body.splitlines() if line.strip()]
    else:
        raise ValueError(f"llm: {llm!r}")
    return Story(title=title[:200], plots=tuple(plots), characters=tuple(characters))


def reader(llm: str) -> str:
    """Who reads a story: ``auto`` is a language model where a key or a server is set, else the parser."""
    if llm != "auto":
        return llm
    return "openai" if any(config.service()) else "offline"


def _checked(text: str) -> str:
    """The story with plain line ends, if it is one."""
    if len(text) > MAX_CHARACTERS:
        raise StoryError(
            f"the story is too long ({len(text) / 2**20:.0f} MB; {MAX_CHARACTERS // 2**20} MB is the most)",
            "render it chapter by chapter",
        )
    text = text.replace("\ufeff", "").replace("\r\n", "\n").replace("\r", "\n")
    if not text.strip():
        raise StoryError("the story is empty", "write at least one sentence")
    strange = len(re.findall(r"[\x00-\x08\x0e-\x1f\x7f\ufffd]", text))
    if "\0" in text or strange > 0.02 * len(text):
        raise StoryError("the story is not text", "give a .txt or .md story")
    text = re.sub(r"[\x00-\x08\x0b-\x1f\x7f\ufffd\u200b\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]", "", text)
    if not any(character.isalpha() for character in text):
        raise StoryError("the story has no words", "write at least one sentence")
    return text


def _heading(text: str) -> tuple[str, str]:
    """A Markdown story's title, and the story without its marks of headings and emphasis."""
    rule = re.compile(r"\s*([*_=-]\s*){3,}")
    lines = [line for line in text.strip().splitlines() if not rule.fullmatch(line)]
    plain = re.sub(r"(\*\*|__|\*|(?<!\w)_|_(?!\w))(\S.*?)\1", r"\2", "\n".join(lines)).strip()
    heading = re.match(r"#+\s+(.+)", plain)
    body = [line for line in plain.splitlines() if not re.match(r"#+\s", line)]
    return (heading[1].strip() if heading else ""), "\n".join(body).strip() or plain.lstrip("# ")


def _first_words(text: str) -> str:
    words = text.split()
    return " ".join(words[:6]).rstrip(".,;:!?") + ("..." if len(words) > 6 else "")


def _plot(text: str, query: str, prompt: str, style: str) -> Plot:
    end = f", {style}" if style else ""
    return Plot(text=_cut(text), query=_cut(query), prompt=_cut(prompt, MAX_TEXT - len(end)).rstrip(". ") + end)


def _cut(text: str, most: int = MAX_TEXT) -> str:
    """A text on one line, of so many characters at most."""
    text = " ".join(text.split())
    return text if len(text) <= most else text[: most - 4].rsplit(" ", 1)[0] + " ..."


def _as_it_stands(line: str, characters: Sequence[Character]) -> Plot:
    """A line as a plot. It may mark its characters itself, as ``{name}``; else their names in it are marked."""
    text, prompt = line, marked(line, characters)
    for character in characters:
        text = text.replace("{" + character.name + "}", character.class_word or character.name)
    if max(len(text), len(prompt)) > MAX_TEXT:
        raise StoryError(
            f"a line of the story is longer than {MAX_TEXT} characters", "with --llm none, write one plot a line"
        )
    return Plot(text=text, query=text, prompt=prompt)


def marked(prompt: str, characters: Sequence[Character]) -> str:
    """``prompt`` with the first name of each character, or the word for its kind, as ``{name}``."""
    called: dict[str, list[str]] = {}  # who answers to some words
    for character in characters:
        for words in {(character.class_word or character.name).lower(), character.name.lower()}:
            called.setdefault(words, []).append("{" + character.name + "}")
    if not called:
        return prompt
    present = set(re.findall(r"\{[^{}]*\}", prompt))

    def mark(found: re.Match) -> str:
        chosen = next((one for one in called[found[0].lower()] if one not in present), found[0])
        present.add(chosen)
        return chosen

    longest = sorted(called, key=len, reverse=True)  # a bear is no teddy bear
    return re.sub(rf"(?<![\w{{])({'|'.join(map(re.escape, longest))})(?![\w}}])", mark, prompt, flags=re.IGNORECASE)


def _offline(text: str, characters: Sequence[Character], style: str) -> list[Plot]:
    if not is_english(text):
        raise StoryError("the story is not in English, and only a language model reads other languages", NO_ENGLISH)
    from storycli.english import wording
    from storycli.english.events import events

    scene, plots = wording.Scene(), []
    for event in events(text):
        scene.enter(event)
        query, prompt = wording.query(event, scene, characters), wording.prompt(event, scene, characters)
        plots.append(_plot(event.text, query, prompt, style))
        scene.leave(event)
    if not plots:  # no verb anywhere ("Rain. Neon. Silence."): the pictures are all there is
        for line in text.splitlines():
            if line.strip():
                plots.append(_plot(line, line, marked(line, characters), style))
    return plots


# The commonest little words of English and of languages in the same letters
ENGLISH = (
    "the a an and of to in on at with for from by as was were is are be been had has have he she it they them his her "
    "their its him i you we my your our that this there then when while who which what not no but or so if up out into "
    "down over under after before one all said would could did do"
)
OTHERS = (
    "de la el los las un una y que en se con por su del al lo como le para era no fue",
    "le la les un une des et de du que qui il elle dans en se ne pas sur avec son sa ses au est était à",
    "der die das ein eine einen einem und zu den dem des ist war nicht mit sich auf er sie es im von ich als auch",
    "il lo la gli un una e di che in con per non si del della era nel sul suo sua le al ma",
    "o a os as um uma e de que do da em no na com se por não para era foi ao seu sua",
    "de het een en van in is op te dat die niet met zijn was hij zij ze er aan voor naar",
    "en ett och att i det som på är av för med den var han hon inte till de sig om",
    "et en og at i det som på er af for med den var han hun ikke til de sig om",
    "i w na z się nie do to że jest był była o po za jak ale jego jej od przez",
    "bir ve bu da de için ile çok o ne ama gibi daha kadar sonra vardı",
    "yang dan di itu dengan untuk dari ke pada adalah seorang ia dia tidak akan ini",
    "ja on ei se hän oli että kun mutta niin joka ne sen hänen kanssa",
    "a se na v je že s do o byl byla to jako po ale za si jeho od",
    "si un o de la in pe cu nu era este care ce din mai pentru lui ei s-a",
    "a az egy és hogy nem is volt de meg ez ha csak mint el ki",
)


def is_english(text: str) -> bool:
    """Whether a text is English, by its letters and its little words; a few words alone count as English if known."""
    sample = text[:20_000].lower()
    letters = [character for character in sample if character.isalpha()]
    if sum("LATIN" in unicodedata.name(letter, "") for letter in letters) < 0.9 * len(letters):
        return False
    sample = re.sub(r"(['\u2019](s|d|m|re|ve|ll)|n['\u2019]t)\b", "", sample)  # "he'd", "isn't"
    words = Counter(re.findall(r"[^\W\d_]+(?:['\u2019-][^\W\d_]+)*", sample))
    english = sum(words[word] for word in ENGLISH.split())
    others = max(sum(words[word] for word in language.split() if len(word) > 1) for language in OTHERS)
    if english > others and english >= 0.12 * words.total():
        return True
    return others <= english and _known_share(words) > 0.6


def _known_share(words: Counter[str]) -> float:
    from storycli.english.dictionary import is_word

    known = sum(count for word, count in words.items() if is_word(word))
    return known / max(words.total(), 1)
