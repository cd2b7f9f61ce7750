"""Which tau suits a plot, and whether a clip has to be taken again: decided by looking at clips.

A high tau lets a character have its own outline, a low one keeps the layout and the motion of the guide. A few small
clips tell which is best. A clip that comes out unlike its character or its guide can be rendered again, with other
noise.
"""

import logging
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from storycli.judge import Judge, Scores
from storycli.story import Take

log = logging.getLogger(__name__)

TAUS = (0.0, 0.2, 0.4, 0.6)
UNSEEN = 0.2  # where nobody sees which is best
FRAMES, STEPS = 4, 8  # of a rehearsal
KEPT = 0.85  # of the structure that tau 0 keeps, another tau has to keep
GATE = 0.75  # of ``consistency``
Render = Callable[..., np.ndarray]  # (depth, seed=, steps=, tau=, progress=) -> frames uint8 (f,H,W,3)


def perform(
    render: Render, judge: Judge, prompt: str, cast: Mapping[str, Path], depth: np.ndarray, take: Take
) -> np.ndarray:
    """A clip as ``take`` asks for it: with the tau that suits it, and rendered again where it failed.

    ``cast`` gives the weights of each character, which lie with its pictures. A blind judge looks at the motion alone.
    """
    likenesses = [] if judge.blind else [judge.likeness(path.parent) for path in cast.values()]
    sentence = prompt.replace("{", "").replace("}", "")

    def scored(frames: np.ndarray, guide: np.ndarray) -> Scores:
        return judge.scores(frames, guide, sentence, likenesses)

    tau = take.tau
    if tau == "auto":
        tau = UNSEEN if judge.blind else best_tau(render, scored, depth, take.seed)
    takes = []
    for again in range(take.retries + 1):
        frames = render(depth, seed=(take.seed + again) % 2**63, steps=take.steps, tau=tau)
        if not take.retries:
            return frames
        takes.append((consistency(scored(frames, depth)), -again, frames))
        log.info("take %d: consistency %.3f", again + 1, takes[-1][0])
        if takes[-1][0] >= GATE:
            break
    return max(takes, key=lambda one: one[:2])[2]


def best_tau(render: Render, scored: Callable[[np.ndarray, np.ndarray], Scores], depth: np.ndarray, seed: int) -> float:
    """The tau that shows the character best (or, without one, the prompt) among those that keep the structure."""
    guide = depth[np.linspace(0, len(depth) - 1, min(FRAMES, len(depth))).round().astype(int)]
    found = {tau: scored(render(guide, seed=seed, steps=STEPS, tau=tau, progress=None), guide) for tau in TAUS}
    whole = found[TAUS[0]].structure
    keeps = [tau for tau in TAUS if found[tau].structure >= min(whole, KEPT * whole)]
    best = max(keeps, key=lambda tau: found[tau].prompt if found[tau].identity is None else found[tau].identity)
    log.info("tau %s of %s", best, found)
    return best


def consistency(scores: Scores) -> float:
    """How far a clip is what it should be, in 0 ... 1: the lesser of identity and structure."""
    return min(scores.structure, 1.0 if scores.identity is None else scores.identity)
