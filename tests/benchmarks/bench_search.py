"""Search among a million clips, through the real index: what it finds, how fast, and in how much memory.

The vectors are made up: clips in clusters within clusters, with detail in all directions but not alike in all, inside
a cone; sentences about the same subjects inside another cone, because that is where text lies in the spaces of
retrieval networks. Captions are words of English, common ones more often.

    python tests/benchmarks/bench_search.py --rows 1000000 --folder /tmp/million

Needs 6 GB of disk, and builds the index only when the folder has none. Prints the time and memory of building; then, in
a process of its own, recall against exact search and times of warm searches; then the time of one ``storycli search``
with nothing of the index in the page cache.
"""

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from storycli.library.encoder import Encoder
from storycli.library.index import SENTENCE, TABLE, Index, Row
from storycli.library.sentences import minilm
from storycli.retrieve import POOL, Library

WIDTH = 256
BATCH = 20_000  # rows in one write
QUERIES = 100


class Space:
    """Unit vectors of clips and of sentences about the same subjects, as far apart as two modalities are.

    Two clips have a mean cosine of 0.43, as two sentences have; a clip and a sentence 0.09, and 0.45 when they fit.
    """

    def __init__(self, width: int, subjects: int = 1000, kinds: int = 20_000, seed: int = 0):
        rng = np.random.default_rng(seed)
        strength = (1 + np.arange(width)) ** -0.5
        turn = np.linalg.qr(rng.standard_normal((width, width)))[0]
        self.detail = (strength[:, None] / np.linalg.norm(strength) * turn).astype(np.float32)
        subject = self.noise(rng, subjects)
        self.kinds = subject[rng.zipf(1.3, kinds) % subjects] + np.float32(0.7) * self.noise(rng, kinds)
        clips, other = np.linalg.qr(rng.standard_normal((width, 2)))[0].T.astype(np.float32)
        self.axis = {"clips": clips, "sentences": np.float32(0.2) * clips + np.float32(0.98) * other}

    def noise(self, rng: np.random.Generator, count: int) -> np.ndarray:
        return rng.standard_normal((count, len(self.detail)), dtype=np.float32) @ self.detail

    def draw(self, rng: np.random.Generator, count: int, what: str, spread: float) -> np.ndarray:
        """(count, width) float32: ``clips`` or ``sentences``, each this far from the kind of thing that it shows."""
        own = self.kinds[rng.integers(len(self.kinds), size=count)] + np.float32(spread) * self.noise(rng, count)
        vectors = np.float32(0.65) * self.axis[what] + np.float32(0.76) * unit(own)
        return unit(vectors)


def unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def sentences(rng: np.random.Generator, count: int, length: int) -> list[str]:
    """Words in no order; MiniLM's vocabulary lists common ones first."""
    known = minilm().tokenizer.get_vocab()
    vocabulary = sorted((word for word in known if word.isascii() and word.isalpha() and len(word) > 2), key=known.get)
    chosen = rng.zipf(1.1, (count, length)) % len(vocabulary)
    return [" ".join(vocabulary[i] for i in row) for row in chosen]


def rows(count: int) -> Iterator[list[Row]]:
    """The rows of a library, some at a time."""
    rng = np.random.default_rng(1)
    seen, said = Space(WIDTH), Space(SENTENCE, seed=1)
    for start in range(0, count, BATCH):
        n = min(BATCH, count - start)
        visual, meant = seen.draw(rng, n, "clips", 0.6), said.draw(rng, n, "clips", 0.6)
        told, motion = sentences(rng, n, 10), rng.exponential(0.2, n)
        yield [
            dict(
                id=f"{start + i:032x}-0-48",
                path=f"/library/{start + i:08d}.mp4",
                digest=f"{start + i:064x}",
                size=2**20,
                modified=start + i,
                start=0,
                end=48,
                fps=24.0,
                width=640,
                height=360,
                seconds=2.0,
                motion=motion[i],
                shake=0.02,
                look=int(rng.integers(2**62)),
                caption=told[i],
                source="made up",
                licence="CC0",
                words=told[i],
                visual=visual[i],
                said=meant[i],
            )
            for i in range(n)
        ]


