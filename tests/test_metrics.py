"""Metrics against the reference's numbers and against cases with known answers."""

import golden_weights as golden
import pytest
import torch

from models import metrics


@pytest.fixture(scope="module")
def reference():
    return golden.load("fvd")


def test_frechet_and_kernel_distance_are_the_reference_ones(reference):
    pairs = {
        "64x40_80x40": (golden.randn(70, 64, 40), golden.randn(71, 80, 40) * 1.3 + 0.2),
        "300": (golden.randn(72, 300, 40), golden.randn(73, 300, 40) * 1.1 - 0.1),
    }
    for name, (x, y) in pairs.items():
        assert metrics.frechet_distance(x, y) == pytest.approx(reference[f"fvd_{name}"].item(), rel=1e-3)
        assert metrics.kernel_distance(x, y) == pytest.approx(reference[f"kvd_{name}"].item(), rel=1e-6)


def test_frechet_distance_of_two_gaussians_is_the_one_on_paper():
    x = golden.randn(0, 200_000, 2)
    y = golden.randn(1, 200_000, 2) * 2 + torch.tensor([3.0, 0.0])
    assert metrics.frechet_distance(x, y) == pytest.approx(9 + 2 * (2 - 1) ** 2, rel=0.02)


def test_frechet_distance_works_with_fewer_samples_than_features():
    x = golden.randn(0, 10, 40)
    assert metrics.frechet_distance(x, x) == pytest.approx(0, abs=1e-5)
    assert metrics.frechet_distance(x, x + 1) == pytest.approx(40, rel=1e-5)


def test_cosine_compares_every_row_with_every_row():
    a = torch.tensor([[3.0, 0.0], [0.0, 0.0]])
    b = torch.tensor([[1.0, 0.0], [0.0, 2.0], [-1.0, 0.0]])
    assert metrics.cosine(a, b).tolist() == [[1, 0, -1], [0, 0, 0]]


def test_text_to_video_ranks_the_true_video():
    similarity = torch.tensor([[0.9, 0.1, 0.0], [0.5, 0.4, 0.3], [0.7, 0.7, 0.7]])
    scores = metrics.text_to_video(similarity)  # ranks 1, 2 and, tied, 1
    assert scores.r1 == pytest.approx(200 / 3)
    assert scores.r5 == 100
    assert (scores.median_rank, scores.mean_rank) == (1, pytest.approx(4 / 3))
    assert scores.geometric_mean == pytest.approx((200 / 3 * 100 * 100) ** (1 / 3))


def test_text_to_video_takes_several_texts_per_video():
    similarity = torch.tensor([[0.9, 0.1], [0.1, 0.9], [0.1, 0.9]])
    assert metrics.text_to_video(similarity, torch.tensor([0, 0, 1])).r1 == pytest.approx(200 / 3)
