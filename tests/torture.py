"""Indexing under torture: hundreds of damaged and odd files among good ones, and kills at any moment.

    python tests/torture.py files --good 200 --odd 200     # everything good is in, everything bad is listed
    python tests/torture.py kills --kills 20               # killed, run again: the same index

Both run the command line's own code in processes of its own and exit with 1 when a promise is broken. The tests run
them with small numbers.
"""

import argparse
import json
import os
import random
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import cycle, islice
from pathlib import Path

import clips
import library

from storycli.retrieve import Library

ROOT = Path(__file__).parent.parent
NAMES = [
    "two words",
    "'quote\"",
    "new\nline",
    "-dash",
    "100%d",
    "M\u00e4rchen_\u72fc",
    "[x]{y};,=",
    "a" * 200,
    "\u202egnol",
    "$(id)`id`",
]
PATIENCE = 900  # seconds; who takes longer hangs


@dataclass(frozen=True, slots=True)
class Odd:
    """A kind of odd file: ``make(path, number, generator)``, and its fate: "in", "listed", or "either"."""

    make: Callable[[Path, int, random.Random], None]
    fate: str
    suffix: str = ".mp4"


def source(path: Path, number: int, **kwargs) -> bytes:
    """A good clip that no other one equals, made at ``path``."""
    return library.clip(path, seed=10_000 + number, **kwargs).read_bytes()


def remade(*options: str, before: Sequence[str] = (), frames: int = 24) -> Callable:
    """A clip made over with ffmpeg's ``options``."""

    def make(path: Path, number: int, rng: random.Random) -> None:
        plain = path.with_name(f"plain-{number}.part.mp4")
        source(plain, number, frames=frames)
        clips.remade(path, plain, *options, before=tuple(before))
        plain.unlink()

    return make


def bytewise(change: Callable[[bytearray, random.Random], bytes], *options: str) -> Callable:
    """A clip whose bytes are changed."""

    def make(path: Path, number: int, rng: random.Random) -> None:
        remade("-c", "copy", *options)(path, number, rng)
        path.write_bytes(change(bytearray(path.read_bytes()), rng))

    return make


def written(content: bytes | Callable[[random.Random], bytes]) -> Callable:
    def make(path: Path, number: int, rng: random.Random) -> None:
        path.write_bytes(content if isinstance(content, bytes) else content(rng))

    return make


def cut(data: bytearray, rng: random.Random) -> bytes:
    return data[: int(len(data) * rng.uniform(0.02, 0.9))]


