"""The command line as people and programs meet it: what goes where, exit codes, what is said of bad input."""

import json
import os
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
import typer

from storycli import catalogue, pipeline, provenance, stages
from storycli import script as script_of
from storycli.cli import app
from storycli.cli.options import SETTINGS
from storycli.config import EXAMPLES, Settings
from storycli.errors import StoryError
from storycli.library.indexing import Report
from storycli.library.sources import Failure
from storycli.media import video
from storycli.story import Character

FILMS = ("render", "plan", "again", "demo")
TOOLS = ("train-autoencoder", "train-decoder", "train-depth", "train-retrieval")
TRAINING = ("train-character", "train-base", "train-structure", *TOOLS)
EVALUATIONS = ("evaluate", "evaluate-characters", "evaluate-retrieval", "evaluate-training")
COMMANDS = (*FILMS, "index", "search", *TRAINING, *EVALUATIONS, "doctor", "models")
HEAVY = ["torch", "pydantic", "cv2", "lancedb", "transformers", "numpy", "av", "spacy"]


def test_help_needs_nothing_heavy():
    code = (
        "import sys\nfrom storycli.cli import app\ntry:\n    app(['--help'])\nexcept SystemExit as end:\n"
        f"    print(end.code, [name for name in {HEAVY} if name in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stderr.strip() == "0 []"
    assert "Turn a written story" in done.stdout


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(run, command):
    done = run(command, "--help")
    assert (done.code, done.err) == (0, "")
    assert f"storycli {command}" in done.out.replace("root", "storycli")


def test_the_commands_are_those_of_the_contract():
    group = typer.main.get_command(app)
    assert sorted(group.commands) == sorted(COMMANDS)
    assert sorted(group.commands["models"].commands) == ["import", "list", "path", "pull", "rm"]


def test_there_is_a_flag_for_every_setting():
    assert SETTINGS.keys() == Settings.model_fields.keys()


def test_the_result_is_on_stdout_and_everything_else_on_stderr(run, studio, script, teddy):
    done = run("render", script, "--llm", "none", "-c", teddy, "-o", "out/film.mp4")
    assert done.code == 0
    assert done.out == "out/film.mp4\n"
    assert [line.split(":")[0] for line in done.err.splitlines()] == [
        "model",
        "plot 1 of 3",
        "plot 2 of 3",
        "plot 3 of 3",
    ]


def test_quiet_says_nothing_but_the_result(run, studio, script, teddy):
    done = run("render", script, "--llm", "none", "-c", teddy, "-q")
    assert (done.code, done.out, done.err) == (0, "film.mp4\n", "")


def test_a_program_can_read_where_the_film_is(run, studio, script, teddy):
    done = run("render", script, "--llm", "none", "-c", teddy, "--json")
    assert json.loads(done.out) == {"film": "film.mp4", "folder": "film.storycli", "plots": 3}


def test_the_film_can_also_be_drawn_as_one_picture(run, studio, script, teddy, tmp_path):
    assert run("render", script, "--llm", "none", "-c", teddy, "--sheet", "sheet.png").code == 0
    assert (tmp_path / "sheet.png").read_bytes().startswith(b"\x89PNG")


def test_a_dry_run_tells_the_cost_and_does_nothing(run, studio, script, teddy, tmp_path):
    before = sorted(tmp_path.iterdir())
    done = run("render", script, "--llm", "none", "-c", teddy, "--dry-run", "--json")
    told = json.loads(done.out)
    assert (told["plots"], told["to_train"], told["model"]) == (3, ["teddy"], "storybook")
    assert min(told["seconds"], told["memory_gb"], told["disk_mb"]) > 0
    assert studio.work() == []
    assert sorted(tmp_path.iterdir()) == before
    people = run("render", script, "--llm", "none", "-c", teddy, "--dry-run").out
    assert "plots:    3" in people
    assert "to train: teddy" in people


def test_a_plan_is_a_storyboard_that_can_be_rendered(run, studio, script, teddy, tmp_path):
    done = run("plan", script, "--llm", "none", "-c", f"bear={teddy}")
    assert (done.code, done.out) == (0, f"{tmp_path / 'story.yaml'}\n")
    board = tmp_path / "story.yaml"
    board.write_text(board.read_text().replace("{teddy} swam", "{bear} swam"))
    assert run("render", board).code == 0
    assert "render {bear} swam at the beach." in studio.work()


def test_an_edit_of_one_s_own_storyboard_renders_that_plot(run, studio, script, tmp_path):
    script.write_text("A boy walked in the forest.\nHe swam at the beach.\n")
    assert run("plan", script, "--llm", "none", "-o", "board.yaml").code == 0
    assert run("render", "board.yaml").code == 0
    studio.work()
    board = tmp_path / "board.yaml"
    board.write_text(board.read_text().replace("prompt: He swam", "prompt: A cat swam"))
    assert run("render", "board.yaml").code == 0
    assert studio.work() == ["render A cat swam at the beach."]


def test_a_story_may_come_from_standard_input(run, studio, tmp_path):
    done = run("plan", "-", "--llm", "none", "-o", "board.yaml", stdin="Élan walked.\n".encode())
    assert done.code == 0, done.err
    assert "Élan walked." in (tmp_path / "board.yaml").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("heading", "llm"), [("# The wolf\n\n", "none"), ("\ufeff## The wolf\n", "none"), ("The wolf\n\n", "offline")]
)
def test_a_story_s_heading_is_the_film_s_title_and_no_plot(run, studio, tmp_path, heading, llm):
    (tmp_path / "story.md").write_text(f"{heading}A wolf ran in the forest.\nIt slept.\n", encoding="utf-8")
    told = json.loads(run("plan", "story.md", "--llm", llm, "--json").out)
    assert told["title"] == "The wolf"
    assert [plot["text"] for plot in told["plots"]] == ["A wolf ran in the forest.", "It slept."]


