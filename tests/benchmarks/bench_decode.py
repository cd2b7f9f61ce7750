"""How fast videos become what the index needs: one pass of ours against OpenCV's seeking, on the same videos.

The reference way is that of the datasets of retrieval papers: one file at a time is opened with OpenCV, which seeks to
the middles of four equal parts; there is no look for shots. It is timed twice: for four frames of each file, however
long, and for as many frames as we take, four of each shot. Ours reads the packets of each file, decodes what it needs
in one pass, finds the shots and measures their motion on the way, and works on several files at a time. Both end with
frames of the size that the network wants.

    python tests/benchmarks/bench_decode.py --workers 2 FOLDER...

Takes the videos of the folders, and a set that it makes itself; prints seconds and ratios (how many times faster we
are), then what the embedding takes. Everything runs on as many cores as there are workers.
"""

import argparse
import functools
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from models.frozen_in_time import PUBLISHED, STORYBOOK, FrozenInTime, FrozenInTimeConfig
from storycli import cluster
from storycli.library.shots import find_shots
from storycli.library.sources import Source, find
from storycli.media import ffmpeg, probe
from storycli.media.probe import scan

FRAMES = 4
SIDE = PUBLISHED.resize
SCENES = ("testsrc2", "mandelbrot", "life=mold=10:ratio=0.1:death_color=#403020:life_color=#a0c0f0", "gradients=n=6")
MADE = {  # name: size, frames a second, seconds of each scene, scenes, how it is encoded
    "stock.mp4": ("640x360", 25, 12, 1, ("-c:v", "libx264")),
    "hd.mp4": ("1280x720", 30, 10, 1, ("-c:v", "libx264")),
    "edited.mp4": ("1280x720", 25, 5, 4, ("-c:v", "libx264")),
    "webm.webm": ("854x480", 25, 6, 1, ("-c:v", "libvpx-vp9", "-deadline", "realtime", "-cpu-used", "8")),
    "phone.mp4": ("1920x1080", 30, 8, 1, ("-c:v", "libx264", "-bf", "0", "-g", "30", "-sc_threshold", "0")),
    "hevc.mp4": ("1920x1080", 30, 6, 1, ("-c:v", "libx265", "-preset", "ultrafast", "-x265-params", "log-level=0")),
}

Picks = list[tuple[int, int]]  # [start, end) of each shot


def make(folder: Path) -> list[Path]:
    """Videos of moving things under grain, so that they take as much decoding as filmed ones."""
    for name, (size, fps, seconds, scenes, encoding) in MADE.items():
        inputs = []
        for scene in SCENES[:scenes]:
            rest = f"{':' if '=' in scene else '='}s={size}:r={fps}"
            inputs += ["-f", "lavfi", "-t", str(seconds), "-i", scene + rest]
        joined = "".join(f"[{n}:v]format=yuv420p,setsar=1[p{n}];" for n in range(scenes))
        joined += "".join(f"[p{n}]" for n in range(scenes)) + f"concat=n={scenes},noise=alls=8:allf=t"
        ffmpeg.run([*inputs, "-filter_complex", joined, *encoding, str(folder / name)], doing=f"make {name}")
    return [folder / name for name in MADE]


