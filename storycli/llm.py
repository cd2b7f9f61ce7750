"""A story to plots with a language model, on any server that speaks OpenAI's protocol.

The model answers in the shape of ``Answer``; the answer is checked against the story, sentence by sentence, and sent
back once if it does not fit. Neither the key nor a word of the story goes into logs or errors.
"""

import logging
import re
from collections.abc import Callable, Iterator, Sequence
from importlib import resources
from string import Template
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from storycli.errors import StoryError
from storycli.llm_server import OTHER_MODEL, Server, TooLong
from storycli.story import Character

log = logging.getLogger(__name__)

PART = 4000  # characters of the story in one request: some 1000 tokens, and 2000 of answer
MANY = 8  # sentences that one event may take: talk and description go with it
SENTENCE = re.compile(
    r".+?(?:[.!?\u2026]+(?<!\b[DMS][rst]\.)(?<!\bMrs\.)[\"'\u201d\u2019\u00bb)]*(?=\s|$)"
    r"|[\u3002\uff01\uff1f]+[\u300d\u300f\u201d]*|\n|$)",
    re.DOTALL,
)


class Asked(BaseModel):
    """A piece of the answer: nothing else is asked for, and what else comes is let be."""

    model_config = ConfigDict(json_schema_extra={"additionalProperties": False})


class Person(Asked):
    """Somebody who is seen, and what they look like in every prompt."""

    name: str
    looks: str


class Scene(Asked):
    """One plot of the answer. ``sentences`` are the numbers of the story's sentences that it tells."""

    sentences: list[int]
    text: str
    action: str
    query: str
    prompt: str


class Answer(Asked):
    """What the model is asked for."""

    people: list[Person]
    places: list[str]
    plots: list[Scene]


class Unusable(Exception):
    """An answer that does not fit the story; ``problems`` name plots and numbers, never words of the story."""

    def __init__(self, problems: Sequence[str]):
        super().__init__("; ".join(problems))
        self.problems = tuple(problems)


