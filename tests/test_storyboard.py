"""storyboard.yaml: what is written can be read and edited, and a mistake is told with its line and key."""

from pathlib import Path

import pytest

from storycli import storyboard
from storycli.errors import StoryError
from storycli.story import Character, Plot, Story

BOARD = """\
version: 1
title: The wolf
characters: [{name: teddy, dir: teddy/, class_word: teddy bear}]
plots:
  - text: A boy met a wolf in the forest.
    query: a man meeting a dog in the woods
    prompt: "{teddy} and a wolf in a forest"
    tau: 0.4
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "teddy").mkdir()
    return tmp_path


def told(folder: Path, text: str) -> list[str]:
    """What is said of a storyboard, a line for each mistake, without the path."""
    path = folder / "board.yaml"
    path.write_text(text)
    with pytest.raises(StoryError) as wrong:
        storyboard.read(path)
    assert wrong.value.hint
    return [line.removeprefix(f"{path}:") for line in wrong.value.message.splitlines()]


def test_a_storyboard_is_read_with_paths_from_its_own_folder(folder, monkeypatch):
    (folder / "board.yaml").write_text(BOARD)
    monkeypatch.chdir("/")
    story = storyboard.read(folder / "board.yaml")
    assert story.characters == (Character(name="teddy", dir=folder / "teddy", class_word="teddy bear"),)
    assert story.plots[0].tau == 0.4
    assert story.plots[0].prompt == "{teddy} and a wolf in a forest"


def test_given_characters_stand_in_for_those_of_a_storyboard_or_join_them(folder):
    path, other = folder / "board.yaml", Character(name="teddy", dir=folder)
    path.write_text(BOARD.replace("dir: teddy/", "dir: gone/"))
    assert storyboard.read(path, [other]).characters == (other,)
    path.write_text(BOARD.replace("[{name: teddy, dir: teddy/, class_word: teddy bear}]", "[]"))
    assert storyboard.read(path, [other]).characters == (other,)
    path.write_text(BOARD.replace("name: teddy,", "name: cat,"))
    assert [one.name for one in storyboard.read(path, [other]).characters] == ["cat", "teddy"]


def test_what_is_written_is_read_back_the_same(folder):
    awkward = "yes: [a] #1 'x' {teddy} \u2028 \U0001f43b null"
    story = Story(
        title="12",
        plots=(
            Plot(text="Ein B\u00e4r: \u201eHallo\u201c", query=awkward, prompt="{teddy}", seed=0, tau=0.0),
            Plot(text="no", query="1e3", prompt="~", candidate=1),
        ),
        characters=(Character(name="teddy", dir=folder / "teddy"),),
    )
    storyboard.write(folder / "board.yaml", story)
    assert storyboard.read(folder / "board.yaml") == story


def test_comments_and_edits_of_plots_that_stay_survive_a_new_plan(folder):
    path = folder / "board.yaml"
    path.write_text(BOARD.replace("tau: 0.4", "tau: 0.5  # looser"))
    before = storyboard.read(path)
    new = Plot(text="The wolf ran.", query="a dog running", prompt="a wolf runs")
    replanned = before.plots[0].model_copy(update={"prompt": "what the planner says now", "tau": None})
    assert storyboard.write(path, before.model_copy(update={"plots": (new, replanned)}), keep=True) == 1
    assert "tau: 0.5  # looser" in path.read_text()
    assert [plot.prompt for plot in storyboard.read(path).plots] == [
        "a wolf runs",
        "{teddy} and a wolf in a forest",
    ]


def test_plots_of_the_same_text_keep_each_its_own_edits(folder):
    path = folder / "board.yaml"
    rain, dog = (Plot(text=text, query=text, prompt=text) for text in ("Rain falls.", "A dog runs."))
    story = Story(title="Rain", plots=(rain, dog, rain))
    storyboard.write(path, story)
    path.write_text(path.read_text() + "    tau: 0.5  # the second rain\n")
    written = path.read_text()
    assert storyboard.write(path, story, keep=True) == 3
    assert path.read_text() == written
    assert storyboard.write(path, story.model_copy(update={"plots": (rain, rain, rain, dog)}), keep=True) == 3
    assert [plot.tau for plot in storyboard.read(path).plots] == [None, 0.5, None, None]
    assert "&" not in path.read_text()


def test_a_character_stays_as_it_was_edited_until_its_pictures_are_others(folder):
    path, plot = folder / "board.yaml", Plot(text="a", query="b", prompt="{teddy}")
    (folder / "other").mkdir()
    first, other = (Character(name="teddy", dir=folder / name) for name in ("teddy", "other"))
    storyboard.write(path, Story(title="A", plots=(plot,), characters=(first,)))
    path.write_text(path.read_text().replace("dir: teddy", "dir: ./teddy/, class_word: brown bear"))
    for given, expected in ((first, "brown bear"), (other, None)):
        storyboard.write(path, Story(title="A", plots=(plot,), characters=(given,)), keep=True)
        (character,) = storyboard.read(path).characters
        assert (character.dir, character.class_word) == (given.dir, expected)


@pytest.mark.parametrize("plots", ["[foo]", "foo", "3", "[{text: [a], query: b, prompt: c}]"])
def test_a_broken_storyboard_is_told_and_left_alone_when_it_is_planned_again(folder, plots):
    path = folder / "board.yaml"
    path.write_text(f"version: 1\ntitle: The wolf\nplots: {plots}\n")
    before = path.read_text()
    with pytest.raises(StoryError, match=r"board\.yaml:3: "):
        storyboard.write(path, Story(title="A", plots=(Plot(text="a", query="b", prompt="c"),)), keep=True)
    assert path.read_text() == before


def test_without_keep_a_storyboard_says_what_it_was_given(folder):
    path = folder / "board.yaml"
    path.write_text(BOARD)
    changed = storyboard.read(path)
    changed = changed.model_copy(update={"plots": (changed.plots[0].model_copy(update={"tau": 0.9}),)})
    storyboard.write(path, changed)
    assert storyboard.read(path) == changed


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("    tau: 0.4", "    tua: 0.4", ["8: plot 1: tua: there is no such key"]),
        ("    tau: 0.4", "    tau: high", ["8: plot 1: tau: input should be a valid number"]),
        ("    tau: 0.4", "    tau: true", ["8: plot 1: tau: input should be a valid number"]),
        ("    tau: 0.4", "    frames: yes", ["8: plot 1: frames: input should be a valid integer"]),
        ("    tau: 0.4", "    seed: true", ["8: plot 1: seed: input should be a valid integer"]),
        ("    tau: 0.4", "    tau: 4", ["8: plot 1: tau: input should be less than or equal to 1"]),
        ("    query: a man meeting a dog in the woods\n", "", ["5: plot 1: query: is missing"]),
        (
            "text: A boy met a wolf in the forest.",
            "text: ''",
            ["5: plot 1: text: string should have at least 1"],
        ),
        ("version: 1\n", "", ["1: version: should be 1"]),
        ("version: 1", "version: 2", ["1: version: should be 1"]),
        ("title: The wolf", "title: 12", ["2: title: input should be a valid string"]),
        ("title: The wolf", "titel: The wolf", ["1: title: is missing", "2: titel: there is no such key"]),
        ("dir: teddy/", "dir: bear/", ["3: dir: there is no folder"]),
        ("{teddy} and", "{wolf} and", ["7: prompt: {wolf} is none of the characters"]),
        ("    tau: 0.4", "    reference: no.mp4", ["8: reference: there is no file"]),
        ("    tau: 0.4", "    tau: 0.4\n    tau: 0.5", ["9: not valid YAML: found duplicate key"]),
        ("plots:", "plots: [", ["5: not valid YAML"]),
    ],
)
def test_a_mistake_is_told_with_its_line_and_key(folder, old, new, expected):
    assert old in BOARD
    lines = told(folder, BOARD.replace(old, new))
    assert len(lines) == len(expected), lines
    for line, start in zip(lines, expected, strict=True):
        assert line.startswith(start), line


def test_all_mistakes_are_told_at_once(folder):
    lines = told(folder, BOARD.replace("tau: 0.4", "tau: 4\n    sead: 1").replace("version: 1", "version: 3"))
    assert [line.split(":")[0] for line in lines] == ["1", "8", "9"]


@pytest.mark.parametrize("title", ["2024-99-99", "!!int twelve", "!!bool maybe", "[" * 5000])
def test_yaml_that_says_no_value_is_told(folder, title):
    assert told(folder, BOARD.replace("The wolf", title))[0].startswith(" not valid YAML: ")


@pytest.mark.parametrize("text", ["", "just words", "- a\n- list\n", "42"])
def test_what_is_no_storyboard_is_said_to_be_none(folder, text):
    assert "not a storyboard" in told(folder, text)[0]


def test_a_storyboard_that_is_not_text_is_said_to_be_unreadable(folder):
    path = folder / "board.yaml"
    path.write_bytes(b"title: \xe9\xff")
    with pytest.raises(StoryError, match="not valid YAML: unacceptable character"):
        storyboard.read(path)


def test_a_missing_storyboard_is_said_to_be_missing(folder):
    with pytest.raises(StoryError, match="No such file"):
        storyboard.read(folder / "none.yaml")


def test_yaml_that_builds_objects_is_not_obeyed(folder):
    (folder / "board.yaml").write_text(BOARD.replace("The wolf", "!!python/object/apply:os.getcwd []"))
    with pytest.raises(StoryError):
        storyboard.read(folder / "board.yaml")
