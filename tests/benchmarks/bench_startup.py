"""What ``storycli --help`` costs the processor, as a multiple of ``import typer`` in the same run."""

import argparse
import subprocess
import sys
from resource import RUSAGE_CHILDREN, getrusage


def fastest(code: str, rounds: int) -> float:
    """Processor seconds of the cheapest of some runs of a program."""
    spent = [0.0]
    for _ in range(rounds):
        subprocess.run([sys.executable, "-c", code], stdout=subprocess.DEVNULL, check=True)
        usage = getrusage(RUSAGE_CHILDREN)
        spent.append(usage.ru_utime + usage.ru_stime)
    return min(after - before for before, after in zip(spent, spent[1:], strict=False))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    rounds = parser.parse_args().rounds
    typer = fastest("import typer", rounds)
    ours = fastest("from storycli.cli import app; app(['--help'])", rounds)
    print(f"import typer {typer * 1000:.0f} ms, storycli --help {ours * 1000:.0f} ms: {ours / typer:.2f} times")