def split(
    text: str,
    *,
    characters: Sequence[Character] = (),
    model: str | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> list[Scene]:
    """The plots of a story in any language, in the order of its events.

    The server is that of ``OPENAI_BASE_URL``, or OpenAI's own; the model ``model``, or ``STORYCLI_LLM_MODEL``, or the
    server's first. ``progress(done, total)`` counts the parts that a long story is sent in.

    Raises:
        StoryError: the server cannot be reached, refuses, stalls or fails, or its answer is unusable twice.
    """
    server = Server(model, schema=Answer.model_json_schema())
    todo, scenes, context = parts(text, PART), [], ""
    done = 0
    while todo:
        if progress:
            progress(done, done + len(todo))
        part = todo.pop(0)
        try:
            answer = _ask(server, part, characters, context)
        except TooLong:
            if len(part) == 1:
                raise StoryError("a sentence of the story is too long for the language model", OTHER_MODEL) from None
            todo[:0] = [part[: len(part) // 2], part[len(part) // 2 :]]
            continue
        scenes += answer.plots
        context = _context(answer)
        done += 1
    if progress:
        progress(done, done)
    return scenes


def sentences_of(text: str) -> list[str]:
    """The sentences of a text in any script; a paragraph without stops is one sentence."""
    return [sentence.strip() for sentence in SENTENCE.findall(text) if sentence.strip()]


def parts(text: str, limit: int) -> list[list[str]]:
    """The sentences of a story in runs of up to ``limit`` characters; paragraphs stay whole where they can."""
    runs: list[list[str]] = [[]]
    length = 0
    for paragraph in re.split(r"\n\s*\n", text):
        whole = len(paragraph) <= limit
        for number, sentence in enumerate(sentences_of(paragraph)):
            needed = len(paragraph) if whole and number == 0 else 0 if whole else len(sentence)
            if runs[-1] and length + needed > limit:
                runs.append([])
                length = 0
            runs[-1].append(sentence)
            length += len(sentence)
    return runs


def _ask(server: "Server", part: Sequence[str], characters: Sequence[Character], context: str) -> Answer:
    """One part's answer, checked, and asked for once more if it does not fit."""
    messages = [
        {"role": "system", "content": _text("system.txt", characters=_introduce(characters))},
        {"role": "user", "content": _text("example_story.txt")},
        {"role": "assistant", "content": _text("example_answer.json")},
        {"role": "user", "content": (_text("next_part.txt", context=context) if context else "") + _numbered(part)},
    ]
    reply = server.complete(messages)
    try:
        return check(reply, part, characters)
    except Unusable as unusable:
        log.info("the answer is asked for again: %s", unusable)
        problems = "\n".join(f"- {problem}" for problem in unusable.problems[:12])
    messages += [
        {"role": "assistant", "content": reply},
        {"role": "user", "content": _text("repair.txt", problems=problems)},
    ]
    try:
        return check(server.complete(messages), part, characters)
    except Unusable as unusable:
        more = f" ({len(unusable.problems) - 1} more)" if len(unusable.problems) > 1 else ""
        raise StoryError(
            f"the answer of the language model {server.model} cannot be used: {unusable.problems[0]}{more}",
            OTHER_MODEL,
        ) from None


def check(reply: str, part: Sequence[str], characters: Sequence[Character]) -> Answer:
    """The reply as an answer about ``part``, every sentence of which is told by plots that say nothing else.

    Raises:
        Unusable: it is no JSON of that shape, or does not fit the story.
    """
    plain = re.sub(r"<think>.*?</think>", "", reply, flags=re.DOTALL)
    found = re.search(r"\{.*\}", plain, re.DOTALL)
    try:
        answer = Answer.model_validate_json(found[0] if found else "")
    except ValidationError as error:
        wrong = error.errors(include_url=False, include_input=False)
        raise Unusable([_say(e["loc"], e["type"]) for e in wrong]) from None
    problems = [
        *_uncounted(answer, part),
        *(p for n, s in enumerate(answer.plots, 1) for p in _wrong(n, s, part, characters)),
    ]
    if problems:
        raise Unusable(problems)
    return answer


def _uncounted(answer: Answer, part: Sequence[str]) -> Iterator[str]:
    told = {number for scene in answer.plots for number in scene.sentences}
    if missing := [str(n) for n in range(1, len(part) + 1) if n not in told]:
        yield f"no plot tells sentence {', '.join(missing[:10])}"
    if strange := sorted(n for n in told if not 1 <= n <= len(part)):
        yield f"there is no sentence {strange[0]}, the last one is {len(part)}"
    firsts = [min(scene.sentences, default=0) for scene in answer.plots]
    if firsts != sorted(firsts):
        yield "the plots are not in the order of the story"
    seen: dict[str, int] = {}
    for number, scene in enumerate(answer.plots, 1):
        first = seen.setdefault(f"{sorted(scene.sentences)} {' '.join(scene.text.casefold().split())}", number)
        if first != number:
            yield f"plot {number} tells the same as plot {first}"


def _wrong(number: int, scene: Scene, part: Sequence[str], characters: Sequence[Character]) -> Iterator[str]:
    """What is wrong with plot ``number``."""
    names = {character.name for character in characters}
    if not 1 <= len(scene.sentences) <= MANY:
        yield f"plot {number} names {len(scene.sentences)} sentences: one plot is one event"
    for field in ("text", "query", "prompt"):
        if not 1 <= len(getattr(scene, field).strip()) <= 600:
            yield f'plot {number}: "{field}" should have between 1 and 600 characters'
    if re.search(r"\band\b|[,;&]", scene.action) or len(scene.action.split()) > 3:
        yield f'plot {number}: "action" should be a single verb: one plot is one event'
    if set(re.findall(r"\{([^{}]*)\}", scene.prompt)) - names:
        known = ", ".join(sorted(names)) or "none"
        yield f"plot {number}: its prompt marks a character that there is not; known are {known}"
    elif re.search(r"[{}]", re.sub(r"\{[^{}]*\}", "", scene.prompt) + scene.query):
        yield f'plot {number}: braces belong around the name of a character in "prompt" only'
    for field in ("query", "prompt"):
        if not _is_ascii(getattr(scene, field)):
            yield f'plot {number}: "{field}" should be in English'
    told = " ".join(part[n - 1] for n in scene.sentences if 1 <= n <= len(part))
    if told and _kinship(scene.text, f"{told} {' '.join(names)}") < 0.4:
        yield f"plot {number}: its text does not tell the sentences that it names"


def _is_ascii(text: str) -> bool:
    letters = [letter for letter in text if letter.isalpha()]
    return sum(letter.isascii() for letter in letters) >= 0.9 * len(letters)


def _kinship(text: str, source: str) -> float:
    """Share of the text's runs of three letters that the source has too: 1 for words taken from it."""
    runs, known = (
        {plain[i : i + 3] for i in range(max(1, len(plain) - 2))}
        for plain in (" ".join(re.findall(r"\w+", words.casefold())) for words in (text, source))
    )
    return len(runs & known) / len(runs)


def _say(where: tuple[Any, ...], kind: str) -> str:
    """A mistake of form, without what was written there."""
    path = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in where).lstrip(".")
    said = {"missing": "is missing", "extra_forbidden": "does not belong there", "json_invalid": "it is not valid JSON"}
    return f"{path}: {said.get(kind, 'is of the wrong type')}" if path else said.get(kind, "it is not a JSON object")


def _text(name: str, **values: str) -> str:
    """A text of ``prompts/`` with its ``$names`` filled in."""
    return Template((resources.files("prompts") / name).read_text(encoding="utf-8")).substitute(values)


def _introduce(characters: Sequence[Character]) -> str:
    if not characters:
        return "There are no marked characters: use no braces."
    lines = [f"- {{{c.name}}}{' is a ' + c.class_word if c.class_word else ''}" for c in characters]
    return "\n".join(
        [
            "The film has these heroes. In a prompt write their mark, with an article, instead of their looks: a {"
            + characters[0].name
            + "}. Mark nobody else. Never use a mark outside a prompt.",
            *lines,
        ]
    )


def _numbered(part: Sequence[str]) -> str:
    plain = [re.sub(r"</?\s*story\s*>", "", sentence, flags=re.IGNORECASE) for sentence in part]
    return "\n".join(["<story>", *(f"{number}| {sentence}" for number, sentence in enumerate(plain, 1)), "</story>"])


def _context(answer: Answer) -> str:
    people = [f"- {person.name}: {person.looks}" for person in answer.people[:20]]
    return "\n".join([*people, *(f"- {place}" for place in answer.places[-10:]), f"- last: {answer.plots[-1].prompt}"])
