"""Settings and where they come from.

Flags beat the environment, which beats ``storycli.toml`` in the working folder, which beats the user's own.
"""

import os
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import platformdirs
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from storycli.errors import StoryError, UsageError
from storycli.story import Tau

PACKAGE = Path(__file__).parent
EXAMPLES = PACKAGE / "examples"
TABLE = "clips"  # in a library's folder


def _size(value: Any) -> Any:
    """``"512x320"`` as ``(512, 320)``."""
    if not isinstance(value, str):
        return value
    if not (match := re.fullmatch(r"(\d{1,5})[xX](\d{1,5})", value.strip())):
        raise ValueError("should be WIDTHxHEIGHT, such as 512x512")
    return int(match[1]), int(match[2])


Side = Annotated[int, Field(ge=16, le=4096, multiple_of=2)]
Size = Annotated[tuple[Side, Side], BeforeValidator(_size)]


class Settings(BaseModel):
    """Everything about a film that is not the story; ``None`` leaves the choice to the model."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())

    model: Literal["auto", "storybook", "lvdm"] = "auto"
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    compile: bool = False
    sampler: Literal["sde", "dpm", "ddim"] | None = None
    seed: int = Field(0, ge=0, lt=2**63)
    steps: int | None = Field(None, ge=1, le=1000)
    guidance: float | None = Field(None, ge=1, le=50)
    tau: Tau | None = None
    retries: int = Field(0, ge=0, le=10)
    smooth: int = Field(1, ge=1, le=8)
    frames: int | None = Field(None, ge=1, le=64)
    fps: float | None = Field(None, gt=0, le=60)
    size: Size | None = None
    depth: Literal["storybook", "dpt_hybrid", "depth_anything_v2_small"] | None = None
    negative: str = ""
    candidates: int = Field(5, ge=1, le=50)
    transition: Literal["cut", "crossfade"] = "cut"
    title_card: bool = False
    subtitles: Literal["none", "soft", "burn", "srt"] = "none"
    music: Path | None = None
    narrate: bool = False
    voice: Literal["offline", "openai"] = "offline"
    tts_model: str | None = None
    aspect: Literal["clip", "1:1", "16:9", "9:16"] = "clip"
    index: Path | None = None
    llm: Literal["auto", "openai", "offline", "none"] = "auto"
    llm_model: str | None = None


def load(flags: Mapping[str, Any], *, folder: Path | None = None, environ: Mapping[str, str] = os.environ) -> Settings:
    """The settings in force for a command started in ``folder`` with ``flags`` (``None`` = flag not given).

    Raises:
        StoryError: a settings file or variable is wrong; the message names the file, the line and the key.
        UsageError: a flag is wrong.
    """
    folder = folder or Path.cwd()
    values: dict[str, Any] = {}
    for path in (user_file(), folder / "storycli.toml"):
        values |= _from_file(path)
    values |= _from_environment(environ)
    return _checked(values | _given(flags), _say_flag, UsageError)


def changed(settings: Settings, flags: Mapping[str, Any]) -> Settings:
    """``settings`` with what ``flags`` say (``None`` = flag not given), and with nothing from elsewhere.

    Raises:
        UsageError: a flag is wrong.
    """
    said = _checked(_given(flags), _say_flag, UsageError)
    return settings.model_copy(update=said.model_dump(exclude_unset=True))


def user_file() -> Path:
    """The user's own settings file."""
    return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "storycli" / "config.toml"


def home() -> Path:
    """Where weights and other things that can be made again are kept."""
    chosen = os.environ.get("STORYCLI_HOME")
    return Path(chosen).expanduser() if chosen else platformdirs.user_cache_path("storycli")


def service(environ: Mapping[str, str] = os.environ) -> tuple[str, str]:
    """The key and the address of a language model's service, each empty where the environment names none."""
    return environ.get("OPENAI_API_KEY", "").strip(), environ.get("OPENAI_BASE_URL", "").strip()


def library_folder(chosen: Path | None, *, for_writing: bool = False) -> Path | None:
    """The clip library: the chosen one, ``./.storycli/index``, or the user's; ``None`` is the built-in.

    To read, one that nobody chose has to hold clips.
    """
    if chosen is not None:
        return Path(chosen).expanduser()
    local, own = Path(".storycli/index"), own_library()
    if for_writing:
        return local if local.is_dir() else own
    return next(filter(holds_clips, (local, own)), None)


def own_library() -> Path:
    """The user's own clip library."""
    return platformdirs.user_data_path("storycli") / "index"


def holds_clips(folder: Path) -> bool:
    """Whether clips were ever indexed in a folder, and not all of them pruned."""
    return (folder / f"{TABLE}.lance").is_dir()


def _given(flags: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in flags.items() if value is not None}


def _from_file(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8-sig")
        values = tomllib.loads(text)
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError) as error:
        raise StoryError(f"{path}: cannot be read: {error}", "mend the file, or take it away") from error
    except tomllib.TOMLDecodeError as error:
        raise StoryError(
            f"{path}: not valid TOML: {error}", 'a setting looks like: steps = 20 or model = "storybook"'
        ) from error

    def where(key: str) -> str:
        lines = (
            n for n, line in enumerate(text.splitlines(), 1) if re.match(rf'\s*\[*\s*["\']?{re.escape(key)}\b', line)
        )
        return f"{path}:{next(lines, 1)}: {key}"

    _checked(values, where)
    own = {name: path.parent / Path(values[name]).expanduser() for name in ("index", "music") if name in values}
    return values | own  # a relative path in a file is relative to that file


def _from_environment(environ: Mapping[str, str]) -> dict[str, Any]:
    names = {f"STORYCLI_{name.upper()}": name for name in Settings.model_fields}
    values = {name: environ[variable] for variable, name in names.items() if environ.get(variable)}
    _checked(values, lambda key: f"STORYCLI_{key.upper()}")
    return values


def _say_flag(key: str) -> str:
    return "--" + key.replace("_", "-")


def _checked(values: dict[str, Any], where: Any, kind: type[StoryError] = StoryError) -> Settings:
    """``values`` as settings, or one error that says ``where`` each wrong key stands."""
    try:
        return Settings(**values)
    except ValidationError as error:
        wrong = {str(e["loc"][0]): e for e in reversed(error.errors(include_url=False, include_input=False))}
        raise kind(
            "\n".join(f"{where(key)}: {_say(e)}" for key, e in wrong.items()),
            f"settings: {', '.join(Settings.model_fields)}",
        ) from None


def _say(error: Any) -> str:
    if error["type"] == "extra_forbidden":
        return "there is no such setting"
    return error["msg"].removeprefix("Value error, ").lower()
