"""SDE-DPM-Solver++ and the ancestral samplers: reductions, laws propagated exactly, orders in law and along a path."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from mezzotint.core import (
    VE,
    VP,
    Condition,
    Cosine,
    Denoiser,
    Discrete,
    Flow,
    Noise,
    Prediction,
    Schedule,
    Shifted,
    uniform_lambda,
    uniform_t,
)
from mezzotint.sample import (
    DDPM,
    DPMSolverPP,
    DPMSolverPP2SAncestral,
    DPMSolverPPSDE,
    EulerAncestral,
    Sampler,
    SDEDPMSolverPP,
)

F64 = torch.float64
SCHEDULES: dict[str, Any] = {
    "vp": VP(),
    "cosine": Cosine(),
    "ve": VE(),
    "flow": Flow(),
    "discrete": Discrete.linear(),
    "shifted flow": Shifted(Flow(), 3.0),
}
KINDS: dict[str, dict[str, Any]] = {
    "2 midpoint": {"order": 2},
    "2 taylor": {"order": 2, "form": "taylor"},
    "3 published": {"order": 3, "form": "taylor", "third": "published"},
    "3 exact": {"order": 3, "form": "taylor", "start": "plain"},
}
MEAN, VAR = 0.3, 0.16


class Affine(Denoiser):
    """The exact denoiser of independent N(MEAN, VAR) numbers, elementwise and so faster than `Gaussian`."""

    def forward(self, x_t: Tensor, t: Tensor, c: Condition | None = None) -> Prediction:
        a, s = self.schedule.alpha(t)[:, None], self.schedule.sigma(t)[:, None]
        return Prediction.from_x0(MEAN + a * VAR / (a**2 * VAR + s**2) * (x_t - a * MEAN), x_t, t, self.schedule)


class Scripted(Noise):
    """Given numbers as noise: z[purpose][k] for all rows; zero for what is not given."""

    def __init__(self, batch: int, z: dict[str, Tensor]) -> None:
        super().__init__(range(batch))
        self.z = z

    def __call__(self, purpose: str, k: int, shape: Sequence[int], **options: Any) -> Tensor:
        if purpose not in self.z:
            return torch.zeros(len(self), *shape, dtype=F64)
        return self.z[purpose][k].reshape(-1, *shape)


def at(schedule: Schedule, t: float | Tensor) -> tuple[float, float]:
    time = torch.as_tensor(t, dtype=F64)
    return float(schedule.alpha(time)), float(schedule.sigma(time))


def laws(sampler: Sampler, schedule: Schedule, grid: Tensor) -> list[tuple[float, float, float]]:
    """After each step: mean and variance of the state for a start of the right law, and the mean for one off by 1.

    Exactly: the state is affine in the start and in every draw, so unit impulses tell all.
    """
    n = len(grid) - 1
    a, s = at(schedule, grid[0])
    batch = 2 * n + 3
    x = torch.full((batch, 1), a * MEAN, dtype=F64)
    x[1] += math.sqrt(a**2 * VAR + s**2)
    x[2] += 1
    unit = torch.eye(batch, dtype=F64)
    noise = Scripted(batch, {"step": unit[3 : n + 3], "stage 0": unit[n + 3 :]})
    out = [state.x.flatten() for state in sampler.trajectory(Affine(schedule), x, grid=grid, noise=noise)]
    apart = [o - o[0] for o in out]
    return [(float(o[0]), float(e[1] ** 2 + e[3:].square().sum()), float(o[2])) for o, e in zip(out, apart)]


def law(sampler: Sampler, schedule: Schedule, grid: Tensor) -> tuple[float, float, float]:
    """The last of `laws`."""
    return laws(sampler, schedule, grid)[-1]


@pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)
@pytest.mark.parametrize("order", [1, 2, 3])
def test_without_noise_it_is_the_ode(order: int, schedule: Schedule) -> None:
    for form in ("midpoint", "taylor"):
        for third in ("exact", "published"):
            for choice in ("plain", "corrected"):
                options: dict[str, Any] = {"order": order, "form": form, "third": third, "start": choice}
                ours = SDEDPMSolverPP(eta=0.0, **options)
                assert not ours.stochastic and ours.weak_order == ours.order
                for steps in (4, 11):
                    grid = uniform_t(schedule, steps)
                    got, expected = (s.plan(schedule, grid) for s in (ours, DPMSolverPP(**options)))
                    torch.testing.assert_close(got.table(), expected.table(), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)
def test_first_order_is_the_posterior(schedule: Schedule) -> None:
    """Mean and variance of q(x_t | x_s, x0), and DDPM's rows, from alpha = 0 to sigma = 0."""
    times = uniform_t(schedule, 9)
    rows = SDEDPMSolverPP(order=1).plan(schedule, times).rows
    ddpm = DDPM().plan(schedule, times).rows
    for row, other, t, after in zip(rows, ddpm, times[:-1], times[1:], strict=True):
        (a, s), (b, r) = at(schedule, t), at(schedule, after)
        fresh = s**2 - (a / b * r) ** 2  # the variance of x_s given x_t
        expected = (a / b * r**2 / s**2, math.sqrt(max(fresh, 0.0)) * r / s, b * fresh / s**2)
        assert row == pytest.approx(expected, rel=1e-10, abs=1e-10)
        assert row == pytest.approx(other, rel=1e-12, abs=1e-12)


