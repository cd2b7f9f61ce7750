"""storyboard.yaml: what ``plan`` writes, people edit, and ``render`` reads."""

import os
from collections import defaultdict, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from storycli.errors import StoryError, UsageError
from storycli.media.ffmpeg import replacing
from storycli.story import NAMED, Character, Plot, Story

VERSION = 1
PATHS = {"dir", "reference"}
MAX_BYTES = 4 * 2**20
HEADER = """\
The storyboard of a film: edit it, then: storycli render {name}
Each plot: text (one event), query (English; finds the motion), prompt (English; the picture).
In a prompt {{name}} marks a character.
A plot may also have: reference: clip.mp4, candidate: 2, seed,
tau (0..1, or auto), guidance, frames, negative.
"""


def read(path: Path, cast: Sequence[Character] = ()) -> Story:
    """The story that a storyboard tells; its paths are relative to the file and come back absolute.

    Characters of ``cast`` stand in for those of the same name, or are added.

    Raises:
        StoryError: one message with a line for each mistake, naming its line and key.
    """
    board, story = _load(path)
    story = absolute(story, path.parent)
    given = {character.name: character for character in cast}
    own = [given.pop(character.name, character) for character in story.characters]
    story = story.model_copy(update={"characters": (*own, *given.values())})
    _refuse(path, _misfits(board, story))
    return story


def check_target(path: Path) -> None:
    """Raises UsageError for what is not the name of a storyboard, StoryError for a file of that name that is none."""
    if path.suffix.lower() not in (".yaml", ".yml") or path.is_dir():
        raise UsageError(f"{path}: a storyboard is a .yaml file", "name it so: -o story.yaml")
    if path.exists():
        _load(path)


def absolute(story: Story, folder: Path) -> Story:
    """``story`` with its paths taken from ``folder``, without any ``..`` in them."""

    def at(path: Path) -> Path:
        return Path(os.path.abspath(folder / path))

    cast = tuple(c.model_copy(update={"dir": at(c.dir)}) for c in story.characters)
    plots = tuple(p.model_copy(update={"reference": at(p.reference)}) if p.reference else p for p in story.plots)
    return story.model_copy(update={"characters": cast, "plots": plots})


def write(path: Path, story: Story, *, keep: bool = False, before: Story | None = None) -> int:
    """Write ``story``. With ``keep``, plots of the same text in the file stay as they were edited.

    So do characters of the same name and folder. Of those that were told in a story ``before``, only what was edited
    since stays, as does an edited title; the rest is told anew. Returns how many plots were kept. Raises StoryError
    when the file has mistakes.
    """
    again = keep and path.exists()
    board = _load(path)[0] if again else _new(path)
    kept = 0
    for name, keys in (("characters", ("name", "dir")), ("plots", ("text",))):

        def known_by(item: Mapping[str, Any], keys: tuple[str, ...] = keys) -> tuple[str, ...]:
            values = ((key, item[key].strip()) for key in keys)
            return tuple(os.path.abspath(path.parent / value) if key in PATHS else value for key, value in values)

        there = board.get(name) or ()
        same, told = defaultdict(deque), defaultdict(deque)  # the items that are known by the same, in their order
        for item in there:
            same[known_by(item)].append(item)
        for item in getattr(before, name, ()):
            written = _written(item, path)
            told[known_by(written)].append(written)
        now = []
        for item in (_written(item, path) for item in getattr(story, name)):
            old, once = (items[known_by(item)].popleft() if items[known_by(item)] else None for items in (same, told))
            now.append(_merged(old, item, once) if old else item)
        kept = len(there) - sum(map(len, same.values()))
        if [*map(id, now)] != [*map(id, there)]:
            board[name] = CommentedSeq(now)
    if not (again and before) or board["title"] == before.title:
        board["title"] = story.title
    with replacing(path) as temporary:
        YAML_FILE.dump(board, temporary)
    return kept


def _merged(old: CommentedMap, item: CommentedMap, once: CommentedMap | None) -> CommentedMap:
    """``old`` as it was edited, and what is still as it was told ``once`` as ``item`` tells it now."""
    for key in {*item, *once} if once else ():
        if old.get(key) == once.get(key) != item.get(key):
            if key in item:
                old[key] = item[key]
            else:
                del old[key]
    return old


def choose(path: Path, candidates: Mapping[int, int]) -> Story:
    """Note in the file which candidate each plot takes, by their numbers from 1, and return the story it tells.

    Raises:
        StoryError: there is no such plot, or the file has mistakes.
    """
    board, story = _load(path)
    for number, candidate in candidates.items():
        if number > (count := len(story.plots)):
            raise StoryError(f"there is no plot {number}: the story has {count}", "the contact sheet numbers them")
        board["plots"][number - 1]["candidate"] = candidate
    with replacing(path) as temporary:
        YAML_FILE.dump(board, temporary)
    return read(path)


def _yaml() -> YAML:
    yaml = YAML()
    yaml.width = 110
    yaml.indent(mapping=2, sequence=4, offset=2)
    yaml.preserve_quotes = True
    return yaml