def test_plots_without_full_stops_are_no_title(run, studio, tmp_path):
    (tmp_path / "story.txt").write_text("A wolf runs\n\nA wolf sleeps\n")
    told = json.loads(run("plan", "story.txt", "--llm", "none", "--json").out)
    assert (told["title"], len(told["plots"])) == ("story", 2)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("empty.txt", b"", "the story is empty"),
        ("blank.txt", b" \n\t\n", "the story is empty"),
        ("binary.txt", bytes(range(256)), "not a text file"),
        ("nul.txt", b"A boy\0walked.", "not a text file"),
        ("long.txt", b"A boy walked. " * 800_000, "too long for a story"),
    ],
)
def test_what_is_no_story_is_told_in_one_error(run, studio, tmp_path, name, content, said):
    (tmp_path / name).write_bytes(content)
    done = run("render", name, "--llm", "none")
    error, hint = done.err.splitlines()
    assert done.code == 1
    assert error.startswith(f"error: {name}: ")
    assert said in error
    assert hint.startswith("hint: ")
    assert not (tmp_path / "film.storycli").exists()


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_stories_of_other_editors_are_read(run, studio, tmp_path, encoding):
    (tmp_path / "story.txt").write_bytes("Ä boy walked.\r\n".encode(encoding))
    done = run("plan", "story.txt", "--llm", "none", "--json")
    assert json.loads(done.out)["plots"][0]["text"] == "Ä boy walked."


def test_an_output_that_cannot_be_is_told(run, studio, script, tmp_path):
    (tmp_path / "film.storycli").touch()
    for film in ("film.mp4", "story.txt/film.mp4"):
        done = run("render", script, "--llm", "none", "-o", film)
        assert done.code == 1 and re.search("error: .*(exists|Not a directory)", done.err), done.err
    done = run("render", script, "--llm", "none", "-o", "other.mp4", "--sheet", "sheet")
    assert done.code == 2 and "name it so: sheet.png" in done.err and not studio.work()


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--music", "none.mp3"), "none.mp3 is not a sound file"),
        (("--narrate", "--voice", "openai"), "no OPENAI_API_KEY"),
        (("--depth", "dpt_hybrid"), "dpt_hybrid: these of its files are not here"),
        (("-c", "."), "there are no pictures in"),
    ],
)
def test_what_the_cut_lacks_is_told_before_the_work(run, studio, script, teddy, flags, said):
    for dry in ((), ("--dry-run",)):
        done = run("render", script, "--llm", "none", "-c", teddy, *flags, *dry)
        assert done.code == 1 and said in done.err
    assert not studio.work()


