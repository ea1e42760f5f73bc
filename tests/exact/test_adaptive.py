"""Adaptive steps: the tolerance is met, each sample goes its own way, the ends are as everywhere."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from mezzotint.core import VE, VP, Condition, Denoiser, Flow, GaussianMixture, Noise, Prediction
from mezzotint.core.exact import Distribution, probability_flow
from mezzotint.core.schedule import Schedule
from mezzotint.guide import CFG
from mezzotint.sample import (
    DDIM,
    Adaptive,
    AdaptiveState,
    DPMSolver,
    DPMSolverPPSingle,
    DPMSolverSingle,
    State,
)

F64 = torch.float64
GRID = torch.tensor([1.0, 0.01], dtype=F64)
SCHEDULES: dict[str, Schedule] = {"vp": VP(), "ve": VE(0.02, 20.0), "flow": Flow()}
PAIRS = {
    "3": DPMSolverPPSingle(3, "taylor"),
    "3 midpoint": DPMSolverPPSingle(3),
    "2": DPMSolverPPSingle(2),
    "3 noise": DPMSolverSingle(3),
}
MIXTURE = GaussianMixture(torch.tensor([[-0.8, 0.3, 0.1], [0.6, -0.2, 0.5]]), torch.tensor([0.2, 0.3]))


def start(schedule: Schedule, batch: int, shape: tuple[int, ...] = (3,)) -> Tensor:
    return schedule.sigma(torch.ones((), dtype=F64)) * Noise(range(batch))("x_T", 0, shape, dtype=F64)


def ran(sampler: Adaptive, d: Denoiser, x: Tensor, **options: Any) -> AdaptiveState:
    *_, last = sampler.trajectory(d, x, **options)
    assert isinstance(last, AdaptiveState)
    return last


def error(exact: Distribution, schedule: Schedule, tolerance: float, batch: int = 12) -> tuple[Tensor, float]:
    """The errors of the samples in units of the tolerance, and the evaluations of a sample."""
    x = start(schedule, batch, exact.shape)
    last = ran(Adaptive(rtol=tolerance, atol=0.1 * tolerance), exact.denoiser(schedule), x, grid=GRID)
    truth = probability_flow(exact, schedule, x, 1.0, 0.01)
    off = (last.x - truth) / truth.abs().clamp(min=0.1)
    return off.square().mean(-1).sqrt() / tolerance, sum(last.nfe) / batch


@pytest.mark.parametrize("on", ["mixture", "gaussian"])
@pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)
def test_the_tolerance_is_met(on: str, schedule: Schedule, beds) -> None:
    """In the root mean square; an estimate of local errors bounds no global one, so one sample may miss it by 2.3."""
    costs = []
    for tolerance in (1e-1, 1e-2, 1e-3):
        off, cost = error(beds[on], schedule, tolerance)
        assert float(off.square().mean().sqrt()) < 1 and float(off.max()) < 2.5
        costs.append(cost)
    # third order: a tenth of the error costs twice the evaluations, not ten times
    assert costs[0] < costs[1] < costs[2] < 4 * costs[0]


def test_the_error_falls_with_the_tolerance(beds) -> None:
    found = [float(error(beds["mixture"], VP(), tol, 4)[0].max()) * tol for tol in (1e-1, 1e-2, 1e-3, 1e-4)]
    assert all(later < 0.5 * earlier for earlier, later in zip(found, found[1:])), found
    assert found[-1] < 1e-4


@pytest.mark.parametrize("pair", PAIRS)
def test_every_pair_reaches_the_solution(pair: str, beds) -> None:
    exact, x = beds["mixture"], start(VP(), 6, (1,))
    sampler = Adaptive(PAIRS[pair], rtol=1e-3, atol=1e-4)
    truth = probability_flow(exact, VP(), x, 1.0, 0.01)
    last = ran(sampler, exact.denoiser(VP()), x, grid=GRID)
    torch.testing.assert_close(last.x, truth, rtol=5e-3, atol=5e-4)
    assert sampler.order == int(pair[0])


@pytest.mark.parametrize("dtype", [torch.float32, F64], ids=["float32", "float64"])
@pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)
def test_a_sample_is_the_same_alone_and_in_a_batch(schedule: Schedule, dtype: torch.dtype) -> None:
    """State, last prediction and cost; some arrive earlier than others, and the steps are not the same."""
    sampler, d, x = Adaptive(), MIXTURE.denoiser(schedule), start(schedule, 8).to(dtype)
    together = ran(sampler, d, x)
    assert together.x.dtype == dtype and together.x0 is not None and len(set(together.nfe)) > 1
    for i in range(8):
        alone = ran(sampler, d, x[i : i + 1].clone())
        assert alone.x0 is not None
        assert torch.equal(alone.x, together.x[i : i + 1]) and torch.equal(alone.x0, together.x0[i : i + 1])
        assert alone.nfe + alone.rejected == (together.nfe[i], together.rejected[i])


def test_the_condition_follows_its_sample() -> None:
    """Samples that leave the batch take their rows along: every sample ends as it does alone, with guidance too."""
    d = CFG(2.0)(MIXTURE.denoiser(VP()))
    label = torch.tensor([0, 1, 2, 1, 0, 2])
    c, x = Condition({"label": label}, null={"label": torch.tensor([2])}), start(VP(), 6)
    together = ran(Adaptive(), d, x, c=c)
    assert len(set(together.nfe)) > 1
    for i in range(6):
        assert torch.equal(ran(Adaptive(), d, x[i : i + 1], c=c.rows([i])).x, together.x[i : i + 1])


class Counting(Denoiser):
    """Counts calls, and rows of calls."""

    def __init__(self, inner: Denoiser) -> None:
        super().__init__(inner.schedule)
        self.inner, self.rows, self.calls = inner, 0, 0

    def forward(self, x_t: Tensor, t: Tensor, c: Condition | None = None) -> Prediction:
        self.rows += len(x_t)
        self.calls += 1
        assert bool(((t > 0) & (t <= 1)).all())
        return self.inner(x_t, t, c)


@pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)
def test_evaluations_are_counted(schedule: Schedule) -> None:
    d, x = Counting(MIXTURE.denoiser(schedule)), start(schedule, 5)
    last = ran(Adaptive(rtol=1e-3, atol=1e-4), d, x)
    assert d.rows == sum(last.nfe) and d.calls < sum(last.nfe)
    assert sum(last.rejected) > 0
    alone = Counting(MIXTURE.denoiser(schedule))
    one = ran(Adaptive(rtol=1e-3, atol=1e-4), alone, x[:1])
    assert alone.calls == one.nfe[0]
    # three a step, one less where a rejected step's first prediction serves again; one to end at sigma = 0
    infinite = 2 if isinstance(schedule, Flow) else 1
    assert (one.nfe[0] - infinite + one.rejected[0]) % 3 == 0
    with pytest.raises(ValueError, match=r"print\(state.nfe\)"):
        Adaptive().nfe(10)


def test_the_plan_has_the_ends() -> None:
    def times(schedule: Schedule, grid: list[float]) -> list[float]:
        return [round(n.t, 4) for n in Adaptive().plan(schedule, torch.tensor(grid, dtype=F64)).nodes]

    assert times(VP(), [1.0, 0.5, 0.0]) == [1.0, 1e-3, 0.0]
    assert times(VP(), [0.9, 0.5, 0.1]) == [0.9, 0.1]
    assert times(VP(), [0.0005, 0.0]) == [0.0005, 0.0]
    assert times(Flow(), [1.0, 0.0]) == [1.0, 0.9939, 1e-3, 0.0]
    assert times(Flow(), [1.0, 0.9999]) == [1.0, 0.9999]
    assert times(VP(), [1.0, 0.0]) == times(VP(), torch.linspace(1, 0, 30).tolist())
    d, x = MIXTURE.denoiser(Flow()), start(Flow(), 2)
    assert torch.equal(Adaptive()(d, x), Adaptive()(d, x, steps=20))
    *_, before, last = Adaptive().trajectory(d, x)
    assert isinstance(last, State) and last.x0 is not None and torch.equal(last.x, last.x0)
    assert torch.equal(last.x0, d(before.x, torch.full((2,), 1e-3, dtype=F64)).x0)


def test_the_start_from_alpha_zero_is_within_the_tolerance(beds) -> None:
    """Its one step of first order ends lower the smaller the tolerance is."""
    for tolerance in (1e-3, 1e-5, 1e-7):
        sampler = Adaptive(rtol=tolerance, atol=tolerance)
        node = sampler.plan(Flow(), torch.tensor([1.0, 0.0], dtype=F64)).nodes[1]
        for bed in beds.values():
            x = start(Flow(), 16, bed.shape)
            got = DDIM()(bed.denoiser(Flow()), x, grid=torch.tensor([1.0, node.t], dtype=F64))
            assert float((got - probability_flow(bed, Flow(), x, 1.0, node.t)).abs().max()) < tolerance


class Constant(Denoiser):
    def forward(self, x_t: Tensor, t: Tensor, c: Condition | None = None) -> Prediction:
        return Prediction.from_x0(torch.full_like(x_t, 0.37), x_t, t, self.schedule)


@pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)
def test_constant_denoiser(schedule: Schedule) -> None:
    """No error is no reason to divide by it: the exact solution, in few steps."""
    x = start(schedule, 2)
    last = ran(Adaptive(), Constant(schedule), x, grid=GRID)
    a, s = schedule.alpha(GRID), schedule.sigma(GRID)
    torch.testing.assert_close(last.x, a[1] * 0.37 + s[1] / s[0] * (x - a[0] * 0.37), rtol=1e-12, atol=1e-12)
    assert max(last.nfe) < 30


def test_gradients_flow(beds) -> None:
    """Those of the exact solution, within the tolerance: step lengths are constants to them."""
    exact, x = beds["gaussian"], start(VP(), 2).requires_grad_()
    got = Adaptive(rtol=1e-5, atol=1e-6)(exact.denoiser(VP()), x, grid=GRID)
    truth = probability_flow(exact, VP(), x, 1.0, 0.01)
    weight = torch.tensor([[0.3, -1.0, 0.7], [1.1, 0.2, -0.4]], dtype=F64)
    ours, theirs = (torch.autograd.grad((weight * out).sum(), x)[0] for out in (got, truth))
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


class Broken(Denoiser):
    """Not finite for one sample, from some time on."""

    def forward(self, x_t: Tensor, t: Tensor, c: Condition | None = None) -> Prediction:
        p = MIXTURE.denoiser(self.schedule)(x_t, t, c)
        return p.with_x0(torch.where((x_t[:, :1] > 0) & (t[:, None] < 0.5), torch.nan, p.x0))


class Rough(Denoiser):
    """Jumps with x: no step is small enough."""

    def forward(self, x_t: Tensor, t: Tensor, c: Condition | None = None) -> Prediction:
        return Prediction.from_x0(torch.sin(1e9 * x_t), x_t, t, self.schedule)


def test_what_cannot_be_solved_is_refused() -> None:
    x = torch.tensor([[-2.0, 0.1, 0.0], [2.0, 0.1, 0.0]], dtype=F64)
    with pytest.raises(FloatingPointError, match="sample 1 between t = 0"):
        Adaptive()(Broken(VP()), x)
    with pytest.raises(RuntimeError, match="has taken 50 steps .* give larger rtol or atol, or max_steps"):
        Adaptive(rtol=1e-6, atol=1e-6, max_steps=50)(Rough(VP()), x)
    with pytest.raises(ValueError, match="3 rows"):
        Adaptive()(MIXTURE.denoiser(VP()), x, c=Condition({"label": torch.zeros(3).long()}))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"solver": DPMSolverPPSingle(1)}, "order 2 or 3"),
        ({"solver": DPMSolver(2)}, "single-step solver"),
        ({"rtol": 0.0}, "rtol=0.0"),
        ({"atol": -1.0}, "atol=-1.0"),
        ({"rtol": float("nan")}, "rtol=nan"),
        ({"t_end": 0.0}, "t_end=0.0"),
        ({"max_steps": 0}, "max_steps=0"),
    ],
)
def test_wrong_options(options: dict[str, Any], message: str, unchecked) -> None:
    with pytest.raises(ValueError, match=message):
        Adaptive(**options)