def beheaded(data: bytearray, rng: random.Random) -> bytes:
    return data[rng.randrange(8, len(data) // 2) :]


def without_codec(data: bytearray, rng: random.Random) -> bytes:
    return data.replace(b"avc1", b"zzzz").replace(b"avcC", b"zzzC")


def scattered(data: bytearray, rng: random.Random) -> bytes:
    for _ in range(rng.choice([3, 30, 300])):
        data[rng.randrange(len(data))] = rng.randrange(256)
    return data


def zeroed(data: bytearray, rng: random.Random) -> bytes:
    at = rng.randrange(len(data))
    data[at : at + 300] = bytes(len(data[at : at + 300]))
    return data


def named(path: Path, number: int, rng: random.Random) -> None:
    source(path.with_name(f"{number} {NAMES[number % len(NAMES)]}.mp4"), number)


def fifo(path: Path, number: int, rng: random.Random) -> None:
    os.mkfifo(path)


def local_socket(path: Path, number: int, rng: random.Random) -> None:
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(os.path.relpath(path))


def closed(path: Path, number: int, rng: random.Random) -> None:
    source(path, number)
    path.chmod(0)


def no_text(path: Path, number: int, rng: random.Random) -> None:
    source(path, number)
    os.rename(path, os.fsencode(path.with_suffix("")) + b"\xff\xfe.mp4")


def made(*options: str) -> Callable:
    def make(path: Path, number: int, rng: random.Random) -> None:
        clips.run([*(option.replace("N", str(number)) for option in options), str(path)], doing="make an odd file")

    return make


def link(target: str) -> Callable:
    return lambda path, number, rng: path.symlink_to(path.name if target == "itself" else target)


X264 = ("-c:v", "libx264")
PNG = ("-f", "lavfi", "-i", "color=red:s=64x48", "-frames:v", "1", "-c:v", "png", "-f", "image2pipe")
SLOW = ("-vf", "setpts='if(lt(N,12),N,12+(N-12)*3)/12/TB'", "-fps_mode", "vfr")
LIVE = ("-movflags", "frag_keyframe+empty_moov")
KINDS = {
    # what cannot be indexed
    "cut off": Odd(bytewise(cut), "listed"),
    "cut off, index first": Odd(bytewise(cut, "-movflags", "+faststart"), "listed"),
    "cut off matroska": Odd(bytewise(cut), "listed", ".mkv"),
    "beheaded": Odd(bytewise(beheaded), "listed"),
    "empty": Odd(written(b""), "listed"),
    "text": Odd(written(b"not a video at all\n" * 50), "listed"),
    "noise": Odd(written(lambda rng: rng.randbytes(5000)), "listed", ".mkv"),
    "zeros": Odd(written(bytes(5000)), "listed", ".avi"),
    "header alone": Odd(written(b"\0\0\0\x20ftypisom\0\0\2\0isomiso2avc1mp41"), "listed"),
    "a script": Odd(written(b"ffconcat version 1.0\nfile '/etc/passwd'\n"), "listed", ".mkv"),
    "a playlist": Odd(written(b"#EXTM3U\n#EXTINF:1,\nhttp://127.0.0.1:9/x.ts\n#EXT-X-ENDLIST\n"), "listed", ".ts"),
    "a picture": Odd(made(*PNG), "listed"),
    "sound alone": Odd(made("-f", "lavfi", "-i", "sine=d=1:f=44N"), "listed"),
    "one frame": Odd(remade("-frames:v", "1", *X264), "listed"),
    "unknown codec": Odd(bytewise(without_codec), "listed"),
    "dangling link": Odd(link("nowhere.mp4"), "listed"),
    "link to itself": Odd(link("itself"), "listed"),
    "fifo": Odd(fifo, "listed"),
    "socket": Odd(local_socket, "listed"),
    "unreadable": Odd(closed, "in" if os.geteuid() == 0 else "listed"),  # root may read everything
    "name that is no text": Odd(no_text, "listed"),
    # what is unusual and good
    "odd name": Odd(named, "in"),
    "odd size": Odd(remade("-vf", "scale=51:37,setsar=1", "-c:v", "ffv1", "-pix_fmt", "yuv444p"), "in", ".mkv"),
    "very wide": Odd(remade("-vf", "scale=1024:16,setsar=1", *X264), "in"),
    "turned": Odd(remade("-c", "copy", before=("-display_rotation", "90")), "in"),
    "upside down": Odd(remade("-c", "copy", before=("-display_rotation", "180")), "in"),
    "variable rate": Odd(remade(*SLOW), "in"),
    "ten bits": Odd(remade(*X264, "-pix_fmt", "yuv420p10le"), "in"),
    "grey": Odd(remade("-c:v", "ffv1", "-pix_fmt", "gray"), "in", ".mkv"),
    "rgb": Odd(remade("-c:v", "ffv1", "-pix_fmt", "bgr0"), "in", ".mkv"),
    "huge": Odd(remade("-vf", "scale=4096:2304", *X264, "-preset", "ultrafast", frames=3), "in"),
    "no clock": Odd(remade("-c", "copy", "-bsf:v", "h264_mp4toannexb"), "in", ".h264"),
    "stream without index": Odd(remade("-c", "copy"), "in", ".ts"),
    "fragments": Odd(remade("-c", "copy", *LIVE), "in"),
    "wrong suffix": Odd(remade("-c", "copy", "-f", "matroska"), "in"),
    "old codec": Odd(remade("-c:v", "mpeg4", "-q:v", "3"), "in", ".avi"),
    "single pictures": Odd(remade("-c:v", "mjpeg", "-pix_fmt", "yuvj420p"), "in", ".avi"),
    "gif": Odd(remade("-vf", "scale=64:48"), "in", ".gif"),
    "hevc": Odd(remade("-c:v", "libx265", "-x265-params", "log-level=0"), "in"),
    "vp9": Odd(remade("-c:v", "libvpx-vp9", "-deadline", "realtime", "-cpu-used", "8"), "in", ".webm"),
    "wide pixels": Odd(remade("-vf", "setsar=2", *X264), "in"),
    "hidden frames": Odd(remade("-c", "copy", before=("-ss", "0.7")), "in"),
    "fast": Odd(remade("-vf", "setpts=N/240/TB", "-r", "240", *X264, frames=100), "in"),
    "slow": Odd(remade("-vf", "setpts=N*2/TB", "-r", "1/2", *X264, frames=3), "in"),
    # what a decoder may or may not get over
    "scattered bytes": Odd(bytewise(scattered), "either"),
    "zeroed bytes": Odd(bytewise(zeroed), "either"),
}  # fmt: skip


@dataclass(slots=True)
class Outcome:
    """What became of a tortured folder."""

    seconds: float
    code: int  # of the command
    files: Counter = field(default_factory=Counter)  # by their fate
    broken: list[str] = field(default_factory=list)  # promises


def make(folder: Path, good: int, odd: int, seed: int = 0) -> dict[Path, str]:
    """Makes good and odd files; returns their fates."""
    rng, fates = random.Random(seed), {}
    folder.mkdir()
    for number in range(good):
        fates[library.clip(folder / f"{number:03}-good.mp4", seed=number)] = "in"
    (folder / "loop").symlink_to(folder)
    for number, (name, kind) in enumerate(islice(cycle(KINDS.items()), odd)):
        before = set(os.listdir(folder))
        kind.make(folder / f"{number:03}-{name}{kind.suffix}", number, rng)
        (new,) = set(os.listdir(folder)) - before
        fates[folder / new] = kind.fate
    return fates


def torture(folder: Path, good: int, odd: int, *, workers: int = 2, seed: int = 0) -> Outcome:
    """Indexes such files by the command line, and checks what it says and what is in the index."""
    fates = make(folder / "videos", good, odd, seed)
    command = [sys.executable, "-m", "storycli", "index", str(folder / "videos"), "--index", str(folder / "index")]
    start = time.monotonic()
    done = subprocess.run(
        [*command, "--workers", str(workers), "--json"],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        timeout=PATIENCE,
    )
    outcome = Outcome(time.monotonic() - start, done.returncode, Counter(fates.values()))
    if done.returncode != 3 or b"Traceback" in done.stderr:
        outcome.broken.append(f"exit code {done.returncode}: {done.stderr.decode(errors='replace')[-2000:]}")
        return outcome
    told = {failure["path"]: failure["reason"] for failure in json.loads(done.stdout)["failures"]}
    into = {row["path"] for row in Library(folder / "index").index.rows(["path"])}
    for path, fate in fates.items():
        name = str(path).encode(errors="replace").decode()
        listed = name in {each.encode(errors="replace").decode() for each in told}
        if (
            (fate == "in" and str(path) not in into)
            or (fate == "listed" and not listed)
            or (listed == (str(path) in into))
        ):
            outcome.broken.append(
                f"{path.name!r} should be {fate}: in {str(path) in into}, listed {told.get(str(path))}"
            )
    return outcome


KILLED = """
import sys
from pathlib import Path
from storycli.library import indexing
from storycli.retrieve import Library
if __name__ == "__main__":
    indexing.WRITE_EVERY, indexing.FEW = 0.05, 0
    shelf = Library(Path(sys.argv[1]), Path(sys.argv[2]))
    print("begins", flush=True)
    shelf.add([Path(sys.argv[3])], lambda done, total, path: print(done, flush=True), workers=2)
"""


def kills(folder: Path, kills: int, files: int, seed: int = 0) -> list[int]:
    """Kills indexing at random moments and runs it again; returns how many shots were in after each kill.

    Raises AssertionError when a resumed index is not that of an uninterrupted run.
    """
    rng, videos = random.Random(seed), folder / "videos"
    encoder = library.encoder(folder / "tiny.safetensors")
    for number in range(files):
        library.clip(videos / f"{number:03}.mp4", seed=number, frames=24)
    (videos / "none.mp4").write_text("none")
    whole = Library(folder / "whole", encoder)
    start = time.monotonic()
    finish(whole.folder, encoder, videos)
    lasts = time.monotonic() - start
    whole = library.content(Library(folder / "whole", encoder))
    kept = []
    for number in range(kills):
        with run(folder / str(number), encoder, videos) as program:
            program.stdout.readline()
            time.sleep(rng.uniform(0, lasts))
            program.kill()
        kept.append(len(Library(folder / str(number), encoder).index))
        finish(folder / str(number), encoder, videos)
        assert library.content(Library(folder / str(number), encoder)) == whole, f"after kill {number}"
    return kept


def run(index: Path, encoder: Path, videos: Path) -> subprocess.Popen:
    """Starts indexing in a process of its own."""
    (videos.parent / "killed.py").write_text(KILLED)
    arguments = [str(videos.parent / "killed.py"), str(index), str(encoder), str(videos)]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.Popen([sys.executable, *arguments], stdout=subprocess.PIPE, env=environment)


def finish(index: Path, encoder: Path, videos: Path) -> None:
    """Indexing to its end."""
    with run(index, encoder, videos) as program:
        program.communicate(timeout=PATIENCE)
    assert program.returncode == 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["files", "kills"])
    parser.add_argument("--good", type=int, default=200)
    parser.add_argument("--odd", type=int, default=200)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if args.what == "files":
            outcome = torture(Path(folder), args.good, args.odd, seed=args.seed)
            print(f"{sum(outcome.files.values())} files ({dict(outcome.files)}) in {outcome.seconds:.0f} s")
            print("\n".join(outcome.broken) or "every promise was kept")
            raise SystemExit(bool(outcome.broken))
        kept = kills(Path(folder), args.kills, 60, args.seed)
        print(f"killed {args.kills} times with {sorted(kept)} of 60 shots in; each time the same index in the end")


if __name__ == "__main__":
    main()
