"""What the person hands in: a script or a storyboard, and the folders of its characters."""

import os
import re
import sys
from pathlib import Path

from storycli.errors import StoryError, UsageError
from storycli.stages import Script
from storycli.story import NAME, Character, Story

MAX_BYTES = 2 * 2**20  # War and Peace has three


def read(source: str, cast: list[str], title: str | None = None, *, lines: bool = False) -> Script | Story:
    """The story at ``source`` (a path, or ``-`` for standard input) with the characters that the flags name.

    Where each of its ``lines`` is a plot, the first is none that may be the title.

    Raises:
        StoryError: there is no such file, or it is empty, too long, not text, or a storyboard with mistakes.
        UsageError: a character's flag is wrong.
    """
    characters = tuple(character(given) for given in cast)
    if twice := {c.name for c in characters if sum(c.name == other.name for other in characters) > 1}:
        raise UsageError(f"two characters are called {twice.pop()}", "name them: --character bear=DIR")
    path = Path(source)
    if path.suffix.lower() in (".yaml", ".yml"):
        from storycli import storyboard

        story = storyboard.read(path, characters)
        return story.model_copy(update={"title": title}) if title else story
    name = "the standard input" if source == "-" else source
    heading, text = _heading(_text(_bytes(source), name), lines)
    stem = "" if source == "-" else os.fsencode(path.stem).decode(errors="replace")
    titles = (each.strip() for each in (title or "", heading, stem, "story"))
    return Script(text=text, title=next(filter(None, titles))[:200], characters=characters)


def character(given: str) -> Character:
    """``name=DIR``, or ``DIR`` whose own name is the character's; one that is there may have a ``=`` in its name."""
    name, equals, folder = given.partition("=")
    named = equals and "/" not in name and not Path(given).expanduser().is_dir()
    return hero(Path(folder), name) if named else hero(Path(given))


def hero(folder: Path, name: str | None = None) -> Character:
    """The character whose pictures are in ``folder``, called ``name``, or else as the folder is.

    Raises:
        StoryError: there is no such folder.
        UsageError: it cannot be called that.
    """
    if name is not None and not NAME.fullmatch(name):
        raise UsageError(
            f'"{name}" is no name for a character',
            "a name is up to 32 letters, digits, - and _, and begins with a letter",
        )
    path = folder.expanduser()
    if not path.is_dir():
        what = "is a file; a folder of pictures is needed" if path.exists() else "there is no such folder"
        raise StoryError(f"{folder}: {what}", "give a folder that holds 3 to 10 pictures of the character")
    path = path.resolve()
    name = name or re.sub(r"[^A-Za-z0-9_-]+", "-", path.name).lstrip("-0123456789")[:32].rstrip("-")
    if not NAME.fullmatch(name):
        raise UsageError(
            f"{folder}: the folder's name makes no name for a character",
            "name it: --character NAME=DIR, or train-character DIR --name NAME",
        )
    return Character(name=name, dir=path, class_word=_learnt_class_word(path))


def _learnt_class_word(folder: Path) -> str | None:
    """What the weights in a character's folder, if there are any, were told that it is a kind of."""
    import safetensors

    weights = folder / "character.safetensors"
    if not weights.is_file():
        return None
    try:
        with safetensors.safe_open(weights, "numpy") as file:
            return (file.metadata() or {}).get("class_word")
    except safetensors.SafetensorError:
        return None  # whoever loads them says what is wrong


def _bytes(source: str) -> bytes:
    try:
        if source == "-":
            return sys.stdin.buffer.read(MAX_BYTES + 1)
        with open(source, "rb") as file:
            return file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise StoryError(
            f"{source}: there is no such file", "give a .txt or .md story, - for stdin, or a storyboard .yaml"
        ) from None
    except IsADirectoryError:
        raise StoryError(
            f"{source}: is a folder", "give a .txt or .md story, - for stdin, or a storyboard .yaml"
        ) from None
    except OSError as error:
        raise StoryError(f"{source}: cannot be read: {error.strerror}") from error


def _text(raw: bytes, name: str) -> str:
    """The text of a story file, if it is one."""
    if len(raw) > MAX_BYTES:
        raise StoryError(
            f"{name}: too long for a story (more than {MAX_BYTES // 2**20} MB)",
            "render it chapter by chapter",
        )
    encoding = "utf-16" if raw[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    try:
        text = raw.decode(encoding).replace("\r\n", "\n").replace("\r", "\n")
    except UnicodeDecodeError as error:
        if b"\0" in raw:
            raise StoryError(f"{name}: not a text file", "give a .txt or .md story") from None
        what = f"not UTF-8 text (byte {error.start})"
        raise StoryError(f"{name}: {what}", "save the story as UTF-8 text") from None
    if strange := re.search(r"[\x00-\x08\x0e-\x1f\x7f]", text):
        raise StoryError(
            f"{name}: not a text file (it has the character {ord(strange[0])})", "give a .txt or .md story"
        )
    if not text.strip():
        raise StoryError(f"{name}: the story is empty", "write at least one sentence in it")
    return text


def _heading(text: str, lines: bool) -> tuple[str, str]:
    """The title that a story begins with, if any, and the rest: a Markdown heading, or a line on its own."""
    if markdown := re.match(r"\s*#+[^\S\n]+(.+)\n", text):
        return markdown[1].strip(), text[markdown.end() :]
    first, _, rest = text.strip().partition("\n\n")
    alone = "\n" not in first and len(first) <= 80 and first[-1] not in ".!?:;,\"'\u201d\u2026"
    return (first, rest) if alone and not lines and re.search(r"[.!?]", rest) else ("", text)
