"""How good are the results: distances between sets of videos, similarities, and retrieval scores."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


def cosine(a: Tensor, b: Tensor) -> Tensor:
    """Cosine similarity of every row of a (n, d) with every row of b (m, d): (n, m)."""
    return F.normalize(a, dim=-1, eps=1e-8) @ F.normalize(b, dim=-1, eps=1e-8).T


def frechet_distance(x: Tensor, y: Tensor) -> float:
    """Frechet distance of features (n, d) and (m, d); FVD of I3D logits (Unterthiner et al. 2019).

    |mean_x - mean_y|^2 + tr(C_x + C_y - 2 sqrt(sqrt(C_x) C_y sqrt(C_x))), with unbiased covariances, in float64.
    """
    x, y = x.double(), y.double()
    cov_x, cov_y = torch.cov(x.T), torch.cov(y.T)
    root_x = _symmetric_root(cov_x)
    # The trace of a symmetric root is the sum of the roots of the eigenvalues.
    cross = torch.linalg.eigvalsh(root_x @ cov_y @ root_x).clamp(min=0).sqrt().sum()
    return ((x.mean(0) - y.mean(0)).square().sum() + cov_x.trace() + cov_y.trace() - 2 * cross).item()


def _symmetric_root(matrix: Tensor) -> Tensor:
    values, vectors = torch.linalg.eigh(matrix)
    return vectors * values.clamp(min=0).sqrt() @ vectors.T


def kernel_distance(x: Tensor, y: Tensor) -> float:
    """Unbiased squared MMD of features (n, d) and (m, d), kernel (x.y / d + 1)^3; KVD of I3D logits."""
    x, y = x.double(), y.double()

    def kernel(a: Tensor, b: Tensor) -> Tensor:
        return (a @ b.T / a.shape[1] + 1) ** 3

    def mean_off_diagonal(k: Tensor) -> Tensor:
        return (k.sum() - k.trace()) / (len(k) * (len(k) - 1))

    return (mean_off_diagonal(kernel(x, x)) + mean_off_diagonal(kernel(y, y)) - 2 * kernel(x, y).mean()).item()


@dataclass(frozen=True, kw_only=True, slots=True)
class RetrievalScores:
    """Recalls in percent, ranks from 1, and the geometric mean of R1, R5 and R10."""

    r1: float
    r5: float
    r10: float
    r50: float
    median_rank: float
    mean_rank: float
    geometric_mean: float


def text_to_video(similarity: Tensor, video_of: Tensor | None = None) -> RetrievalScores:
    """Scores of finding each text's video: similarity (texts, videos), video_of (texts,) or the diagonal.

    A video that ties with the true one counts as behind it, as in the published evaluation.
    """
    video_of = torch.arange(len(similarity)) if video_of is None else video_of
    true = similarity.gather(1, video_of[:, None])
    return _scores((similarity > true).sum(1).double() + 1)


def _scores(ranks: Tensor) -> RetrievalScores:
    r1, r5, r10, r50 = (100 * (ranks <= k).double().mean().item() for k in (1, 5, 10, 50))
    return RetrievalScores(
        r1=r1,
        r5=r5,
        r10=r10,
        r50=r50,
        median_rank=ranks.quantile(0.5).item(),
        mean_rank=ranks.mean().item(),
        geometric_mean=(r1 * r5 * r10) ** (1 / 3),
    )
