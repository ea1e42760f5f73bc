"""Restart against what is known: the law it keeps, how it mends a wrong one, and the algorithm written out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor

from mezzotint.core import (
    VE,
    VP,
    Condition,
    Denoiser,
    Flow,
    Gaussian,
    GaussianMixture,
    Noise,
    Prediction,
    Schedule,
    karras,
    uniform_lambda,
    uniform_t,
)
from mezzotint.core.exact import ExactDenoiser, probability_flow
from mezzotint.sample import (
    DDIM,
    DDPM,
    DPMSolverPP,
    DPMSolverPPSingle,
    DualFast,
    Heun,
    Plan,
    Restart,
    RestartInterval,
    Sampler,
    State,
    nodes_of,
)

F64 = torch.float64
MIXTURE = GaussianMixture(torch.tensor([[-0.8, 0.3, 0.1], [0.6, -0.2, 0.5]]), torch.tensor([0.2, 0.3]))
TWO = (RestartInterval(0.06, 0.30), RestartInterval(0.5, 1.5, steps=3, times=1))
BASES = {
    "ddim": DDIM(),
    "heun": Heun(),
    "3m": DPMSolverPP(order=3),
    "3s": DPMSolverPPSingle(order=3),
    "dualfast": DualFast(DPMSolverPP(), tau="prev"),
}


class Scripted(Noise):
    """Given numbers as noise, z[k] at step k."""

    def __init__(self, z: Tensor) -> None:
        super().__init__(range(z.shape[1]))
        self.z = z

    def __call__(self, purpose: str, k: int, shape: Sequence[int], **options: Any) -> Tensor:
        return self.z[k].reshape(-1, *shape)


@dataclass(frozen=True)
class ExactFlow(Sampler):
    """Takes each step along the probability flow itself."""

    order = 1

    def plan(self, schedule: Schedule, grid: Tensor) -> Plan:
        nodes = nodes_of(schedule, grid)
        return Plan(nodes, (), ((),) * (len(nodes) - 1), tuple((n.t,) for n in nodes[:-1]))

    def step(
        self, d: Denoiser, state: State, k: int, plan: Plan, c: Condition | None = None, noise: Noise | None = None
    ) -> State:
        assert isinstance(d, ExactDenoiser)
        s, t = plan.nodes[k : k + 2]
        return State(probability_flow(d.distribution, d.schedule, state.x, s.t, t.t), k + 1)


def start(schedule: Schedule, batch: int, size: int = 3) -> Tensor:
    return nodes_of(schedule, torch.ones(1))[0].sigma * Noise(range(batch))("x_T", 0, (size,), dtype=F64)


def final_law(sampler: Sampler, g: Gaussian, schedule: Schedule, grid: Tensor, wrong: float) -> tuple[float, float]:
    """Mean and variance of the result for a start whose variance is `wrong` times the right one, exactly."""
    steps, top = sampler.plan(schedule, grid).steps, nodes_of(schedule, grid[:1])[0]
    x = torch.full((steps + 2, 1), top.alpha * float(g.mean), dtype=F64)
    x[1] += math.sqrt(wrong * (top.alpha**2 * float(g.cov) + top.sigma**2))
    z = torch.cat([torch.zeros(steps, 2, dtype=F64), torch.eye(steps, dtype=F64)], 1)
    out = sampler(g.denoiser(schedule), x, grid=grid, noise=Scripted(z)).flatten()
    return float(out[0]), float((out[1:] - out[0]).square().sum())


@pytest.mark.parametrize("schedule", [VP(), VE(), Flow()], ids=["vp", "ve", "flow"])
def test_an_exact_solver_keeps_the_law_and_mends_a_wrong_one(schedule: Schedule) -> None:
    """On a Gaussian of variance v, a variance V of y at low becomes (V + high^2 - low^2) (v + low^2) / (v + high^2)."""
    g, v = Gaussian(torch.tensor([0.3], dtype=F64), std=0.4), 0.16
    grid = uniform_lambda(schedule, 8)
    low = nodes_of(schedule, grid)[5].ratio
    interval = RestartInterval(low, 3 * low, steps=2, times=3)
    high = 3 * low
    for wrong in (1.0, 1.5, 0.5):
        mean, var = final_law(Restart(ExactFlow(), (interval,)), g, schedule, grid, wrong)
        expected = wrong * (v + low**2)
        for _ in range(3):
            expected = (expected + high**2 - low**2) * (v + low**2) / (v + high**2)
        assert mean == pytest.approx(0.3, abs=1e-12)
        assert var == pytest.approx(expected * v / (v + low**2), rel=1e-9)
        before = final_law(ExactFlow(), g, schedule, grid, wrong)[1]
        assert before == pytest.approx(wrong * v, rel=1e-9)
        assert wrong == 1 or abs(var - v) < abs(before - v)


@pytest.mark.parametrize("name", ["heun", "3m", "3s"])
def test_a_good_solver_keeps_it_nearly(name: str) -> None:
    g = Gaussian(torch.tensor([0.3], dtype=F64), std=0.4)
    interval = RestartInterval(0.2, 0.6, steps=8, times=2)
    errors = []
    for n in (20, 40):
        sampler = Restart(BASES[name], (RestartInterval(interval.low, interval.high, n // 2, 2),))
        errors.append(abs(final_law(sampler, g, VP(), uniform_lambda(VP(), n), 1.0)[1] / 0.16 - 1))
    assert errors[1] < 0.01 and errors[1] < 0.5 * errors[0], errors


@pytest.mark.parametrize("name", BASES)
def test_intervals_that_do_nothing_are_the_base(name: str) -> None:
    d, x = MIXTURE.denoiser(VP()), start(VP(), 2)
    expected = BASES[name](d, x, steps=7)
    for intervals in ((), (RestartInterval(0.2, 0.2),), (RestartInterval(0.1, 0.5, times=0),)):
        sampler = Restart(BASES[name], intervals)
        assert not sampler.stochastic and sampler.nfe(7) == BASES[name].nfe(7)
        assert torch.equal(sampler(d, x, steps=7), expected)
    once = Restart(BASES[name], TWO)
    assert torch.equal(once(d, x, steps=1, noise=Noise([0, 1])), BASES[name](d, x, steps=1))


def test_it_is_the_algorithm() -> None:
    """Written out for EDM's variables, in which alpha = 1: Heun, up by sqrt(high^2 - low^2) z, down over rho = 7."""
    schedule, d, noise = VE(0.002, 80.0), MIXTURE.denoiser(VE(0.002, 80.0)), Noise([0, 1])
    grid = karras(schedule, 10)
    levels = [node.sigma for node in nodes_of(schedule, grid)]
    x = y = start(schedule, 2)

    def data(y: Tensor, s: float) -> Tensor:
        return d(y, schedule.t_of(torch.tensor(-math.log(s), dtype=F64)).expand(2)).x0

    def heun(y: Tensor, s: float, t: float) -> Tensor:
        slope = (y - data(y, s)) / s
        after = y + (t - s) * slope
        return after if t == 0 else y + (t - s) * 0.5 * (slope + (after - data(after, t)) / t)

    k = 0
    for s, t in zip(levels[:-1], levels[1:], strict=True):
        y, k = heun(y, s, t), k + 1
        if t == min(levels[1:-1], key=lambda level: abs(math.log(level / 0.3))):
            high = 1.2 * t / 0.3
            inner = [(high ** (1 / 7) + i / 3 * (t ** (1 / 7) - high ** (1 / 7))) ** 7 for i in range(4)]
            for _ in range(2):
                y = y + math.sqrt(high**2 - t**2) * noise("step", k, (3,), dtype=F64)
                for a, b in zip(inner[:-1], inner[1:], strict=True):
                    y, k = heun(y, a, b), k + 1
    sampler = Restart(Heun(), (RestartInterval(0.3, 1.2, steps=3, times=2),))
    torch.testing.assert_close(sampler(d, x, grid=grid, noise=noise), y, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("schedule", [VP(), Flow()], ids=["vp", "flow"])
@pytest.mark.parametrize("name", BASES)
def test_declared_nfe_is_counted(name: str, schedule: Schedule) -> None:
    calls: list[float] = []

    class Counting(Denoiser):
        def forward(self, x_t: Tensor, t: Tensor, c: Condition | None = None) -> Prediction:
            calls.append(float(t[0]))
            return MIXTURE.denoiser(schedule)(x_t, t, c)

    for steps in (1, 2, 3, 11):
        calls.clear()
        sampler = Restart(BASES[name], TWO)
        sampler(Counting(schedule), start(schedule, 1), steps=steps, noise=Noise([0]))
        plan = sampler.plan(schedule, uniform_t(schedule, steps))
        assert len(calls) == sampler.nfe(steps) == plan.nfe
        assert calls == [t for call in plan.calls for t in call]


def test_where_it_goes() -> None:
    """Noisier intervals first, as the run meets them; at one node in the order given; never above the start."""
    times = torch.linspace(0.5, 0.0, 11, dtype=F64)
    nodes = nodes_of(VP(), times)
    first, second = nodes[3].ratio, nodes[7].ratio
    wide = RestartInterval(second, 1e6, steps=1, times=1)
    sampler = Restart(DDIM(), (RestartInterval(second, 2 * second, 2, 2), wide, RestartInterval(first, 1.2 * first, 1)))
    plan = sampler.plan(VP(), times)
    passed = [node.t for node in plan.nodes]
    a, b = float(times[3]), float(times[7])
    inner = passed[10]
    assert passed == pytest.approx(
        [*times[:4].tolist(), a, a, *times[4:8].tolist(), inner, b, inner, b, b, *times[8:].tolist()], abs=1e-12
    )
    raised = [nodes_of(VP(), torch.tensor(plan.calls[k][:1], dtype=F64))[0].ratio for k in (3, 4, 9, 11)]
    assert raised == pytest.approx([1.2 * first, 1.2 * first, 2 * second, 2 * second], rel=1e-9)
    assert plan.calls[13][0] == 0.5


@pytest.mark.parametrize("name", BASES)
def test_contract(name: str) -> None:
    """A sample alone and in a batch, gradients, states that count on, the prediction at the end."""
    d, sampler = MIXTURE.denoiser(VP()), Restart(BASES[name], TWO)
    for dtype in (torch.float32, F64):
        x = start(VP(), 5).to(dtype)
        together = sampler(d, x, steps=5, noise=Noise(range(5)))
        for i in (0, 4):
            assert torch.equal(sampler(d, x[i : i + 1].clone(), steps=5, noise=Noise([i])), together[i : i + 1])
    assert not torch.equal(sampler(d, x[:1], steps=5, noise=Noise([9])), together[:1])
    x = start(VP(), 1).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: sampler(d, x, steps=4, noise=Noise([0])), x, atol=1e-6)
    states = list(sampler.trajectory(d, x, steps=5, noise=Noise([0])))
    assert [state.k for state in states] == list(range(1, len(states) + 1))
    assert states[-1].x0 is not None and torch.equal(states[-1].x, states[-1].x0)
    with pytest.raises(ValueError, match="pass noise="):
        sampler(d, x, steps=5)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (lambda: Restart(DDPM()), "deterministic solver"),
        (lambda: Restart(Restart()), "deterministic solver"),
        (lambda: Restart(Heun(), ((0.1, 0.2),)), "expected RestartInterval"),  # type: ignore[arg-type]
        (lambda: RestartInterval(0.0, 1.0), "low=0.0"),
        (lambda: RestartInterval(0.5, 0.2), "low=0.5, high=0.2"),
        (lambda: RestartInterval(0.5, math.inf), "high=inf"),
        (lambda: RestartInterval(0.1, 0.5, steps=0), "steps=0"),
        (lambda: RestartInterval(0.1, 0.5, times=-1), "times=-1"),
        (lambda: RestartInterval(0.1, 0.5, times=True), "times=True"),
    ],
)
def test_wrong_values_are_refused(wrong: Any, says: str, unchecked: None) -> None:
    with pytest.raises(ValueError, match=says):
        wrong()
