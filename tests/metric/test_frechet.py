from __future__ import annotations

import pytest
import torch
from torch import Tensor

from mezzotint.metric import frechet_distance, frechet_gaussians


def _normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def _features(mean: Tensor, cov: Tensor, n: int, seed: int = 0) -> Tensor:
    """n rows whose sample mean and unbiased covariance are exactly the given ones."""
    rows = _normal(n, len(mean), seed=seed)
    rows = rows - rows.mean(0)
    white = torch.linalg.solve_triangular(
        torch.linalg.cholesky(rows.T @ rows / (n - 1)), rows.T, upper=False
    )  # identity covariance
    return (torch.linalg.cholesky(cov) @ white).T + mean


def _cov(d: int, seed: int) -> Tensor:
    root = _normal(d, d, seed=seed)
    return root @ root.T / d + 0.1 * torch.eye(d, dtype=torch.float64)


def test_features_of_known_gaussians_give_the_known_distance() -> None:
    a, b = torch.tensor([1.0, 4.0, 9.0]).double(), torch.tensor([4.0, 1.0, 16.0]).double()
    mean = torch.tensor([1.0, -2.0, 0.5]).double()
    want = float(mean.square().sum() + (a.sqrt() - b.sqrt()).square().sum())
    got = frechet_distance(_features(0 * mean, a.diag(), 50), _features(mean, b.diag(), 70, seed=1))
    assert got == pytest.approx(want, abs=1e-10)


def test_covariances_that_do_not_commute() -> None:
    # a symmetric positive map T is the optimal transport of N(0, S) to N(0, T S T): E|x - T x|^2 is the distance
    s, t = _cov(6, 1), _cov(6, 2)
    eye, zero = torch.eye(6, dtype=torch.float64), torch.zeros(6, dtype=torch.float64)
    want = float(((eye - t) @ s @ (eye - t)).trace())
    assert frechet_gaussians(zero, s, zero, t @ s @ t) == pytest.approx(want, rel=1e-9)
    assert not torch.allclose(s @ t, t @ s)


def test_invariances() -> None:
    a, b = _normal(40, 5, seed=1), 2 * _normal(60, 5, seed=2) + 0.3
    turn, _ = torch.linalg.qr(_normal(5, 5, seed=3))
    base = frechet_distance(a, b)
    assert frechet_distance(b, a) == pytest.approx(base, rel=1e-10)
    assert frechet_distance(a @ turn + 7, b @ turn + 7) == pytest.approx(base, rel=1e-9)
    assert frechet_distance(3 * a, 3 * b) == pytest.approx(9 * base, rel=1e-10)
    assert frechet_distance(a[torch.randperm(40, generator=torch.Generator().manual_seed(0))], b) == pytest.approx(base)
    assert frechet_distance(a.float(), b.float()) == pytest.approx(base, rel=1e-5)


def test_fewer_rows_than_features_and_a_set_with_itself() -> None:
    a = _normal(8, 30)
    assert frechet_distance(a, a) == pytest.approx(0, abs=1e-5)
    assert frechet_distance(a, a + 1) == pytest.approx(30, rel=1e-6)


@pytest.mark.parametrize(
    ("a", "b", "message"),
    [
        (torch.zeros(1, 3), torch.zeros(4, 3), "two rows"),
        (torch.zeros(4, 3), torch.zeros(4, 2), "3 and 2"),
        (torch.full((4, 3), torch.nan), torch.zeros(4, 3), "features_a has NaN"),
    ],
)
@pytest.mark.usefixtures("unchecked")
def test_bad_features(a: Tensor, b: Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        frechet_distance(a, b)