def build(folder: Path, count: int) -> None:
    """Fills an index as ``storycli index`` does, but for the decoding and the networks."""
    index = Index(folder, Encoder().identity)
    with told(f"{count} rows written"):
        for batch in rows(count):
            index.insert(batch)
    with told("sorted into parts, and words indexed"):
        index.tidy()
    with told("brought up to date with nothing new"):
        index.tidy()
    print(f"{sum(f.stat().st_size for f in folder.rglob('*') if f.is_file()) / 2**30:.2f} GiB on disk; {memory()}")


@contextmanager
def told(what: str) -> Iterator[None]:
    """Says how long something took, and how long cores worked for it."""
    start, worked = time.perf_counter(), time.process_time()
    yield
    took, worked = time.perf_counter() - start, time.process_time() - worked
    print(f"{what} in {took:.0f} s ({worked:.0f} s of one core)", flush=True)


def search(folder: Path) -> None:
    """Recall of the index with text queries, and the time of searches."""
    library, rng = Library(folder), np.random.default_rng(2)
    for column, space in (("visual", Space(WIDTH)), ("said", Space(SENTENCE, seed=1))):
        queries = space.draw(rng, QUERIES, "sentences", 0.8)
        find = partial(library.index.nearest, column, count=POOL)
        find(queries[0])
        found, took = timed(find, queries)
        exact = [find(query, exact=True) for query in queries]
        shares = ", ".join(f"recall@{k} {recall(found, exact, k):.3f}" for k in (10, POOL))
        print(f"{column}: {shares}; {took}", flush=True)
    asked = sentences(rng, QUERIES, 6)
    library.search(asked[0])
    _, took = timed(library.search, asked[1:])
    print(f"whole searches, with the text encoder: {took}; {memory()}", flush=True)


def timed(search: Callable[[Any], list], queries: Iterable[Any]) -> tuple[list[list], str]:
    """What a search finds for each query; and how long one takes, and how long a core works for it on average."""
    found, took, worked = [], [], time.process_time()
    for query in queries:
        start = time.perf_counter()
        found.append(search(query))
        took.append(time.perf_counter() - start)
    middle, late = np.quantile(took, [0.5, 0.95]) * 1000
    worked = (time.process_time() - worked) / len(found) * 1000
    return found, f"{middle:.0f} ms, 95 % within {late:.0f} ms ({worked:.0f} ms of one core)"


def recall(found: list[list[int]], exact: list[list[int]], k: int) -> float:
    """The share of the first ``k`` that are among the first ``k`` found."""
    return float(np.mean([len({*a[:k]} & {*b[:k]}) / k for a, b in zip(found, exact, strict=True)]))


def forget(folder: Path) -> None:
    """Asks the system to drop what it keeps of these files in memory."""
    for path in folder.rglob("*"):
        if path.is_file():
            file = os.open(path, os.O_RDONLY)
            os.fdatasync(file)
            os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(file)


def memory() -> str:
    return f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.2f} GiB"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--folder", type=Path, help="where the index is, or will be; by default a temporary folder")
    parser.add_argument("--only", choices=["build", "search"], help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.only:
        return build(args.folder, args.rows) if args.only == "build" else search(args.folder)
    with tempfile.TemporaryDirectory() as temporary:
        folder = args.folder or Path(temporary)
        again = [sys.executable, __file__, "--folder", str(folder), "--rows", str(args.rows), "--only"]
        if not (folder / f"{TABLE}.lance").is_dir():
            subprocess.run([*again, "build"], check=True)
        subprocess.run([*again, "search"], check=True)
        forget(folder)
        start = time.perf_counter()
        command = [sys.executable, "-m", "storycli", "search", "a dog running on the beach", "--index", str(folder)]
        subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
        print(f"one cold storycli search: {time.perf_counter() - start:.1f} s")


if __name__ == "__main__":
    main()