@pytest.mark.parametrize("eta", [0.4, 1.0])
@pytest.mark.parametrize("kind", KINDS)
def test_law_by_the_recursion_of_the_formulas(kind: str, eta: float) -> None:
    """Mean and covariance of (x, m1, m2), step by step, with D1 and D2 as other libraries write them."""
    schedule, times = VP(), uniform_lambda(VP(), 12, t_start=0.8, t_end=0.02, to_zero=False)
    lam = schedule.half_log_snr(times).tolist()
    a, s = at(schedule, times[0])
    mean, cov = torch.tensor([a * MEAN + 1, 0.0, 0.0], dtype=F64), torch.zeros(3, 3, dtype=F64)
    cov[0, 0] = a**2 * VAR + s**2
    x, m0, m1, m2 = torch.eye(4, dtype=F64)  # a step as weights of these
    for k in range(12):
        (a, s), (b, r) = at(schedule, times[k]), at(schedule, times[k + 1])
        h = lam[k + 1] - lam[k]
        big = (1 + eta) * h
        d = -math.expm1(-big)
        p2 = 1 - d / big
        new = r / s * math.exp(-eta * h) * x + b * d * m0
        if k >= 1 and (kind[0] == "2" or k == 1):
            r0 = (lam[k] - lam[k - 1]) / h
            new = new + b * (d / 2 if kind == "2 midpoint" else p2) * (m0 - m1) / r0
        if k >= 2 and kind[0] == "3":
            r0, r1 = (lam[k] - lam[k - 1]) / h, (lam[k - 1] - lam[k - 2]) / h
            first, second = (m0 - m1) / r0, (m1 - m2) / r1
            d1 = first + (first - second) * r0 / (r0 + r1)
            d2 = (first - second) / (r0 + r1) * (1 if kind == "3 published" else 2)
            new = new + b * (p2 * d1 - (p2 / big - 0.5) * d2)
        gain = a * VAR / (a**2 * VAR + s**2)
        known = torch.tensor([[1.0, 0, 0], [gain, 0, 0], [0, 1, 0], [0, 0, 1]], dtype=F64)  # of x, m0, m1, m2
        move = torch.stack([new, m0, m1])
        mean = move @ (known @ mean + (1 - a * gain) * MEAN * m0)
        cov = move @ known @ cov @ known.T @ move.T
        cov[0, 0] += r**2 * -math.expm1(-2 * eta * h)
    _, var, got = law(SDEDPMSolverPP(eta=eta, lower_order_final=False, **KINDS[kind]), schedule, times)
    assert (got, var) == pytest.approx((float(mean[0]), float(cov[0, 0])), rel=1e-10)


def errors(sampler: Sampler, eta: float, steps: int, t_start: float, t_end: float) -> tuple[float, float]:
    """Of the variance, and of the mean for a start off the mean, against those of the reverse SDE."""
    schedule = VP()
    (b, r), (a, s) = at(schedule, t_start), at(schedule, t_end)
    before, after = b**2 * VAR + r**2, a**2 * VAR + s**2
    # d log(mean - alpha MEAN)/dt = (1 + eta)/2 d log(variance)/dt - eta d log(alpha)/dt
    mean = a * MEAN + (after / before) ** (0.5 * (1 + eta)) * (b / a) ** eta
    _, var, got = law(sampler, schedule, uniform_lambda(schedule, steps, t_start=t_start, t_end=t_end, to_zero=False))
    return abs(var - after), abs(got - mean)


def slopes(sampler: Sampler, eta: float, steps: int, t_start: float, t_end: float) -> tuple[float, float]:
    """The orders of both; of a mean that is exact to rounding, infinity."""
    coarse, fine = (errors(sampler, eta, n, t_start, t_end) for n in (steps, 2 * steps))
    exact = max(coarse[1], fine[1]) < 1e-13
    return math.log2(coarse[0] / fine[0]), math.inf if exact else math.log2(coarse[1] / fine[1])


