"""One clip for each plot of a film: all plots are served together, and no clip comes twice."""

from collections.abc import Sequence

import numpy as np

from storycli.story import Candidate


def assign(candidates: Sequence[Sequence[Candidate]]) -> list[Candidate]:
    """One candidate for each plot of a film, with the largest sum of scores and no clip twice.

    ``candidates`` holds those of each plot, none empty. When there are too few clips for that, some are used again, as
    few times as can be.
    """
    from scipy.optimize import linear_sum_assignment

    if not candidates:
        return []
    n = len(candidates)
    column = {key: i for i, key in enumerate(dict.fromkeys(c.clip.id for plot in candidates for c in plot))}
    again = 2.0 * n + 1  # costs more than all scores of a film can bring
    never = 2 * n * n * again
    cost = np.full((n, len(column)), never)
    for plot, row in zip(candidates, cost, strict=True):
        for candidate in plot:
            row[column[candidate.clip.id]] = -candidate.score
    for copies in range(1, n + 1):
        rounds = np.concatenate([cost + again * i for i in range(copies)], axis=1)
        plots, chosen = linear_sum_assignment(rounds)
        if len(plots) == n and rounds[plots, chosen].max() < never / 2:
            break
    keys = [list(column)[i % len(column)] for i in chosen]
    return [next(c for c in plot if c.clip.id == key) for plot, key in zip(candidates, keys, strict=True)]
