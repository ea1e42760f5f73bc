from __future__ import annotations

import math
from collections.abc import Callable
from itertools import product

import pytest
import torch
from torch import Tensor

from mezzotint.metric import GaussianKernel, PolynomialKernel, kernel_distance, kernel_distance_subsets

Draw = Callable[..., Tensor]
KERNELS = [PolynomialKernel(), PolynomialKernel(2, 0.3, 0.0), GaussianKernel(1.7)]


def _by_hand(a: Tensor, b: Tensor, k: Callable[[Tensor, Tensor], float]) -> float:
    n, m = len(a), len(b)
    own_a = sum(k(a[i], a[j]) for i, j in product(range(n), range(n)) if i != j)
    own_b = sum(k(b[i], b[j]) for i, j in product(range(m), range(m)) if i != j)
    cross = sum(k(x, y) for x, y in product(a, b))
    return own_a / (n * (n - 1)) + own_b / (m * (m - 1)) - 2 * cross / (n * m)


@pytest.mark.parametrize(
    ("kernel", "formula"),
    [
        (KERNELS[0], lambda x, y: (float(x @ y) / 3 + 1) ** 3),
        (KERNELS[1], lambda x, y: (0.3 * float(x @ y)) ** 2),
        (KERNELS[2], lambda x, y: math.exp(-float((x - y).square().sum()) / (2 * 1.7**2))),
    ],
)
def test_it_is_the_double_sum(kernel: PolynomialKernel, formula: Callable[..., float], draw: Draw) -> None:
    a, b = draw(9, 3), draw(7, 3) + 0.5
    value, error = kernel_distance(a, b, kernel)
    assert value == pytest.approx(_by_hand(a, b, formula), rel=1e-12)
    variance = 0.0
    for own, distance in ((a, lambda x: _by_hand(x, b, formula)), (b, lambda x: _by_hand(a, x, formula))):
        n = len(own)
        left = torch.tensor([distance(torch.cat([own[:i], own[i + 1 :]])) for i in range(n)], dtype=torch.float64)
        variance += float((left - left.mean()).square().sum()) * (n - 1) / n
    assert error == pytest.approx(math.sqrt(variance), rel=1e-9)


def test_linear_kernel_is_the_distance_of_the_means_less_its_bias(draw: Draw) -> None:
    a, b = draw(40, 6), 2 * draw(50, 6) + 1
    want = (a.mean(0) - b.mean(0)).square().sum() - torch.cov(a.T).trace() / 40 - torch.cov(b.T).trace() / 50
    assert kernel_distance(a, b, PolynomialKernel(1, 1.0, 0.0)).value == pytest.approx(float(want), rel=1e-10)


def test_gaussians_have_their_known_distance(draw: Draw) -> None:
    """E k(x, y) for x - y ~ N(m, v) under a Gaussian kernel of width w: w / sqrt(w^2 + v) exp(-m^2 / (2 (w^2 + v)))."""
    width, mean = 1.5, 1.0

    def expected(m: float, v: float) -> float:
        return width / math.sqrt(width**2 + v) * math.exp(-(m**2) / (2 * (width**2 + v)))

    truth = 2 * expected(0, 2) - 2 * expected(mean, 2)
    far = [
        (estimate.value - truth) / (estimate.error or 0)
        for estimate in (kernel_distance(draw(200, 1), draw(200, 1) + mean, GaussianKernel(width)) for _ in range(60))
    ]
    score = torch.tensor(far)
    assert abs(float(score.mean())) < 4 / 60**0.5 and 0.7 < float(score.std()) < 1.3


def test_blocks_change_nothing(draw: Draw, monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = draw(70, 3), draw(30, 3)
    whole = kernel_distance(a, b)
    monkeypatch.setattr("mezzotint.metric.kernel._ENTRIES", 64)
    assert kernel_distance(a, b) == pytest.approx(whole, rel=1e-12)


def test_invariances(draw: Draw) -> None:
    a, b = draw(30, 4), draw(40, 4) + 0.3
    turn, _ = torch.linalg.qr(draw(4, 4))
    for kernel in KERNELS:
        base = kernel_distance(a, b, kernel)
        assert kernel_distance(b, a, kernel) == pytest.approx(base, rel=1e-9)
        assert kernel_distance(a @ turn, b @ turn, kernel) == pytest.approx(base, rel=1e-9)
        assert kernel_distance(a.float(), b.float(), kernel) == pytest.approx(base, rel=1e-4)
    assert kernel_distance(a + 9, b + 9, KERNELS[2]) == pytest.approx(kernel_distance(a, b, KERNELS[2]), rel=1e-9)


def test_subsets_are_functions_of_the_seed(draw: Draw) -> None:
    a, b = draw(60, 4), draw(80, 4) + 0.5
    one = kernel_distance_subsets(a, b, subsets=20, size=30, seed=1)
    assert one == kernel_distance_subsets(a, b, subsets=20, size=30, seed=1)
    assert one != kernel_distance_subsets(a, b, subsets=20, size=30, seed=2)
    whole = kernel_distance(a[:60], b[:60])
    assert kernel_distance_subsets(a, b[:60], subsets=3, size=60).value == pytest.approx(whole.value, rel=1e-9)
    assert kernel_distance_subsets(a, b[:60], subsets=3, size=60).error == pytest.approx(0, abs=1e-12)
    many = kernel_distance_subsets(a, b, subsets=400, size=30)
    assert many.value == pytest.approx(kernel_distance(a, b).value, abs=5 * (many.error or 0) / 20)


@pytest.mark.usefixtures("unchecked")
def test_bad_arguments(draw: Draw) -> None:
    a = draw(4, 3)
    with pytest.raises(ValueError, match="two rows"):
        kernel_distance(a[:1], a)
    with pytest.raises(ValueError, match="3 and 2"):
        kernel_distance(a, a[:, :2])
    with pytest.raises(ValueError, match="2 to 4 rows"):
        kernel_distance_subsets(a, a, size=5)
    with pytest.raises(ValueError, match="width"):
        GaussianKernel(0)
    assert kernel_distance(a[:2], a).error is None
