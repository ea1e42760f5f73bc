"""The linear probe against known answers."""

from __future__ import annotations

import math

import pytest
import torch

from mezzotint.core import Noise
from mezzotint.metric.probe import linear_probe


def _pairs(apart: float, count: int = 8000) -> tuple[torch.Tensor, torch.Tensor]:
    """Two classes whose normal features lie `apart` standard deviations from each other, in one direction of five."""
    labels = torch.arange(count) % 2
    x = Noise([0])("x", 0, (count, 5), dtype=torch.float64)[0]
    x[:, 2] += apart * labels
    return x, labels


@pytest.mark.parametrize("apart", [0.0, 1.0, 3.0])
def test_it_reaches_the_best_rule_of_two_normals(apart: float) -> None:
    x, y = _pairs(apart)
    best = 0.5 * (1 + math.erf(apart / 2 / math.sqrt(2)))  # Phi(apart / 2)
    assert linear_probe(x[:6000], y[:6000], x[6000:], y[6000:]) == pytest.approx(best, abs=0.03)


def test_scale_and_place_of_a_feature_do_not_matter() -> None:
    x, y = _pairs(2.0, 600)
    plain = linear_probe(x[:400], y[:400], x[400:], y[400:])
    moved = x * torch.tensor([1e-4, 1.0, 1e3, 5.0, 1.0], dtype=x.dtype) + 7
    assert linear_probe(moved[:400], y[:400], moved[400:], y[400:]) == plain
    constant = torch.cat([x, torch.ones(600, 1, dtype=x.dtype)], 1)  # a feature that says nothing
    assert linear_probe(constant[:400], y[:400], constant[400:], y[400:]) == plain


def test_wrong_calls(unchecked) -> None:
    x, y = _pairs(1.0, 10)
    for bad in ((x, y[:5], x, y), (x, y, x[:0], y[:0]), (x[:1], y[:1], x, y)):
        with pytest.raises(ValueError, match="equal lengths"):
            linear_probe(*bad)
    with pytest.raises(ValueError, match="ridge"):
        linear_probe(x, y, x, y, ridge=0.0)