def test_a_film_from_elsewhere_has_to_be_trusted(run, studio, script, teddy, tmp_path, monkeypatch):
    run("render", script, "--llm", "none", "-c", teddy)
    run("render", script, "--llm", "none", "-c", teddy, "-o", "mail/film.mp4")
    assert run("again", "mail/film.mp4").code == 0  # it was made here
    monkeypatch.setenv("STORYCLI_HOME", str(tmp_path / "another"))
    assert run("again", "film.mp4", "-o", "new.mp4").code == 0  # all that it uses lies beside it
    done = run("again", "mail/film.mp4")  # nor does the folder that came along with it make it one's own
    assert done.code == 1 and f"was not made here, and would use {teddy}" in done.err
    assert run("again", "mail/film.mp4", "--trust").code == 0


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_a_device_that_is_not_here_is_told(monkeypatch):
    with pytest.raises(StoryError, match="torch finds no cuda device here"):
        catalogue.choose("storybook", "cuda")


def test_a_flag_takes_back_what_a_file_says(run, studio, script, teddy, tmp_path):
    (tmp_path / "storycli.toml").write_text("title_card = true\n")
    assert run("render", script, "--llm", "none", "-c", teddy, "--no-title-card").code == 0
    assert video.probe(tmp_path / "film.mp4").num_frames == 3 * 4


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (("evaluate-training",), "there is nothing to measure"),
        (("evaluate-training", "--data", "shards", "--ahead", "9"), "--ahead goes on from checkpoints"),
        (("evaluate", "clips", "--assets", "pictures"), "--assets draws scenes in place of CLIPS"),
    ],
)
def test_an_evaluation_of_nothing_is_refused_before_any_work(run, tmp_path, command, said):
    done = run(*command)
    assert done.code == 2 and said in done.err
    assert not list(tmp_path.iterdir())


def test_with_a_plot_a_line_the_first_line_is_one(run, tmp_path):
    (tmp_path / "story.txt").write_text("A boy walks in the forest\n\nA wolf comes.\n\nThey talk.\n")
    told = json.loads(run("plan", "story.txt", "--llm", "none", "--json").out)
    assert [plot["text"] for plot in told["plots"]] == ["A boy walks in the forest", "A wolf comes.", "They talk."]
    assert told["title"] == "story"


def test_a_plan_tells_what_its_storyboard_says(run, tmp_path):
    (tmp_path / "story.txt").write_text("A boy walks.\n")
    assert run("plan", "story.txt", "--llm", "none").code == 0
    board = tmp_path / "story.yaml"
    board.write_text(board.read_text().replace("prompt: A boy walks", "prompt: A girl walks"))
    told = json.loads(run("plan", "story.txt", "--llm", "none", "--json").out)
    assert told["plots"][0]["prompt"].startswith("A girl walks")


@pytest.mark.parametrize("flags", [("--often", "sleep=2"), ("--tier", "wide")])
def test_videos_to_train_on_are_not_drawn(run, tmp_path, flags):
    done = run("train-base", "videos.csv", *flags)
    assert done.code == 2 and "for scenes that are drawn, not for VIDEOS" in done.err
    assert not list(tmp_path.iterdir())


def test_the_demo_keeps_to_its_own_clips(run, studio, monkeypatch):
    opened = []
    library = stages.open_library
    monkeypatch.setattr(stages, "open_library", lambda folder: opened.append(folder) or library(folder))
    assert run("demo", "--index", "mine", "--llm", "none").code == 0
    assert set(opened) == {None}


@pytest.mark.parametrize(
    ("name", "flags", "title"),
    [(" .txt", (), "story"), (b"bad\xff.txt", (), "bad\ufffd"), ("a.txt", ("--title", " "), "a")],
)
def test_a_story_always_has_a_title(run, studio, tmp_path, name, flags, title):
    path = tmp_path / os.fsdecode(name)
    path.write_text("A boy walked.\n")
    done = run("plan", path, "--llm", "none", "-o", "board.yaml", "--json", *flags)
    assert json.loads(done.out)["title"] == title, done.err


