from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from mezzotint.core import Noise
from mezzotint.metric import auprc, auroc, best_possible_dice, calibration_error, coverage, dice, spread_correlation

Draw = Callable[..., Tensor]


def test_calibration_error_by_hand() -> None:
    p = torch.tensor([0.05, 0.15, 0.95, 0.85, 1.0])
    t = torch.tensor([0, 1, 1, 1, 0])
    # two bins: mean 0.1 against 0.5, and 2.8/3 against 2/3
    assert calibration_error(p, t, bins=2) == pytest.approx(2 / 5 * 0.4 + 3 / 5 * (2.8 / 3 - 2 / 3), abs=1e-7)


def test_calibrated_probabilities_have_next_to_no_error_and_overconfident_ones_their_own() -> None:
    u = Noise([0]).uniform("p", 0, (2, 40000), dtype=torch.float64)[0]
    p, t = u[0], u[1] < u[0]
    assert calibration_error(p, t) < 0.02
    sure = (p > 0.5).double()  # right with probability 3/4
    assert calibration_error(sure, t) == pytest.approx(0.25, abs=0.01)


def test_coverage_of_normal_intervals(draw: Draw) -> None:
    truth = draw(2, 20000)
    half = torch.tensor([[1.0], [1.6449]]).expand(2, 20000)
    got = coverage(-half, half, truth)
    assert got[0].item() == pytest.approx(0.6827, abs=0.01) and got[1].item() == pytest.approx(0.9, abs=0.01)


def test_correlation_of_spread_with_error(draw: Draw) -> None:
    spread = draw(1, 400).abs()
    assert spread_correlation(spread, -(spread**3)).item() == pytest.approx(1)
    assert spread_correlation(spread, 1 / spread).item() == pytest.approx(-1)
    assert abs(spread_correlation(spread, draw(1, 400)).item()) < 3 / 20
    assert spread_correlation(spread, -2 * spread, "pearson").item() == pytest.approx(1)
    assert torch.isnan(spread_correlation(torch.ones(1, 5), torch.arange(5.0)[None])).item()
    stats = pytest.importorskip("scipy.stats", reason="scipy is not installed (extra [metrics])")
    a, b = (draw(1, 60) * 3).round(), (draw(1, 60) * 3).round()  # with ties
    assert spread_correlation(a, b).item() == pytest.approx(stats.spearmanr(a[0], b[0].abs()).statistic)


def test_areas_of_random_scores() -> None:
    """A score that knows nothing: average precision is the prevalence, the other area 1/2, within 3 standard errors.

    Of n cases with P positives in random order, E[AP] = q + (1 - q) H_n / n with q = (P - 1)/(n - 1).
    """
    n, draws, share = 2000, 40, 0.2
    u = Noise(range(draws)).uniform("score", 0, (2, n), dtype=torch.float64)
    truth = u[:, 1] < share
    q = (truth.sum(1) - 1) / (n - 1)
    want = q + (1 - q) * sum(1 / k for k in range(1, n + 1)) / n
    areas = torch.tensor([[auprc(s, t), auroc(s, t)] for s, t in zip(u[:, 0], truth, strict=True)])
    gaps = areas - torch.stack([want, torch.full_like(want, 0.5)], 1)
    assert (gaps.mean(0).abs() < 3 * gaps.std(0) / draws**0.5).all()
    assert abs(float(areas[:, 0].mean()) - share) < 0.01


def test_areas_by_counting_pairs_and_thresholds(draw: Draw) -> None:
    score, truth = (draw(50) * 2).round(), draw(50) > 0.4  # ties
    gaps = score[truth][:, None] - score[~truth][None]
    assert auroc(score, truth) == pytest.approx(float((gaps > 0).double().mean() + (gaps == 0).double().mean() / 2))
    area, recall_before, best = 0.0, 0.0, 0.0
    for level in sorted(set(score.tolist()), reverse=True):
        taken = score >= level
        recall = float((taken & truth).sum() / truth.sum())
        area, recall_before = area + (recall - recall_before) * float((taken & truth).sum() / taken.sum()), recall
        best = max(best, dice(taken[None], truth[None]).item())
    assert auprc(score, truth) == pytest.approx(area)
    found = best_possible_dice(score, truth)
    assert found.value == pytest.approx(best)
    assert dice((score >= found.threshold)[None], truth[None]).item() == pytest.approx(best)
    assert auroc(truth.double(), truth) == auprc(truth.double(), truth) == 1


@pytest.mark.usefixtures("unchecked")
def test_bad_arguments() -> None:
    x = torch.tensor([0.2, 0.8])
    for call, words in (
        (lambda: calibration_error(2 * x, x > 0.5), "outside"),
        (lambda: calibration_error(x, x), "0 and 1"),
        (lambda: calibration_error(x, x > 0.5, bins=0), "bins"),
        (lambda: coverage(x[None], -x[None], x[None]), "above"),
        (lambda: spread_correlation(x[None], x[None], "kendall"), "kind"),  # type: ignore[arg-type]
        (lambda: auroc(x, x > 1), "positives and negatives"),
        (lambda: auprc(x * torch.nan, x > 0.5), "NaN"),
        (lambda: auroc(x, x[:1] > 0.5), "equal shapes"),
    ):
        with pytest.raises(ValueError, match=words):
            call()
