"""What a character costs: the same clip with the teddy bear that ships and with its class word alone, in turn.

    python tests/benchmarks/bench_character.py

Takes two minutes on two cores. Prints the median seconds of each and their ratio.
"""

import argparse
import statistics
import time

import numpy as np

from storycli import catalogue
from storycli.config import EXAMPLES
from storycli.depth import estimator
from storycli.media import video
from storycli.render import Renderer
from storycli.retrieve import Library

SCENE = "walking in a snowy forest, storybook style"


def guide(model: catalogue.Model) -> np.ndarray:
    """The depth (f,h,w) of a clip of the built-in library."""
    clip = Library(None).search(f"an animal {SCENE}", 1)[0].clip
    frames = video.read_middle(clip.path, model.frames, model.fps, model.sampled)
    return estimator("storybook", "auto").estimate(frames)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=7, help="of each kind, after one that warms up")
    args = parser.parse_args()
    model, renderer = catalogue.named("storybook"), Renderer("storybook")
    depth = guide(model)
    how = dict(steps=model.steps, sampler=model.sampler, guidance=model.guidance, tau=model.tau)
    kinds = {
        "with the character": (f"a {{teddy}} {SCENE}", {"teddy": EXAMPLES / "teddy" / "character.safetensors"}),
        "with its class word": (f"a teddy bear {SCENE}", {}),
    }
    took: dict[str, list[float]] = {kind: [] for kind in kinds}
    for seed in range(args.clips + 1):
        for kind, (prompt, cast) in kinds.items():
            started = time.perf_counter()
            renderer.render(prompt, depth, seed=seed, characters=cast, **how)
            took[kind].append(time.perf_counter() - started)
    medians = [statistics.median(seconds[1:]) for seconds in took.values()]
    for kind, median in zip(kinds, medians, strict=True):
        print(f"{kind:20} {median:6.2f} s")
    print(f"{'ratio':20} {medians[0] / medians[1]:6.2f}")


if __name__ == "__main__":
    main()