def test_a_board_that_names_a_hero_who_is_left_out_is_refused_at_once(run, studio, script, teddy):
    assert run("plan", script, "--llm", "none", "-c", f"boy={teddy}").code == 0
    done = run("plan", script, "--llm", "none")
    assert done.code == 1 and "{boy} is none of the characters" in done.err


@pytest.mark.parametrize("command", ["render", "plan"])
@pytest.mark.parametrize("story", ["nowhere.txt", "."])
def test_a_story_that_is_not_there_is_named(run, command, story):
    done = run(command, story)
    assert done.code == 1
    assert f"error: {story}: " in done.err
    assert "Traceback" not in done.err


def test_brackets_and_control_characters_of_a_name_are_shown_as_they_are(run):
    done = run("render", "[red]\x1b[2J\x07.txt")
    assert "error: [red]\\x1b[2J\\x07.txt: there is no such file" in done.err


def test_verbose_adds_the_traceback(run):
    assert "Traceback" not in run("render", "nowhere.txt").err
    assert "Traceback" in run("render", "nowhere.txt", "-v").err


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("--tau", "2"),
        ("--size", "big"),
        ("--output", "film.txt"),
        ("--output", "."),
        ("--character", "x=."),
        ("--no-such-flag",),
        ("--steps", "many"),
    ],
)
def test_wrong_usage_exits_with_2(run, studio, script, arguments):
    story = [] if arguments == () else [script]
    arguments = ("-c", "a=.", "-c", "a=.") if arguments == ("--character", "x=.") else arguments
    done = run("render", *story, "--llm", "none", *arguments)
    assert done.code == 2
    assert done.out == ""
    assert done.err


@pytest.mark.parametrize(
    ("folder", "said"),
    [
        ("nowhere", "there is no such folder"),
        ("story.txt", "is a file"),
        ("bare", "there are no pictures in"),
    ],
)
def test_a_character_without_pictures_is_told(run, studio, script, tmp_path, folder, said):
    (tmp_path / "bare").mkdir()
    done = run("render", script, "--llm", "none", "-c", f"teddy={folder}")
    assert done.code == 1
    assert said in done.err


