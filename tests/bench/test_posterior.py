"""The table of posterior errors: what its columns are, and what must stand in it."""

from __future__ import annotations

import math

import pytest
import torch

from mezzotint.bench.posterior import EXACT, METHODS, OPERATORS, PRIORS, posterior_table
from mezzotint.core import uniform_lambda
from mezzotint.restore import MomentMatching, PiGDM, REDDiff, Restorer
from mezzotint.restore.operators import LinearOperator


def test_every_method_on_a_mask():
    rows = posterior_table(
        samples=60, measurements=2, steps=8, priors=["round Gaussian"], operators=["mask"], stds=[0.5]
    )
    told = {row.method: row for row in rows}
    assert set(told) == {EXACT, *METHODS}
    assert all(math.isfinite(q) for row in rows for q in (row.mean_error, row.cov_error, row.spread))
    assert told[EXACT].mean_error < 3 / math.sqrt(60) and 0.85 < told[EXACT].spread < 1.15
    assert told["PiGDM"].mean_error < 0.3 and told["PiGDM"].nfe == 8
    assert told["RePaint"].nfe == METHODS["RePaint"].nfe(8)  # type: ignore[attr-defined]
    assert told["REDDiff"].spread < told["PiGDM"].spread


def test_exact_methods_come_near_exact_samples():
    """Moment matching on any Gaussian; PiGDM told the wrong width is further off."""
    rows = posterior_table(
        samples=200, measurements=2, steps=60, priors=["smooth Gaussian"], operators=["denoise"], stds=[0.5],
        grid=uniform_lambda, methods={"moments": MomentMatching(5), "pigdm": PiGDM(data_std=0.25)},
    )  # fmt: skip
    exact, moments, other = rows
    assert moments.mean_error < 0.15 and moments.cov_error < exact.cov_error + 0.12 and 0.9 < moments.spread < 1.05
    assert other.mean_error > 1.5 * moments.mean_error


def test_a_point_estimate_is_told_by_its_row():
    class Middle(Restorer):
        """The mean of everything."""

        def __call__(self, d, operator, y, noise, **settings):
            return torch.zeros(len(y), 1, 2, 4, dtype=torch.float64)

    (_, row) = posterior_table(
        samples=20, measurements=2, priors=["mixture"], operators=["denoise"], stds=[0.05], methods={"zero": Middle()}
    )
    assert row.cov_error == pytest.approx(1.0) and row.spread == 0.0 and row.nfe == 0 and row.mean_error > 3


@pytest.mark.parametrize("name", OPERATORS)
def test_its_operators_and_priors_fit(name):
    operator = OPERATORS[name]()
    assert isinstance(operator, LinearOperator)
    for prior in PRIORS.values():
        assert prior().shape == (1, 2, 4)
    assert operator(torch.zeros(1, 1, 2, 4)).shape[0] == 1


@pytest.mark.slow
def test_the_whole_table_at_small_size():
    rows = posterior_table(samples=60, measurements=2, steps=30)
    assert len(rows) == len(PRIORS) * 2 * (len(OPERATORS) * (len(METHODS) + 1) - 2)  # RePaint takes two operators
    assert all(math.isfinite(row.mean_error) for row in rows)
    red = [row.spread for row in rows if row.method == "REDDiff"]
    assert REDDiff().spread is False and sum(q < 0.7 for q in red) > 0.8 * len(red)