@pytest.mark.parametrize("eta", [0.5, 1.0])
@pytest.mark.parametrize(
    ("options", "in_variance", "in_mean"),
    [
        ({"order": 1}, 1, 1),
        ({"order": 2}, 2, 2),
        ({"order": 2, "form": "taylor"}, 2, 2),
        ({"order": 3, "start": "corrected"}, 2, 3),
        ({"order": 3, "start": "corrected", "third": "published"}, 2, 2),
    ],
)
def test_orders_of_the_law(options: dict[str, Any], in_variance: int, in_mean: int, eta: float) -> None:
    """For eta = 1 the mean is exact at any number of steps: there an exact D is a martingale."""
    sampler = SDEDPMSolverPP(eta=eta, lower_order_final=False, **options)
    assert abs(slopes(sampler, eta, 160, 1.0, 0.01)[0] - in_variance) < 0.15
    measured = slopes(sampler, eta, 160, 0.5, 0.1)[1]
    assert measured == math.inf if eta == 1 else abs(measured - in_mean) < 0.15
    assert sampler.weak_order == in_variance
    assert sampler.order == (3 if options.get("third") == "published" else in_mean)


@pytest.mark.parametrize("eta", [0.5, 1.0])
def test_which_third_order_is_closer(eta: float) -> None:
    """Near the data the exact one, where a run stops early the published one: both are of second order in law."""
    for t_end, closer in ((0.01, "exact"), (0.1, "published")):
        error = {
            third: errors(SDEDPMSolverPP(order=3, third=third, eta=eta, lower_order_final=False), eta, 40, 1.0, t_end)[
                0
            ]
            for third in ("exact", "published")
        }
        assert min(error, key=lambda which: error[which]) == closer
        assert min(error.values()) < 0.65 * max(error.values())


@pytest.mark.parametrize("eta", [0.5, 1.0])
@pytest.mark.parametrize(
    ("make", "in_variance"), [(EulerAncestral, 1), (DPMSolverPP2SAncestral, 2), (DPMSolverPPSDE, 2)]
)
def test_orders_of_the_ancestral_samplers(make: Any, in_variance: int, eta: float) -> None:
    """The law of the state converges with the order; what it remembers of its start with order 1, as noise is added
    after a step and not during it (exact where D is a martingale and the step takes its mean)."""
    variance, memory = slopes(make(eta=eta), eta**2, 80, 0.5, 0.05)
    assert make(eta=eta).order == in_variance and abs(variance - in_variance) < 0.15
    assert memory == math.inf if eta == 1 and make is not DPMSolverPP2SAncestral else abs(memory - 1) < 0.15


@pytest.mark.parametrize("schedule", [VP(), VE(0.02, 20.0), Flow()], ids=["vp", "ve", "flow"])
@pytest.mark.parametrize("make", [EulerAncestral, DPMSolverPP2SAncestral, DPMSolverPPSDE, SDEDPMSolverPP])
def test_the_law_at_every_node(make: Any, schedule: Schedule) -> None:
    """Mean alpha MEAN exactly, variance alpha^2 VAR + sigma^2 in the limit, all along the way and at sigma = 0."""
    worst = {}
    for n in (25, 100):
        grid = uniform_lambda(schedule, n)
        deviations = []
        for t, (mean, var, _) in zip(grid[1:], laws(make(), schedule, grid), strict=True):
            a, s = at(schedule, t)
            assert mean == pytest.approx(a * MEAN, rel=1e-9, abs=1e-12)
            deviations.append(abs(var / (a**2 * VAR + s**2) - 1))
        worst[n] = max(deviations)
    assert worst[100] < (0.4 if make is EulerAncestral else 0.15) * worst[25]


def coarser(z: Tensor, lam: list[float], eta: float) -> Tensor:
    """The draws of half the steps that are of the same path as the draws z: two decayed noises as one."""
    pairs = []
    for k in range(0, len(z), 2):
        h, rest = lam[k + 2] - lam[k], lam[k + 2] - lam[k + 1]
        spread, first, second = (math.sqrt(-math.expm1(-2 * eta * g)) for g in (h, h - rest, rest))
        pairs.append((math.exp(-eta * rest) * first * z[k] + second * z[k + 1]) / spread)
    return torch.stack(pairs)


@pytest.mark.parametrize("eta", [0.5, 1.0])
@pytest.mark.parametrize("options", [{"order": 1}, {"order": 2}, {"order": 3}])
def test_strong_order_on_a_gaussian(options: dict[str, Any], eta: float) -> None:
    """The root mean square distance of runs on one path with N and N/2 steps, exactly: slope 1 for all orders."""
    schedule, sampler = VP(), SDEDPMSolverPP(eta=eta, lower_order_final=False, **options)
    distances = []
    for n in (64, 128, 256):
        grid = uniform_lambda(schedule, n, t_start=0.8, t_end=0.02, to_zero=False)
        z, x = torch.eye(n + 1, dtype=F64)[:n], torch.zeros(n + 1, 1, dtype=F64)
        half = coarser(z, schedule.half_log_snr(grid).tolist(), eta)
        ends = [
            sampler(Affine(schedule), x, grid=g, noise=Scripted(n + 1, {"step": draws}))
            for g, draws in ((grid, z), (grid[::2], half))
        ]
        apart = (ends[0] - ends[1]).flatten()
        distances.append(float((apart[:n] - apart[n]).square().sum().sqrt()))
    slope = math.log2(distances[1] / distances[2])
    assert abs(slope - 1) < 0.15, distances