def with_opencv(path: Path, shots: Picks | None = None) -> int:
    """The reference: seeks to four frames of the file, or of each of some shots; returns how many it got."""
    got = 0
    video = cv2.VideoCapture(str(path))
    for start, end in shots or [(0, int(video.get(cv2.CAP_PROP_FRAME_COUNT)))]:
        edges = np.linspace(start, end, min(FRAMES, end - start) + 1).astype(int)
        for index in (edges[:-1] + edges[1:] - 1) // 2:
            video.set(cv2.CAP_PROP_POS_FRAMES, int(index))
            there, frame = video.read()
            if there:
                scale = SIDE / min(frame.shape[:2])
                small = cv2.resize(frame, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
                got += cv2.cvtColor(small, cv2.COLOR_BGR2RGB).shape[2] == 3
    return got


def with_one_pass(path: Path) -> Picks:
    """Ours: the shots, after frames of each were made pixels."""
    probe._scan_once.cache_clear()  # of an earlier round
    info = scan(path).info
    scale = SIDE / min(info.width, info.height)
    size = round(info.width * scale), round(info.height * scale)
    shots = []
    for shot in find_shots(path):
        edges = np.linspace(shot.span.start, shot.span.end, FRAMES + 1).astype(int)
        for kept in shot.nearest((edges[:-1] + edges[1:] - 1) // 2):
            kept.pixels(size)
        shots.append((shot.span.start, shot.span.end))
    return shots


def spent(work: Callable[[], object], rounds: int) -> tuple[float, float]:
    """Seconds by the clock, and of processor time in this process, that some work takes; the best of some rounds."""
    clocks = []
    for _ in range(rounds):
        start = time.perf_counter(), time.process_time()
        work()
        clocks.append((time.perf_counter() - start[0], time.process_time() - start[1]))
    return min(clock for clock, _ in clocks), min(cpu for _, cpu in clocks)


def decode(videos: list[Path], workers: int, rounds: int) -> None:
    print("processor seconds, one at a time:")
    print(f"{'video':24} {'lasts':>7} {'shots':>5} {'4 a file':>9} {'4 a shot':>9} {'ours':>9}")
    clock, cpu = np.zeros(3), np.zeros(3)
    shots, seconds = 0, 0.0
    for path in videos:
        found = with_one_pass(path)
        ways = (with_opencv, functools.partial(with_opencv, shots=found), with_one_pass)
        row = np.array([spent(functools.partial(way, path), rounds) for way in ways])
        clock, cpu = clock + row[:, 0], cpu + row[:, 1]
        lasts = scan(path).info.duration
        seconds, shots = seconds + lasts, shots + len(found)
        print(
            f"{path.name[:24]:24} {lasts:6.1f}s {len(found):5} " + " ".join(f"{s:9.3f}" for s in row[:, 1]), flush=True
        )
    with cluster.crew(workers) as crew:
        jobs = [(path,) for path in sorted(videos, key=os.path.getsize, reverse=True)]
        for _ in cluster.in_order(crew, with_one_pass, jobs):
            pass  # the workers have started
        at_once, _ = spent(lambda: list(cluster.in_order(crew, with_one_pass, jobs)), rounds)
    print(
        f"\n{len(videos)} videos, {seconds:.0f} s, {shots} shots; {workers} workers take {at_once:.2f} s by the clock:"
    )
    print(f"  {seconds / at_once:.0f} s of video a second, {shots / at_once:.1f} shots a second")
    for name, n in (("for the same frames", 1), ("for four frames of each file", 0)):
        faster = f"{clock[n] / at_once:.2f} times by the clock, {cpu[n] / cpu[2]:.2f} times by processor time"
        print(f"  OpenCV takes {clock[n]:.2f} s {name}: {faster}")


def embed(name: str, config: FrozenInTimeConfig, rounds: int) -> None:
    network = FrozenInTime(config).eval()
    clips = torch.randn(4, 3, config.num_frames, config.image_size, config.image_size)
    with torch.inference_mode():
        with FlopCounterMode(display=False) as counter:
            network.encode_video(clips[:1])
        seconds = spent(lambda: network.encode_video(clips), rounds)[0] / len(clips)
    work = counter.get_total_flops() / 1e9
    print(f"{name}: {work:.1f} GFLOP a clip, {1 / seconds:.2f} clips a second, {work / seconds:.0f} GFLOP/s")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="*", type=Path)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only-given", action="store_true", help="make no videos")
    args = parser.parse_args()
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: args.workers])
    torch.set_num_threads(args.workers)
    with tempfile.TemporaryDirectory() as folder:
        given = [found.path for found in find(args.folders) if isinstance(found, Source)]
        made = [] if args.only_given else make(Path(folder))
        decode([*given, *made], args.workers, args.rounds)
    print()
    for name, config in (("built-in network", STORYBOOK), ("Frozen in Time", PUBLISHED)):
        embed(name, config, args.rounds)
    square = torch.randn(2048, 2048)
    print(f"this machine's best: {2 * 2048**3 / 1e9 / spent(lambda: square @ square, 5)[0]:.0f} GFLOP/s")


if __name__ == "__main__":
    main()