def test_a_disk_that_is_full_is_told_without_a_traceback(run, studio, script, teddy, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device", "film.storycli/x")

    monkeypatch.setattr("storycli.manifest.recipe", full)
    done = run("render", script, "--llm", "none", "-c", teddy)
    assert done.code == 1
    assert "error: film.storycli/x: No space left on device" in done.err
    assert "Traceback" not in done.err


def test_a_disk_is_full_in_the_words_of_a_library_too(run, studio, script, teddy, monkeypatch):
    def full(*_, **__):
        raise RuntimeError("LanceError(IO): Generic LocalFileSystem error: No space left on device (os error 28)")

    monkeypatch.setattr("storycli.manifest.recipe", full)
    done = run("render", script, "--llm", "none", "-c", teddy)
    assert done.code == 1 and "error: the disk: No space left on device" in done.err and "free some space" in done.err


def test_a_bug_keeps_its_traceback(run, studio, script, teddy, monkeypatch):
    monkeypatch.setattr("storycli.manifest.recipe", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        run("render", script, "--llm", "none", "-c", teddy)


def test_a_reader_that_leaves_early_is_no_error(start):
    with start("models", "list") as process:
        process.stdout.close()
        err = process.stderr.read()
    assert process.returncode in (0, 1)
    assert b"Traceback" not in err


class Shelf:
    """A library that met one unreadable file."""

    def __init__(self, folder, *_):
        self.folder = folder

    def add(self, paths, progress, **_):
        progress(2, 2, paths[0])
        return Report(added=1, shots=3, failures=(Failure(paths[0], "is not a video"),))


def test_files_that_cannot_be_indexed_are_listed_and_the_exit_code_is_3(run, monkeypatch):
    monkeypatch.setattr("storycli.retrieve.Library", Shelf)
    done = run("index", "a%d[b].mp4", "--index", "clips", "--json")
    assert done.code == 3
    assert (json.loads(done.out)["added"], json.loads(done.out)["shots"]) == (1, 3)
    assert "a%d[b].mp4: is not a video" in done.err


def test_index_without_anything_to_do_is_wrong_usage(run):
    assert run("index").code == 2


def test_models_are_listed_with_licence_size_and_place(run):
    rows = {row["name"]: row for row in json.loads(run("models", "list", "--json").out)}
    assert rows.keys() == {"storybook", "lvdm", "depth-anything-v2-small"}
    needed = [file["name"] for file in rows["lvdm"]["files"] if not file["optional"]]
    assert rows["lvdm"]["missing"] == needed
    assert (len(needed), len(rows["lvdm"]["files"])) == (3, 4)
    assert "licence: research" in run("models", "list").out


def test_fetched_weights_can_be_deleted_and_built_in_ones_not(run, tmp_path):
    folder = run("models", "path", "lvdm").out.strip()
    assert folder == str(tmp_path / "home" / "weights" / "lvdm")
    os.makedirs(folder)
    assert run("models", "rm", "lvdm").code == 0
    assert not os.path.exists(folder)
    assert run("models", "rm", "storybook").code == 2
    (tmp_path / "storybook-depth.safetensors").write_bytes(b"")
    assert run("models", "import", "storybook", "storybook-depth.safetensors").code == 2
    assert run("models", "path", "nonesuch").code == 2


def test_a_trained_character_keeps_the_class_word_that_it_was_trained_with(teddy):
    from safetensors.numpy import save_file

    save_file({"word": np.zeros(2)}, teddy / "character.safetensors", metadata={"class_word": "toy bear"})
    assert script_of.character(f"bear={teddy}").class_word == "toy bear"
    (teddy / "character.safetensors").write_bytes(b"broken")
    assert script_of.character(str(teddy)).class_word is None


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("my bear=teddy", '"my bear" is no name for a character'),
        ("=teddy", '"" is no name for a character'),
        ("bear=nowhere", "nowhere: there is no such folder"),
        ("./teddy=no", "teddy=no: there is no such folder"),
    ],
)
def test_what_is_wrong_with_a_character_is_told_its_name_or_its_folder(run, studio, script, teddy, given, said):
    assert f"error: {said}" in run("render", script, "--llm", "none", "-c", given).err


def test_a_folder_with_an_equals_sign_in_its_name_is_a_character_s(run, teddy):
    folder = teddy.rename(teddy.with_name("pics=teddy"))
    teddy.mkdir()
    assert script_of.character("pics=teddy") == Character(name="pics-teddy", dir=folder)
    assert script_of.character("bear=pics=teddy") == Character(name="bear", dir=folder)


@pytest.fixture
def trained(monkeypatch):
    """The characters that ``train-character`` was to learn, with what each is a kind of."""
    trained = []

    def train(hero, *_, **__):
        trained.append((hero.name, hero.dir.name, hero.class_word))
        return hero.dir / "character.safetensors"

    monkeypatch.setattr("storycli.characters.learn.train", train)
    return trained


def test_a_character_is_trained_from_the_folder_and_under_the_name_that_are_given(run, trained, teddy):
    teddy.rename(teddy.with_name("pics=old"))
    teddy.with_name("old").mkdir()
    assert run("train-character", "pics=old", "--no-proof").code == 0
    assert run("train-character", "pics=old", "--no-proof", "--name", "bear").code == 0
    assert trained == [("pics-old", "pics=old", None), ("bear", "pics=old", None)]
    done = run("train-character", "old", "--no-proof", "--name", "my bear")
    assert done.code == 2
    assert 'error: "my bear" is no name for a character' in done.err
    assert len(trained) == 2


def test_a_character_is_trained_again_as_what_it_was_unless_that_is_said_anew(run, trained, teddy):
    from safetensors.numpy import save_file

    save_file({"word": np.zeros(2)}, teddy / "character.safetensors", metadata={"class_word": "toy bear"})
    assert run("train-character", teddy, "--no-proof").code == 0
    assert run("train-character", teddy, "--no-proof", "--class-word", " panda ").code == 0
    assert trained == [("teddy", "teddy", "toy bear"), ("teddy", "teddy", "panda")]


