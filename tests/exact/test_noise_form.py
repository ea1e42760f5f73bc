"""Multistep DPM-Solver in its noise form, and the start that it shares with DPM-Solver++."""

from __future__ import annotations

import math
from itertools import pairwise
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
    GaussianMixture,
    Noise,
    Prediction,
    uniform_lambda,
    uniform_t,
)
from mezzotint.core.schedule import Schedule
from mezzotint.sample import DDIM, DPMSolver, DPMSolverPP, nodes_of

F64 = torch.float64
SCHEDULES: dict[str, Schedule] = {
    "vp": VP(),
    "cosine": Cosine(),
    "ve": VE(),
    "flow": Flow(),
    "discrete": Discrete.linear(),
}
SOLVERS: dict[str, tuple[DPMSolver, int]] = {
    "2m midpoint": (DPMSolver(2, False), 2),
    "2m taylor": (DPMSolver(2, False, "taylor"), 2),
    "3m exact": (DPMSolver(3, False, start="plain"), 3),
    "3m published": (DPMSolver(3, False, third="published"), 2),
}
MIXTURE = GaussianMixture(torch.tensor([[-0.8, 0.3, 0.1], [0.6, -0.2, 0.5]]), torch.tensor([0.2, 0.3]))


class Linear(Denoiser):
    """Data (or noise) = p + q lambda(t), whatever x."""

    def __init__(self, schedule: Schedule, kind: str, p: float, q: float = 0.0) -> None:
        super().__init__(schedule)
        self.kind, self.p, self.q = kind, p, q

    def forward(self, x_t: Tensor, t: Tensor, c: Condition | None = None) -> Prediction:
        lam = self.schedule.half_log_snr(t)[:, None] if self.q else torch.zeros(())
        return Prediction(self.kind, torch.zeros_like(x_t) + self.p + self.q * lam, x_t, t, self.schedule)

    def solution(self, x: Tensor, s: float, t: float) -> Tensor:
        """sigma_t int e^l (p + q l) dl beside the linear part; for noise, -alpha_t int e^-l (p + q l) dl."""
        s_, t_ = nodes_of(self.schedule, torch.tensor([s, t], dtype=F64))
        sign = 1 if self.kind == "x0" else -1
        left, right = (math.exp(sign * n.lam) * (self.p * sign + self.q * (sign * n.lam - 1)) for n in (s_, t_))
        if self.kind == "x0":
            return t_.sigma / s_.sigma * x + t_.sigma * (right - left)
        return t_.alpha / s_.alpha * x - t_.alpha * (right - left)


def start(schedule: Schedule, batch: int, size: int = 3) -> Tensor:
    return schedule.sigma(torch.ones((), dtype=F64)) * Noise(range(batch))("x_T", 0, (size,), dtype=F64)


@pytest.mark.parametrize("name", SOLVERS)
def test_order(name: str, rmse) -> None:
    sampler, order = SOLVERS[name]
    coarse, fine = (rmse(sampler, "mixture", VP(), n) for n in (160, 320))
    assert abs(math.log2(coarse / fine) - order) < 0.15, (coarse, fine)


@pytest.mark.parametrize("name", ["2m midpoint", "2m taylor"])
@pytest.mark.parametrize("schedule", [VE(0.02, 20.0), Discrete.linear()], ids=["ve", "discrete"])
def test_order_on_other_schedules(name: str, schedule: Schedule, rmse) -> None:
    coarse, fine = (rmse(SOLVERS[name][0], "gaussian", schedule, n) for n in (40, 80))
    assert abs(math.log2(coarse / fine) - 2) < 0.15, (coarse, fine)


@pytest.mark.parametrize("kind", [DPMSolver, DPMSolverPP])
def test_the_corrected_start_keeps_order_three(kind: Any, rmse) -> None:
    """At sigma = 20 the first step's error is seen: left as it is, the order is 2; made up for, it is 3."""
    corrected, plain = (
        [rmse(kind(3, False, start=s), "mixture", VE(0.02, 20.0), n) for n in (160, 320)]
        for s in ("corrected", "plain")
    )
    assert abs(math.log2(corrected[0] / corrected[1]) - 3) < 0.15, corrected
    assert math.log2(plain[0] / plain[1]) < 2.75
    assert corrected[1] < plain[1]


