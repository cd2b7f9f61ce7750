"""Settings: which source wins, and that a wrong one is named with its file, line and key."""

from pathlib import Path

import pytest

from storycli import config
from storycli.errors import StoryError, UsageError


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    config.user_file().parent.mkdir(parents=True)
    return tmp_path


def test_flags_beat_the_environment_which_beats_the_folder_s_file_which_beats_the_user_s(folder):
    config.user_file().write_text("steps = 1\nguidance = 1\ntau = 0.1\nseed = 1\n")
    (folder / "storycli.toml").write_text("guidance = 2\ntau = 0.2\nseed = 2\n")
    settings = config.load({"seed": 4}, environ={"STORYCLI_TAU": "0.3", "STORYCLI_SEED": "3"})
    assert (settings.steps, settings.guidance, settings.tau, settings.seed) == (1, 2, 0.3, 4)


def test_a_flag_that_was_not_given_changes_nothing(folder):
    (folder / "storycli.toml").write_text("steps = 9\n")
    assert config.load({"steps": None}).steps == 9


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("seed = 1\nsteps = 'many'\n", "storycli.toml:2: steps: input should be a valid integer"),
        ("seed = 1\n\nstep = 3\n", "storycli.toml:3: step: there is no such setting"),
        ("size = '512'\n", "storycli.toml:1: size: should be widthxheight"),
        ("model = 'best'\n", "storycli.toml:1: model: input should be 'auto', 'storybook' or 'lvdm'"),
        ("steps 3\n", "storycli.toml: not valid TOML"),
    ],
)
def test_a_wrong_file_is_named_with_line_and_key(folder, text, message):
    (folder / "storycli.toml").write_text(text)
    with pytest.raises(StoryError) as wrong:
        config.load({})
    assert message in wrong.value.message
    assert wrong.value.exit_code == 1


def test_a_wrong_variable_is_named(folder):
    with pytest.raises(StoryError, match="STORYCLI_STEPS: input should be a valid integer"):
        config.load({}, environ={"STORYCLI_STEPS": "x"})


def test_a_wrong_flag_is_wrong_usage(folder):
    with pytest.raises(UsageError, match="--tau: input should be less than or equal to 1") as wrong:
        config.load({"tau": 3.0})
    assert wrong.value.exit_code == 2


def test_a_relative_path_in_a_file_is_relative_to_that_file(folder):
    config.user_file().write_text("index = 'clips'\n")
    assert config.load({}).index == config.user_file().parent / "clips"


def test_a_value_that_is_wrong_is_not_repeated(folder):
    with pytest.raises(StoryError) as wrong:
        config.load({}, environ={"STORYCLI_LLM": "sk-secret"})
    assert "sk-secret" not in wrong.value.message + wrong.value.hint


def test_size_is_width_by_height():
    assert config.Settings(size="640x384").size == (640, 384)


def test_the_clip_library_is_the_chosen_one_else_the_folder_s_else_the_user_s_else_built_in(folder):
    assert config.library_folder(None) is None
    own = folder / "data" / "storycli" / "index"
    own.mkdir(parents=True)
    assert config.library_folder(None) is None  # it holds no clips
    (own / "clips.lance").mkdir()
    assert config.library_folder(None) == own
    (folder / ".storycli" / "index" / "clips.lance").mkdir(parents=True)
    assert config.library_folder(None) == Path(".storycli/index")
    assert config.library_folder(folder / "clips") == folder / "clips"


def test_new_clips_go_to_the_user_s_library_where_there_is_none(folder):
    assert config.library_folder(None, for_writing=True) == folder / "data" / "storycli" / "index"


def test_weights_are_kept_where_the_environment_says(folder, monkeypatch):
    monkeypatch.setenv("STORYCLI_HOME", "~/stories")
    assert config.home() == Path.home() / "stories"
