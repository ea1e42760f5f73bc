from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from mezzotint.metric import density_coverage, precision_recall

Draw = Callable[..., Tensor]


def _by_hand(made: Tensor, real: Tensor, k: int) -> tuple[float, float, float, float]:
    def radius(rows: Tensor, i: int) -> float:
        return sorted(math.dist(rows[i].tolist(), rows[j].tolist()) for j in range(len(rows)) if j != i)[k - 1]

    ball_made, ball_real = ([radius(rows, i) for i in range(len(rows))] for rows in (made, real))
    far = [[math.dist(x.tolist(), y.tolist()) for y in real] for x in made]
    inside = [[far[i][j] <= ball_real[j] for j in range(len(real))] for i in range(len(made))]
    precision = sum(any(row) for row in inside) / len(made)
    recall = sum(any(far[i][j] <= ball_made[i] for i in range(len(made))) for j in range(len(real))) / len(real)
    density = sum(map(sum, inside)) / (k * len(made))
    return precision, recall, density, sum(map(any, zip(*inside))) / len(real)


@pytest.mark.parametrize("k", [1, 3, 7])
def test_they_are_what_counting_gives(k: int, draw: Draw, monkeypatch: pytest.MonkeyPatch) -> None:
    made, real = draw(40, 3), 1.3 * draw(55, 3) + torch.tensor([2.0, 0.0, 0.0])
    monkeypatch.setattr("mezzotint.metric.manifold._ENTRIES", 110)  # two rows a block
    (precision, recall), (density, coverage) = precision_recall(made, real, k), density_coverage(made, real, k)
    got = precision.value, recall.value, density.value, coverage.value
    assert got == pytest.approx(_by_hand(made, real, k), abs=1e-12)
    assert 0 < min(got) and max(precision.value, recall.value, coverage.value) < 1


def test_constructed_sets() -> None:
    """Two clusters of reals; made samples in one of them and in a place of their own."""
    grid = torch.arange(5.0)
    real = torch.stack([torch.cat([grid, grid + 100]), torch.zeros(10)], 1)
    made = torch.stack([torch.cat([grid + 0.25, grid + 1000]), torch.zeros(10)], 1)
    (precision, recall), (density, coverage) = precision_recall(made, real, 1), density_coverage(made, real, 1)
    # balls of radius 1: 0.25 is within 1 of 0 and 1, up to 4.25 which is within 1 of 4 alone
    assert (precision.value, recall.value, coverage.value) == (0.5, 0.5, 0.5)
    assert density.value == pytest.approx((4 * 2 + 1) / 10)
    assert precision.error == pytest.approx(math.sqrt(0.25 / 10))


def test_a_set_with_itself(draw: Draw) -> None:
    """Each ball holds its centre and k neighbours, so density is (k + 1) / k."""
    rows = draw(60, 5)
    assert precision_recall(rows, rows)[0].value == precision_recall(rows, rows)[1].value == 1
    density, coverage = density_coverage(rows, rows, 4)
    assert density.value == pytest.approx(5 / 4) and coverage.value == 1
    far = rows + 1e6
    assert [e.value for e in (*precision_recall(rows, far), *density_coverage(rows, far))] == [0, 0, 0, 0]


def test_copies_and_points_on_an_edge_are_inside() -> None:
    """Distances that are equal on paper: a grid far from 0, whose balls end at other points of it."""
    side = torch.arange(6.0) + 1e4
    grid = torch.cartesian_prod(side, side)
    copies = torch.cat([grid, grid])  # the nearest neighbour is the copy: balls of radius 0
    assert precision_recall(grid, copies, 1).precision.value == 1
    assert density_coverage(grid, copies, 1).coverage.value == 1
    corner = grid[:1] - torch.tensor([1.0, 0.0])
    made = torch.cat([corner, corner - 50, corner - 90])
    assert density_coverage(made, grid, 2).density.value == pytest.approx(1 / 6)  # on the corner's edge, of 2 x 3


def test_invariances(draw: Draw) -> None:
    made, real = draw(50, 4), draw(50, 4) + 0.7
    turn, _ = torch.linalg.qr(draw(4, 4))
    base = (*precision_recall(made, real), *density_coverage(made, real))
    for change in (lambda x: x @ turn, lambda x: 7 * x - 300, lambda x: 1e-4 * x.flip(1)):
        assert (*precision_recall(change(made), change(real)), *density_coverage(change(made), change(real))) == base
    turned = precision_recall(real, made)
    assert (turned.recall.value, turned.precision.value) == (base[0].value, base[1].value)


def test_fewer_modes_cost_recall_and_coverage_and_wrong_ones_precision_and_density(draw: Draw) -> None:
    real = draw(300, 2) + 20 * torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]]).repeat(100, 1)
    one = draw(300, 2)
    dropped, added = precision_recall(one, real), precision_recall(real, one)
    assert dropped.precision.value > 0.9 and dropped.recall.value == pytest.approx(1 / 3, abs=0.02)
    assert added.recall.value > 0.9 and added.precision.value == pytest.approx(1 / 3, abs=0.02)
    assert density_coverage(one, real).coverage.value < 0.34 < 0.9 < density_coverage(one, real).density.value


@pytest.mark.usefixtures("unchecked")
def test_bad_arguments(draw: Draw) -> None:
    a = draw(4, 3)
    with pytest.raises(ValueError, match="at least 5 rows"):
        precision_recall(a, a, 4)
    with pytest.raises(ValueError, match="k=0"):
        density_coverage(a, a, 0)
    with pytest.raises(ValueError, match="real has NaN"):
        density_coverage(a, a * torch.nan, 1)
