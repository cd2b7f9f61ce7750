"""What test files share: a studio of quick stand-ins, and the command line, in this process or its own."""

import os
import random
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import studio as stand_ins
from PIL import Image
from typer.testing import CliRunner

from storycli.cli import app
from storycli.cli.screen import screen

ROOT = Path(__file__).parent.parent
PRIVATE = ("STORYCLI", "OPENAI", "STUDIO")  # environment that a test must not inherit


class Studio:
    """The stand-ins' folder, and what they did."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.log = folder / "log"
        folder.mkdir()

    def work(self) -> list[str]:
        """What was done since the last time this was asked."""
        done = self.log.read_text().splitlines() if self.log.exists() else []
        self.log.unlink(missing_ok=True)
        return done


@pytest.fixture(scope="session", autouse=True)
def _own_world_of_shared_fixtures(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What is made once for many tests does not see the settings of whoever runs them either."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        settle(tmp_path_factory.mktemp("shared"), monkeypatch)
        yield


@pytest.fixture(autouse=True)
def _own_world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test sees the settings, the keys or the cache of whoever runs it."""
    settle(tmp_path, monkeypatch)


def settle(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have storycli keep everything in ``folder``, as for a new user."""
    for name in [name for name in os.environ if name.startswith(PRIVATE)]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("STORYCLI_HOME", str(folder / "home"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(folder / "config"))
    monkeypatch.setenv("XDG_DATA_HOME", str(folder / "data"))


@pytest.fixture
def studio(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Studio:
    """The stages with quick stand-ins for the networks, in this process and in those of ``start``."""
    made = Studio(tmp_path / "studio")
    monkeypatch.setenv("STUDIO", str(made.folder))
    monkeypatch.setenv("STUDIO_LOG", str(made.log))
    stand_ins.install(made.folder, monkeypatch)
    return made


@dataclass(frozen=True)
class Done:
    """What a command left: its exit code, its results and what it said beside them."""

    code: int
    out: str
    err: str


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Done]:
    """Run a command in this process, in the test's folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")

    def command(*args: object, stdin: bytes = b"") -> Done:
        screen.quiet = screen.verbose = False
        result = CliRunner().invoke(app, [str(arg) for arg in args], input=stdin, catch_exceptions=False)
        return Done(result.exit_code, result.stdout, result.stderr)

    return command


@pytest.fixture
def start(tmp_path: Path) -> Callable[..., subprocess.Popen]:
    """Start a command as a program, with the studio's stand-ins where the test has asked for the studio."""

    def command(*args: object, **environment: str) -> subprocess.Popen:
        with_studio = "STUDIO" in os.environ
        program = [str(ROOT / "tests" / "studio.py")] if with_studio else ["-m", "storycli"]
        return subprocess.Popen(
            [sys.executable, *program, *map(str, args)],
            cwd=tmp_path,
            env=os.environ | {"PYTHONPATH": str(ROOT), "COLUMNS": "100"} | environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            # A test run in the background ignores Ctrl-C, and would hand that on.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )

    return command


@pytest.fixture(scope="session")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights of a very small retrieval network, untrained."""
    import library

    return library.encoder(tmp_path_factory.mktemp("weights") / "tiny.safetensors")


@pytest.fixture(scope="session")
def assets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Stand-ins for the emoji of the world: one rounded blob per code, each in its own colour."""
    import cv2
    import numpy as np

    from storycli.world.sprites import PACKAGE
    from storycli.world.words import load_tables

    root = tmp_path_factory.mktemp("assets")
    folder = root / "node_modules" / PACKAGE / "assets"
    folder.mkdir(parents=True)
    for code in load_tables("wide").codes():
        rng = random.Random(code)
        picture = np.zeros((64, 64, 4), np.uint8)
        cv2.ellipse(picture, (32, 32), (26, 30), 0, 0, 360, [*(rng.randrange(256) for _ in range(3)), 255], -1)
        cv2.circle(picture, (24, 24), 5, (0, 0, 0, 255), -1)
        Image.fromarray(picture).save(folder / f"{code}.webp", lossless=True)
    return root


@pytest.fixture
def empty(tmp_path: Path, encoder: Path):
    """A library without clips."""
    from storycli.retrieve import Library

    return Library(tmp_path / "index", encoder)


@pytest.fixture
def teddy(tmp_path: Path) -> Path:
    """A folder with two pictures of a character."""
    folder = tmp_path / "teddy"
    folder.mkdir()
    for name, colour in (("a.png", "red"), ("b.png", "blue")):
        Image.new("RGB", (32, 32), colour).save(folder / name)
    return folder


@pytest.fixture
def script(tmp_path: Path) -> Path:
    """A story of three plots, one a line."""
    path = tmp_path / "story.txt"
    path.write_text("A boy walked in the forest.\n{teddy} swam at the beach.\nThe boy ate in the kitchen.\n")
    return path