@pytest.mark.parametrize(("kind", "what"), [(DPMSolver, "eps"), (DPMSolverPP, "x0")])
@pytest.mark.parametrize("order", [2, 3])
def test_the_corrected_start_is_exact_for_a_linear_prediction(kind: Any, what: str, order: int) -> None:
    """From the second step on, and without it never."""
    schedule, x = VP(), torch.tensor([[0.3, -1.1]], dtype=F64)
    d = Linear(schedule, what, 0.4, -0.15)
    times = torch.linspace(0.9, 0.05, 7, dtype=F64)
    for begin, reached in (("corrected", True), ("plain", False)):
        sampler = kind(order, False, "taylor", start=begin)
        for state in sampler.trajectory(d, x, grid=times):
            error = float((state.x - d.solution(x, 0.9, float(times[state.k]))).abs().max())
            assert (error < 1e-11) == (reached and state.k > 1)


def test_the_corrected_start_costs_nothing_and_waits_for_a_finite_step() -> None:
    for kind in (DPMSolver, DPMSolverPP):
        plain, corrected = kind(3, start="plain"), kind(3, start="corrected")
        grid = uniform_lambda(VP(), 12)
        one, other = plain.plan(VP(), grid), corrected.plan(VP(), grid)
        assert (
            one.calls == other.calls and [a == b for a, b in zip(one.rows, other.rows)] == [True, False] + [True] * 10
        )
        grid = uniform_t(Flow(), 12)  # the first step is infinite: there is nothing to make up for
        assert plain.plan(Flow(), grid).rows == corrected.plan(Flow(), grid).rows
        assert corrected.plan(VP(), uniform_t(VP(), 1)).rows == plain.plan(VP(), uniform_t(VP(), 1)).rows


@pytest.mark.parametrize("kind", [DPMSolver, DPMSolverPP])
def test_the_number_of_steps_below_which_the_order_is_lowered(kind: Any) -> None:
    def widths(lower: Any, steps: int) -> list[int]:
        rows = kind(3, lower).plan(VP(), torch.linspace(1, 0.1, steps + 1, dtype=F64)).rows
        return [sum(v != 0 for v in row[2:]) for row in rows]

    assert widths(15, 14)[-2:] == widths(True, 14)[-2:] == widths("auto", 9)[-2:] == [2, 1]
    assert widths(15, 15)[-2:] == widths(False, 14)[-2:] == widths("auto", 10)[-2:] == widths(0, 4)[-2:] == [3, 3]


def by_hand(name: str, d: Denoiser, x: Tensor, times: Tensor) -> list[Tensor]:
    """The multistep methods as the official code writes them for noise, with no common code."""
    schedule, found, past = d.schedule, [], []
    al, sg, lam = (f(times).tolist() for f in (schedule.alpha, schedule.sigma, schedule.half_log_snr))
    for k in range(len(times) - 1):
        past.insert(0, d(x, times[k].expand(len(x))).eps)
        h = lam[k + 1] - lam[k]
        phi1 = math.exp(h) - 1
        phi2 = phi1 / h - 1
        phi3 = phi2 / h - 0.5
        new = al[k + 1] / al[k] * x - sg[k + 1] * phi1 * past[0]
        if k > 0:
            r0 = (lam[k] - lam[k - 1]) / h
            d1 = (past[0] - past[1]) / r0
            if name.startswith("2m") or k == 1:
                new = new - sg[k + 1] * (phi2 if name.endswith("taylor") else 0.5 * phi1) * d1
            else:
                r1 = (lam[k - 1] - lam[k - 2]) / h
                d1_1 = (past[1] - past[2]) / r1
                slope = d1 + r0 / (r0 + r1) * (d1 - d1_1)
                curve = (2 if name.endswith("exact") else 1) / (r0 + r1) * (d1 - d1_1)
                new = new - sg[k + 1] * phi2 * slope - sg[k + 1] * phi3 * curve
        x = new
        found.append(x)
    return found


@pytest.mark.parametrize("schedule", [VP(), VE(), Flow()], ids=["vp", "ve", "flow"])
@pytest.mark.parametrize("name", SOLVERS)
def test_a_run_is_the_formula(name: str, schedule: Schedule) -> None:
    d, x, times = MIXTURE.denoiser(schedule), start(schedule, 4), torch.linspace(0.97, 0.05, 8, dtype=F64) ** 1.3
    states = SOLVERS[name][0].trajectory(d, x, grid=times)
    for state, expected in zip(states, by_hand(name, d, x, times), strict=True):
        torch.testing.assert_close(state.x, expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)