YAML_FILE = _yaml()


def _load(path: Path) -> tuple[CommentedMap, Story]:
    """A storyboard as it is written, and the story that it tells, with paths as they stand there.

    Raises:
        StoryError: it cannot be read, or has mistakes. Whether its files and characters are there is not asked.
    """
    try:
        if path.stat().st_size > MAX_BYTES:
            raise StoryError(f"{path}: too long for a storyboard ({path.stat().st_size / 2**20:.0f} MB)")
        board = YAML_FILE.load(path)
    except (OSError, UnicodeDecodeError) as error:
        raise StoryError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from error
    except MarkedYAMLError as error:
        at = f":{error.problem_mark.line + 1}" if error.problem_mark else ""
        raise StoryError(
            f"{path}{at}: not valid YAML: {error.problem}", "mend this line, or the one before it"
        ) from error
    except YAMLError as error:
        raise StoryError(f"{path}: not valid YAML: {str(error).splitlines()[0]}") from error
    except (ValueError, KeyError, RecursionError) as error:  # of a date that there is not, for one
        raise StoryError(f"{path}: not valid YAML: {error}", "put text that looks like a date into quotes") from error
    if not isinstance(board, CommentedMap):
        raise StoryError(f"{path}: not a storyboard", "storycli plan STORY writes one")
    wrong = set()
    if board.get("version") != VERSION:
        wrong.add((_line(board, ("version",)), "version", f"should be {VERSION}"))
    try:
        story = Story.model_validate({key: value for key, value in board.items() if key != "version"})
    except ValidationError as error:
        wrong.update(_mistakes(board, error))
    _refuse(path, wrong)
    return board, story


def _refuse(path: Path, wrong: Iterable[tuple[int, str, str]]) -> None:
    """Raises StoryError that tells of each mistake, if there is any: its line, its key, what is wrong."""
    if wrong := sorted(set(wrong)):
        told = "\n".join(f"{path}:{line}: {key}: {what}" for line, key, what in wrong)
        raise StoryError(told, f"mend {'these lines' if len(wrong) > 1 else 'this line'} of the storyboard")


def _new(path: Path) -> CommentedMap:
    board = CommentedMap(version=VERSION, title="", characters=CommentedSeq(), plots=CommentedSeq())
    board.yaml_set_start_comment(HEADER.format(name=path.name))
    return board


def _written(item: Character | Plot, path: Path) -> CommentedMap:
    """One character or plot as YAML: what is set, paths relative to the file."""
    values = CommentedMap(item.model_dump(mode="json", exclude_none=True))
    for key in PATHS & values.keys():
        values[key] = Path(os.path.relpath(values[key], path.parent)).as_posix()
    if isinstance(item, Character):
        values.fa.set_flow_style()
    return values


def _mistakes(board: CommentedMap, error: ValidationError) -> Iterator[tuple[int, str, str]]:
    """(line, key, what is wrong) for each value that a storyboard cannot have."""
    errors = error.errors(include_url=False)
    for e in errors:
        if any(e["loc"] == other["loc"][:-2] for other in errors):
            continue  # "too few plots", where the plots that are there are wrong
        yield _line(board, e["loc"]), _key(e["loc"]), _say(e)


def _misfits(board: CommentedMap, story: Story) -> Iterator[tuple[int, str, str]]:
    """(line, key, what is wrong) for each name that is not one character's, and each file that is not there."""
    names = [character.name for character in story.characters]
    for n, character in enumerate(story.characters):
        if character.name in names[:n]:
            yield (
                _line(board, ("characters", n, "name")),
                "name",
                f"there are two characters called {character.name}",
            )
        if not character.dir.is_dir():
            yield (
                _line(board, ("characters", n, "dir")),
                "dir",
                f"there is no folder {character.dir}",
            )
    for n, plot in enumerate(story.plots):
        for name in sorted(set(NAMED.findall(plot.prompt)) - set(names)):
            yield _line(board, ("plots", n, "prompt")), "prompt", f"{{{name}}} is none of the characters"
        if plot.reference and not plot.reference.is_file():
            yield (
                _line(board, ("plots", n, "reference")),
                "reference",
                f"there is no file {plot.reference}",
            )


def _line(board: Any, place: tuple[int | str, ...]) -> int:
    """The line of a place in the file; of the nearest thing around it when it is not there."""
    line = 0
    for step in place:
        if not isinstance(board, CommentedMap | CommentedSeq) or step not in (board.lc.data or {}):
            break
        line, board = board.lc.data[step][0], board[step]
    return line + 1


def _key(place: tuple[int | str, ...]) -> str:
    named = [f"plot {step + 1}" if isinstance(step, int) and "plots" in place else str(step) for step in place]
    return ": ".join(name for name in named if name not in ("plots", "characters")) or str(place[0])


def _say(error: Mapping[str, Any]) -> str:
    if error["type"] == "extra_forbidden":
        return "there is no such key"
    if error["type"] == "missing":
        return "is missing"
    return error["msg"][0].lower() + error["msg"][1:]
