"""Time grids against their formulas, from noise to data, on every schedule."""

from __future__ import annotations

import math

import pytest
import torch

from mezzotint.core import (
    VE,
    VP,
    Cosine,
    Discrete,
    Flow,
    Shifted,
    explicit,
    karras,
    quadratic,
    resolve_grid,
    trailing,
    uniform_lambda,
    uniform_t,
)

D = torch.float64
SCHEDULES = {
    "vp": VP(),
    "steep vp": VP(0.1, 30.0),
    "cosine": Cosine(),
    "ve": VE(),
    "flow": Flow(),
    "discrete": Discrete.scaled_linear(),
    "discrete cosine": Discrete.cosine(),
    "shifted": Shifted(VP(), 2.0),
}
every = pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)


@every
@pytest.mark.parametrize("grid", [uniform_t, quadratic, trailing, uniform_lambda, karras])
@pytest.mark.parametrize("steps", [1, 2, 7, 50])
def test_grids_fall_strictly_from_one_to_zero(schedule, grid, steps):
    t = grid(schedule, steps)
    assert t.dtype == D and len(t) == steps + 1 and t[0] == 1 and t[-1] == 0
    assert bool((t[1:] < t[:-1]).all())


def test_uniform_and_quadratic_are_their_formulas():
    i = torch.arange(5, dtype=D) / 4
    torch.testing.assert_close(uniform_t(VP(), 4), 1 - i, rtol=0, atol=1e-15)
    torch.testing.assert_close(quadratic(VP(), 4), (1 - i) ** 2, rtol=0, atol=1e-15)


def test_trailing_lies_on_the_integer_steps():
    """arXiv 2305.08891, table 2: 1000 steps in 10 are 999, 899, ..., 99, counted from 0."""
    schedule = Discrete.linear()
    steps = schedule.timestep(trailing(schedule, 10))[:-1]
    torch.testing.assert_close(steps, torch.arange(999, 0, -100, dtype=D), rtol=0, atol=1e-9)
    odd = schedule.timestep(trailing(schedule, 7))
    torch.testing.assert_close(odd, odd.round(), rtol=0, atol=1e-9)
    with pytest.raises(ValueError, match="steps=1001"):
        trailing(schedule, 1001)


@every
def test_uniform_lambda_has_equal_steps_in_lambda(schedule):
    """Between its ends; where the schedule starts below -5.1, after the first step."""
    top = float(schedule.half_log_snr(torch.ones((), dtype=D)))
    for to_zero in (True, False):
        t = uniform_lambda(schedule, 8, t_end=0.01, to_zero=to_zero)
        lam = schedule.half_log_snr(t[:-1] if to_zero else t)
        assert float(lam[0]) == top and float(t[-2 if to_zero else -1]) == pytest.approx(0.01, abs=1e-12)
        start = max(top, -5.1)
        expected = torch.linspace(start, float(lam[-1]), len(lam), dtype=D)
        torch.testing.assert_close(lam[1:], expected[1:], rtol=0, atol=1e-8)


@every
def test_karras_is_equation_5(schedule):
    t = karras(schedule, 6, sigma_min=0.01, sigma_max=4.0, rho=5.0)
    levels = torch.exp(-schedule.half_log_snr(t[:-1]))
    expected = [(4 ** (1 / 5) + i / 5 * (0.01 ** (1 / 5) - 4 ** (1 / 5))) ** 5 for i in range(6)]
    torch.testing.assert_close(levels, torch.tensor(expected, dtype=D), rtol=1e-8, atol=0)
    assert t[-1] == 0 and t[0] < 1


def test_resolve_grid():
    given = torch.tensor([0.9, 0.5, 0.1])
    assert torch.equal(resolve_grid(given, VP(), None), given.to(D))
    assert torch.equal(resolve_grid(None, VP(), 3), uniform_t(VP(), 3))
    assert torch.equal(resolve_grid(None, VP(), 3, default=quadratic), quadratic(VP(), 3))
    assert resolve_grid(explicit([1.0, 0.4, 0.0]), VP(), 2).tolist() == [1.0, 0.4, 0.0]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: resolve_grid(None, VP(), None), "neither steps"),
        (lambda: resolve_grid(None, VP(), 0), "steps=0"),
        (lambda: resolve_grid(torch.tensor([1.0]), VP(), None), "shape"),
        (lambda: resolve_grid(torch.tensor([1.0, 0.0]), VP(), 2), "steps=2"),
        (lambda: resolve_grid(torch.tensor([1.0, 0.5, 0.5]), VP(), None), "index 2"),
        (lambda: resolve_grid(torch.tensor([1.2, 0.5]), VP(), None), "leaves"),
        (lambda: resolve_grid(torch.tensor([1.0, math.nan]), VP(), None), "leaves"),
        (lambda: resolve_grid(explicit([1.0, 0.0]), VP(), 3), "1 steps, not 3"),
        (lambda: karras(VP(), 4, sigma_min=2.0, sigma_max=1.0), "sigma_min < sigma_max"),
        (lambda: karras(VE(), 4, sigma_max=81.0), "reaches"),
        (lambda: karras(VP(), 4, rho=0.0), "rho"),
        (lambda: uniform_lambda(Flow(), 4, t_end=0.9999), "lower t_end"),
    ],
)
def test_wrong_grids_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
