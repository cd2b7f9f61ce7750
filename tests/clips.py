"""Videos with known frames, made by ffmpeg: what the tests of reading, joining and indexing look at."""

from pathlib import Path

import numpy as np

from storycli.media.ffmpeg import run

STEP = 5  # grey levels between frames
WIDTH, HEIGHT, FPS = 96, 64, 10


def ramp(path: Path, *encoding: str, frames: int = 40, before: tuple[str, ...] = ()) -> Path:
    """Make a clip whose frame n is grey of level 5 n, with a white square in its upper left corner."""
    picture = (
        f"color=black:s={WIDTH}x{HEIGHT}:r={FPS}:d={frames / FPS},format=gray,"
        f"geq=lum='if(lt(X,16)*lt(Y,16),255,{STEP}*N)'"
    )
    encoding = encoding or ("-c:v", "libx264", "-g", "12", "-bf", "3")
    args = [*before, "-f", "lavfi", "-i", picture, "-pix_fmt", "yuv420p", *encoding, str(path.absolute())]
    run(args, doing="make a test clip")
    return path


def remade(path: Path, source: Path, *options: str, before: tuple[str, ...] = ()) -> Path:
    """Make a clip from another one, with ffmpeg's options before and after its name."""
    run([*before, "-i", str(source.absolute()), *options, str(path.absolute())], doing="make a test clip")
    return path


def numbers(frames: np.ndarray) -> list[int]:
    """Read off which frames of a ramp these are: from their middles, (f, h, w, 3) uint8."""
    middles = frames[:, frames.shape[1] // 2, frames.shape[2] // 2].mean(axis=-1)
    return [round(float(level) / STEP) for level in middles]


def corner(frame: np.ndarray) -> str:
    """Tell in which corner of a frame the white square is."""
    corners = {"upper left": (4, 4), "upper right": (4, -5), "lower left": (-5, 4), "lower right": (-5, -5)}
    return max(corners, key=lambda name: int(frame[corners[name]].sum()))


def colours(frames: int, size: tuple[int, int] = (64, 64), *, seed: int = 0) -> np.ndarray:
    """Return smooth coloured frames (f, h, w, 3), all different."""
    generator = np.random.default_rng(seed)
    x, y = np.meshgrid(np.linspace(0, 1, size[0]), np.linspace(0, 1, size[1]))
    phases = generator.uniform(0, 6, (frames, 3))
    waves = np.stack([np.sin(3 * x[None] + 2 * y[None] + phase[:, None, None]) for phase in phases.T], axis=-1)
    return np.rint(127.5 + 100 * waves).astype(np.uint8)
