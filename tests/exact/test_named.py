"""Every sampler that has a name: what all of them promise. One that is added to NAMED is tested by being there."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from mezzotint.core import (
    GRIDS,
    VE,
    VP,
    Condition,
    Cosine,
    Denoiser,
    Discrete,
    Flow,
    GaussianMixture,
    Noise,
    Prediction,
    Schedule,
    Shifted,
    uniform_t,
)
from mezzotint.guide import DynamicThreshold
from mezzotint.sample import NAMED, Sampler, sampler_named

F64 = torch.float64
SCHEDULES: dict[str, Schedule] = {
    "vp": VP(),
    "ve": VE(0.002, 80.0),
    "flow": Flow(),
    "cosine": Cosine(),
    "discrete": Discrete.linear(),
    "shifted": Shifted(Cosine(), 2.0),
}
MIXTURE = GaussianMixture(torch.tensor([[-0.8, 0.3, 0.1], [0.6, -0.2, 0.5]]), torch.tensor([0.2, 0.3]))
BATCH = 5
NOISE = Noise(range(BATCH))
# They solve another equation on purpose (a fixed reference), or have no order in steps.
APART = {name for name, entry in NAMED.items() if entry.order == 0 or entry.nfe == "by tolerance"}
DETERMINISTIC = [name for name, entry in NAMED.items() if not entry.stochastic and name not in APART]


def start(schedule: Schedule, first: Tensor | float = 1.0, dtype: torch.dtype = F64) -> Tensor:
    level = schedule.sigma(torch.as_tensor(first, dtype=F64))
    return (level * NOISE("x_T", 0, (3,), dtype=F64)).to(dtype)


class Counting(Denoiser):
    def __init__(self, inner: Denoiser) -> None:
        super().__init__(inner.schedule)
        self.inner, self.calls = inner, 0

    def forward(self, x_t: Tensor, t: Tensor, c: Condition | None = None) -> Prediction:
        self.calls += 1
        return self.inner(x_t, t, c)


class Constant(Denoiser):
    def forward(self, x_t: Tensor, t: Tensor, c: Condition | None = None) -> Prediction:
        return Prediction.from_x0(torch.full_like(x_t, 0.37), x_t, t, self.schedule)


def check(sampler: Sampler, schedule: Schedule, grid: Tensor, dtype: torch.dtype = F64) -> None:
    """A run: finite, counted, told of, and the same for a sample alone."""
    x, d = start(schedule, grid[0], dtype), Counting(MIXTURE.denoiser(schedule))
    told: list[int] = []
    out = sampler(d, x, grid=grid, noise=NOISE, on_step=lambda k, state: told.append(k))
    assert out.dtype is dtype and out.shape == x.shape and bool(torch.isfinite(out).all())
    plan = sampler.plan(schedule, grid)
    assert told == list(range(plan.steps))
    if sampler_has_nfe(sampler):
        assert d.calls == plan.nfe
        if grid[-1] == 0:
            assert d.calls == sampler.nfe(len(grid) - 1)
    i = BATCH - 2
    alone = sampler(MIXTURE.denoiser(schedule), x[i : i + 1].clone(), grid=grid, noise=Noise([i]))
    assert torch.equal(alone, out[i : i + 1])


def sampler_has_nfe(sampler: Sampler) -> bool:
    try:
        return sampler.nfe(1) > 0
    except ValueError:
        return False


def grids(
    schedule: Schedule, steps: tuple[int, ...], which: tuple[str, ...] = tuple(GRIDS), cut: bool = True
) -> Iterator[Tensor]:
    """Grids by name, each to 0 and, cut, to above 0; those of integer steps on Discrete alone."""
    for name in which:
        integer = name.split("-")[0] in ("leading", "linspace")
        if integer and not isinstance(schedule, Discrete):
            continue
        for n in steps:
            whole = GRIDS[name](schedule, n)
            yield whole
            if cut and n > 1 and whole[-1] == 0:
                yield whole[:-1]


@pytest.mark.parametrize("name", NAMED)
def test_every_schedule(name: str) -> None:
    for schedule in SCHEDULES.values():
        for grid in grids(schedule, (1, 3), ("uniform-t",), name not in APART):
            check(sampler_named(name), schedule, grid)


@pytest.mark.parametrize("name", [name for name in NAMED if name != "dpm-adaptive"])  # of a grid it uses the ends
def test_some_grids(name: str) -> None:
    for grid in grids(Discrete.linear(), (4,), ("karras", "leading", "beta"), cut=False):
        check(sampler_named(name), Discrete.linear(), grid, torch.float32)


@pytest.mark.slow
@pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)
@pytest.mark.parametrize("name", NAMED)
def test_every_grid_on_every_schedule(name: str, schedule: Schedule) -> None:
    chosen = ("uniform-t",) if name == "dpm-adaptive" else tuple(GRIDS)
    for dtype in (torch.float32, F64):
        for grid in grids(schedule, (1, 2, 3, 5, 9, 10, 40), chosen):
            check(sampler_named(name), schedule, grid, dtype)


@pytest.mark.parametrize("name", NAMED)
def test_a_constant_is_reached(name: str) -> None:
    """Exactly; to a rounding where a correction is added that is nothing."""
    exact = not name.startswith("dualfast")
    for schedule in SCHEDULES.values():
        got = sampler_named(name)(Constant(schedule), start(schedule), steps=7, noise=NOISE)
        torch.testing.assert_close(got, torch.full_like(got, 0.37), rtol=0, atol=0 if exact else 2e-16)
        if not NAMED[name].stochastic:
            times = uniform_t(schedule, 7)[:-1]
            (a, b), (s, r) = (f(times[[0, -1]]).tolist() for f in (schedule.alpha, schedule.sigma))
            got = sampler_named(name)(Constant(schedule), start(schedule), grid=times)
            expected = b * 0.37 + r / s * (start(schedule) - a * 0.37)
            torch.testing.assert_close(got, expected, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("name", NAMED)
def test_trajectory_gradients_and_noise(name: str) -> None:
    sampler = sampler_named(name)
    for schedule in (VP(), Flow()):
        d, x = MIXTURE.denoiser(schedule), start(schedule).requires_grad_()
        options: dict[str, Any] = {"steps": 4, "noise": NOISE}
        *_, last = sampler.trajectory(d, x, **options)
        out = sampler(d, x, **options)
        assert torch.equal(last.x, out)
        (gradient,) = torch.autograd.grad(out.sum(), x)
        assert bool(torch.isfinite(gradient).all())
        # from alpha = 0 a first step may forget its start
        assert bool((gradient != 0).any()) or sampler.stochastic or isinstance(schedule, Flow)
        if sampler.stochastic:
            with pytest.raises(ValueError, match="noise=Noise"):
                sampler(d, x, steps=4)
        else:
            with torch.no_grad():
                assert torch.equal(sampler(d, x, steps=4), out)


@pytest.mark.parametrize("name", NAMED)
def test_what_is_kept_is_thresholded(name: str) -> None:
    """A threshold in the denoiser is seen by history and stages alike: the last step to 0 returns what it allows; and
    predictions within the limit are left alone, bit for bit."""
    sampler, d = sampler_named(name), MIXTURE.denoiser(VP())
    wide, tight = DynamicThreshold(limit=50.0)(d), DynamicThreshold(q=0.9, limit=0.3)(d)
    x = start(VP())
    exact = not name.startswith("dualfast")  # its correction goes through the threshold, which rounds
    got, expected = (sampler(made, x, steps=5, noise=NOISE) for made in (wide, d))
    torch.testing.assert_close(got, expected, rtol=0, atol=0 if exact else 1e-15)
    states = list(sampler.trajectory(tight, x, steps=5, noise=NOISE))
    for state in states:
        if state.x0 is not None:
            assert float(state.x0.abs().max()) <= 0.3 + 1e-15
    # a correction of the last estimate comes before the limit: the result obeys it all the same
    assert float(states[-1].x.abs().max()) <= 0.3 + 1e-15


# Where the start is left at first order, as in the library whose numbers it gives: seen where noise does not hide it.
PLAIN_START = ("deis-3",)


def slope_within(name: str, on: str, schedule: Schedule, slope: Any) -> None:
    sampler = sampler_named(name)
    if hasattr(sampler, "lower_order_final"):
        sampler = replace(sampler, lower_order_final=False)
    if name in PLAIN_START:
        sampler = replace(sampler, start="corrected")
    order = NAMED[name].order
    # multiples of 3, so that single-step budgets are of one kind; later where the asymptote is
    steps = (360 if order == 3 else 120) // (1 if NAMED[name].nfe == "steps" else 3)
    if name in PLAIN_START and on == "gaussian":
        steps *= 6  # from 1e-11 on
    measured = slope(sampler, on, schedule, steps)
    assert measured > order - 0.15, measured
    if on == "mixture":  # on a Gaussian leading errors may be too small to be seen by then, or vanish (midpoint's)
        assert measured < order + 0.15, measured


@pytest.mark.parametrize(("on", "schedule"), [("mixture", VP())], ids=["mixture-vp"])
@pytest.mark.parametrize("name", DETERMINISTIC)
def test_order(name: str, on: str, schedule: Schedule, slope: Any) -> None:
    slope_within(name, on, schedule, slope)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("on", "schedule"),
    [("gaussian", VP()), ("mixture", VE(0.02, 20.0)), ("gaussian", VE(0.02, 20.0))],
    ids=["gaussian-vp", "mixture-ve", "gaussian-ve"],
)
@pytest.mark.parametrize("name", DETERMINISTIC)
def test_order_on_the_other_beds(name: str, on: str, schedule: Schedule, slope: Any) -> None:
    slope_within(name, on, schedule, slope)