def test_the_demo_films_the_built_in_story_and_writes_nothing_into_the_package(run, studio, tmp_path):
    before = sorted((EXAMPLES / "teddy").iterdir())
    done = run("demo", "--llm", "none")
    assert (done.code, done.out) == (0, "demo.mp4\n")
    assert "train teddy" not in studio.work()  # the hero ships trained
    assert sorted((EXAMPLES / "teddy").iterdir()) == before
    assert "class_word: teddy bear" in (tmp_path / "demo.storycli" / "storyboard.yaml").read_text()


def test_a_video_that_is_not_ours_is_never_replaced(run, studio, script, teddy, tmp_path):
    own = tmp_path / "film.mp4"
    own.write_bytes(b"a holiday")
    for dry in ((), ("--dry-run",)):
        done = run("render", script, "--llm", "none", "-c", teddy, *dry)
        assert done.code == 1 and "film.mp4 is there, and storycli did not make it" in done.err
    assert own.read_bytes() == b"a holiday" and not studio.work()
    own.write_bytes(b"")  # as mktemp leaves it
    assert run("render", script, "--llm", "none", "-c", teddy).code == 0
    assert (
        run("render", script, "--llm", "none", "-c", teddy, "--transition", "crossfade").code == 0
    )  # its own film it is


def test_a_name_that_is_not_text_is_told(run, studio, script, teddy, tmp_path):
    odd = os.fsdecode(b"caf\xe9")
    shutil.copytree(teddy, tmp_path / odd / "teddy")
    for flags in (("-c", f"{odd}/teddy"), ("-o", f"{odd}.mp4")):
        done = run("render", script, "--llm", "none", *flags)
        assert done.code == 1 and "has a name that is not text" in done.err and "caf" in done.err
    assert not studio.work()


@pytest.mark.parametrize(
    ("name", "said"),
    [("board.txt", "a storyboard is a .yaml file"), ("folder.yaml", "a storyboard is a"), ("list.yaml", "list.yaml")],
)
def test_a_storyboard_that_cannot_be_is_told_before_anybody_reads_the_story(
    run, script, tmp_path, monkeypatch, name, said
):
    (tmp_path / "folder.yaml").mkdir()
    (tmp_path / "list.yaml").write_text("- milk\n- eggs\n")
    monkeypatch.setattr(pipeline, "plan", None)
    done = run("plan", script, "--llm", "none", "-o", name)
    assert done.code in (1, 2) and said in done.err
    assert (tmp_path / "list.yaml").read_text() == "- milk\n- eggs\n"


def test_a_library_that_comes_with_a_film_has_to_be_trusted_since_its_clips_may_lie_anywhere(
    run, studio, script, teddy, tmp_path
):
    assert run("render", script, "--llm", "none", "-c", teddy).code == 0
    film = tmp_path / "film.mp4"
    told = provenance.read_manifest(film)
    provenance.append(film, told | {"settings": told["settings"] | {"index": "clips"}})
    (tmp_path / "clips").mkdir()
    done = run("again", "film.mp4", "-o", "new.mp4")
    assert done.code == 1 and f"would use the library in {tmp_path / 'clips'}" in done.err


@pytest.mark.parametrize("odd", [{"settings": []}, {"shots": 3}, {"story": None}, {"settings": {"index": 7}}])
def test_a_film_whose_manifest_is_odd_is_told(run, studio, script, teddy, tmp_path, odd):
    assert run("render", script, "--llm", "none", "-c", teddy).code == 0
    film = tmp_path / "film.mp4"
    provenance.append(film, provenance.read_manifest(film) | odd)
    done = run("again", "film.mp4", "-o", "new.mp4")
    assert done.code == 1 and "what it says of its making cannot be read" in done.err


def test_a_playlist_is_no_music(run, studio, script, tmp_path):
    (tmp_path / "list.m3u8").write_text("#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nsecret.ts\n#EXT-X-ENDLIST\n")
    (tmp_path / "list.mp3").write_text((tmp_path / "list.m3u8").read_text())
    for name in ("list.m3u8", "list.mp3"):
        done = run("render", script, "--llm", "none", "--music", name)
        assert done.code == 1 and "is not a sound file" in done.err
