from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from mezzotint.metric import Moments, frechet_distance, frechet_error, frechet_gaussians

Draw = Callable[..., Tensor]


def test_batches_and_merges_are_the_whole_set(draw: Draw) -> None:
    rows = draw(50, 4) @ draw(4, 4) + 5
    parts = [Moments(part) for part in rows.split([1, 17, 20, 12])]
    merged = Moments().merge(parts[0]).merge(parts[1]).merge(Moments().merge(parts[2]).merge(parts[3]))
    streamed = Moments()
    for part in rows.split(7):
        streamed.update(part)
    for moments in (merged, streamed):
        assert moments.count == 50
        torch.testing.assert_close(moments.mean, rows.mean(0), atol=1e-12, rtol=0)
        torch.testing.assert_close(moments.cov, torch.cov(rows.T), atol=1e-12, rtol=0)
    assert parts[0].count == 1 and parts[3].count == 12  # what is merged in stays as it was


def test_moments_of_someone_else_are_taken_as_they_are_and_go_on(draw: Draw) -> None:
    rows = draw(30, 3)
    given = Moments.of(rows[:20].mean(0), torch.cov(rows[:20].T), 20)
    torch.testing.assert_close(given.cov, torch.cov(rows[:20].T), atol=1e-12, rtol=0)
    torch.testing.assert_close(given.update(rows[20:]).cov, torch.cov(rows.T), atol=1e-12, rtol=0)


def test_nothing_cancels_far_from_zero(draw: Draw) -> None:
    rows = draw(1000, 3)
    far = Moments()
    for part in (rows + 2.0**26).split(100):  # E[x^2] - E[x]^2 would keep no digit here
        far.update(part)
    torch.testing.assert_close(far.cov, torch.cov(rows.T), atol=1e-6, rtol=0)


@pytest.mark.usefixtures("unchecked")
def test_what_is_no_moment() -> None:
    with pytest.raises(ValueError, match=r"call update\(features\)"):
        _ = Moments().mean
    with pytest.raises(ValueError, match="have seen 1"):
        _ = Moments(torch.zeros(1, 2)).cov
    with pytest.raises(ValueError, match="3 numbers a row after 2"):
        Moments(torch.zeros(4, 2)).update(torch.zeros(4, 3))
    with pytest.raises(ValueError, match="NaN"):
        Moments(torch.full((4, 2), torch.nan))
    with pytest.raises(ValueError, match=r"\(d,\) and \(d, d\)"):
        Moments.of(torch.zeros(3), torch.eye(2), 10)
    with pytest.raises(ValueError, match="with rows"):
        Moments(torch.zeros(0, 2))


def test_error_is_the_jackknifes(draw: Draw) -> None:
    """Leave each row out in turn: what the one formula saves."""
    a, b = draw(150, 3) @ draw(3, 3), 1.5 * draw(200, 3) + torch.tensor([0.5, 0.0, -1.0])
    variance = 0.0
    for own, distance in ((a, lambda x: frechet_distance(x, b)), (b, lambda x: frechet_distance(a, x))):
        n = len(own)
        values = torch.tensor([distance(torch.cat([own[:i], own[i + 1 :]])) for i in range(n)], dtype=torch.float64)
        variance += float((values - values.mean()).square().sum()) * (n - 1) / n
    assert frechet_error(a, b) == pytest.approx(variance**0.5, rel=0.05)
    assert frechet_error(b, a) == pytest.approx(frechet_error(a, b), rel=1e-9)


def test_error_covers_the_spread_of_new_samples(draw: Draw) -> None:
    """On Gaussians whose distance is known: N(0, 1) and N(2, 4) have 4 + 1; the estimate's own bias is far smaller."""
    truth = frechet_gaussians(*(torch.tensor(v).double() for v in ([0.0], [[1.0]], [2.0], [[4.0]])))
    values, errors = [], []
    for _ in range(200):
        a, b = draw(400, 1), 2 * draw(400, 1) + 2
        values.append(frechet_distance(a, b))
        errors.append(frechet_error(a, b))
    assert truth == pytest.approx(5.0)
    spread = torch.tensor(values).std()
    assert float(torch.tensor(errors).mean() / spread) == pytest.approx(1, abs=0.15)
    assert abs(float(torch.tensor(values).mean()) - truth) < 4 * float(spread) / 200**0.5 + 2 / 400


def test_error_needs_more_rows_than_features(draw: Draw) -> None:
    with pytest.raises(ValueError, match="singular"):
        frechet_error(draw(5, 8), draw(30, 8))