def test_order_one_is_ddim(schedule: Schedule) -> None:
    d, x_T = MIXTURE.denoiser(schedule), start(schedule, 4)
    torch.testing.assert_close(DPMSolver(1)(d, x_T, steps=9), DDIM()(d, x_T, steps=9), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", SOLVERS)
@pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)
def test_constant_denoiser(name: str, schedule: Schedule) -> None:
    """A constant data prediction means a constant noise prediction: exact at every node."""
    x_T, const = start(schedule, 2), 0.37
    for grid in (uniform_t(schedule, 1), uniform_t(schedule, 7), uniform_lambda(schedule, 7)):
        nodes = nodes_of(schedule, grid)
        for state in SOLVERS[name][0].trajectory(Linear(schedule, "x0", const), x_T, grid=grid):
            node = nodes[state.k]
            expected = node.alpha * const + node.sigma / nodes[0].sigma * (x_T - nodes[0].alpha * const)
            torch.testing.assert_close(state.x, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", SOLVERS)
def test_vp_and_ve_describe_one_process(name: str) -> None:
    vp, ve = VP(), VE(0.002, 160.0)
    times, x = torch.linspace(0.98, 0.02, 12, dtype=F64), start(vp, 4)
    on_vp = SOLVERS[name][0].trajectory(MIXTURE.denoiser(vp), x, grid=times)
    on_ve = SOLVERS[name][0].trajectory(
        MIXTURE.denoiser(ve), x / vp.alpha(times[0]), grid=ve.t_of(vp.half_log_snr(times))
    )
    for left, right in zip(on_vp, on_ve, strict=True):
        torch.testing.assert_close(left.x / vp.alpha(times[left.k]), right.x, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)
@pytest.mark.parametrize("name", SOLVERS)
def test_ends(name: str, schedule: Schedule) -> None:
    """From alpha = 0 and to sigma = 0: finite, the prediction itself at the end, one evaluation a step."""
    for steps in (1, 2, 12):
        *_, last = SOLVERS[name][0].trajectory(MIXTURE.denoiser(schedule), start(schedule, 4), steps=steps)
        assert last.x0 is not None and bool(torch.isfinite(last.x).all())
        assert torch.equal(last.x, last.x0)
        assert SOLVERS[name][0].plan(schedule, uniform_t(schedule, steps)).nfe == SOLVERS[name][0].nfe(steps) == steps


@pytest.mark.parametrize("name", SOLVERS)
@pytest.mark.parametrize("dtype", [torch.float32, F64], ids=["float32", "float64"])
def test_a_sample_is_the_same_alone_and_in_a_batch(name: str, dtype: torch.dtype) -> None:
    d, x_T, sampler = MIXTURE.denoiser(VP()), start(VP(), 64).to(dtype), SOLVERS[name][0]
    together = sampler(d, x_T, steps=6)
    for i in (0, 1, 17, 62, 63):
        assert torch.equal(sampler(d, x_T[i : i + 1].clone(), steps=6), together[i : i + 1])


@pytest.mark.parametrize("name", SOLVERS)
def test_gradients_flow(name: str) -> None:
    for schedule in (VP(), Flow()):
        d, x_T = MIXTURE.denoiser(schedule), start(schedule, 2).requires_grad_()
        assert torch.autograd.gradcheck(lambda x, d=d: SOLVERS[name][0](d, x, steps=4), x_T, atol=1e-6)


def test_history_holds_what_the_next_step_needs() -> None:
    """Noise parts x - alpha m, newest first, order - 1 of them."""
    d, x, grid = MIXTURE.denoiser(VP()), start(VP(), 2), uniform_t(VP(), 5)
    states = list(DPMSolver(3).trajectory(d, x, grid=grid))
    assert [len(s.history) for s in states] == [1, 2, 2, 2, 2]
    for before, after in pairwise(states[:-1]):
        t = grid[before.k].expand(2)
        torch.testing.assert_close(after.history[0], VP().sigma(t)[:, None] * d(before.x, t).eps)
        assert after.history[1] is before.history[0]
    assert DPMSolver(1).trajectory(d, x, steps=2) and next(iter(DPMSolver(1).trajectory(d, x, steps=2))).history == ()


@pytest.mark.parametrize("kind", [DPMSolver, DPMSolverPP])
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"order": 4}, "order=4"),
        ({"form": "heun"}, "form='heun'"),
        ({"third": "both"}, "third='both'"),
        ({"start": "warm"}, "start='warm'"),
        ({"lower_order_final": -1}, "lower_order_final=-1"),
        ({"lower_order_final": "never"}, "lower_order_final='never'"),
    ],
)
def test_wrong_options(kind: Any, options: dict[str, Any], message: str, unchecked) -> None:
    with pytest.raises(ValueError, match=message):
        kind(**options)
