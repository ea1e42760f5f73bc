"""Stochastic samplers: other libraries' formulas, both ends, and the contract of a sampler."""

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
    GaussianMixture,
    Noise,
    Prediction,
    Schedule,
    Shifted,
    uniform_t,
)
from mezzotint.sample import (
    DDIM,
    Brownian,
    Consistency,
    DPMSolverPP2SAncestral,
    DPMSolverPPSDE,
    DPMSolverPPSingle,
    EulerAncestral,
    Sampler,
    SDEDPMSolverPP,
    State,
)

F64 = torch.float64
OFF: dict[str, Any] = {"lower_order_final": False}
SCHEDULES: dict[str, Any] = {
    "vp": VP(),
    "cosine": Cosine(),
    "ve": VE(),
    "flow": Flow(),
    "discrete": Discrete.linear(),
    "shifted flow": Shifted(Flow(), 3.0),
}
SAMPLERS: dict[str, Sampler] = {
    "sde 1": SDEDPMSolverPP(order=1),
    "sde 2 midpoint": SDEDPMSolverPP(order=2),
    "sde 2 taylor": SDEDPMSolverPP(order=2, form="taylor", eta=0.6, **OFF),
    "sde 3": SDEDPMSolverPP(order=3, start="corrected", **OFF),
    "sde 3 published": SDEDPMSolverPP(order=3, third="published", eta=0.3),
    "euler a": EulerAncestral(),
    "2s a": DPMSolverPP2SAncestral(),
    "2s a eta": DPMSolverPP2SAncestral(eta=0.4),
    "sde two": DPMSolverPPSDE(),
    "sde two eta": DPMSolverPPSDE(eta=0.4, r=0.7),
    "consistency": Consistency(),
    "brownian sde 2": Brownian(SDEDPMSolverPP()),
    "brownian sde two": Brownian(DPMSolverPPSDE()),
}
MIXTURE = GaussianMixture(torch.tensor([[-0.8, 0.3, 0.1], [0.6, -0.2, 0.5]]), torch.tensor([0.2, 0.3]))


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


def start(schedule: Schedule, batch: int, size: int = 3) -> Tensor:
    return at(schedule, 1.0)[1] * Noise(range(batch))("x_T", 0, (size,), dtype=F64)


class Counting(Denoiser):
    def __init__(self, inner: Denoiser) -> None:
        super().__init__(inner.schedule)
        self.inner, self.times = inner, []

    def forward(self, x_t: Tensor, t: Tensor, c: Condition | None = None) -> Prediction:
        self.times.append(float(t[0]))
        return self.inner(x_t, t, c)


@pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)
@pytest.mark.parametrize("name", SAMPLERS)
def test_both_ends_are_finite_and_the_last_step_is_the_prediction(name: str, schedule: Schedule) -> None:
    d, noise = MIXTURE.denoiser(schedule), Noise(range(2))
    for steps in (1, 3):
        sampler = SAMPLERS[name]
        rows = sampler.plan(schedule, uniform_t(schedule, steps)).rows
        assert all(math.isfinite(v) for row in rows for v in row)
        *_, last = sampler.trajectory(d, start(schedule, 2), steps=steps, noise=noise)
        assert last.x0 is not None and torch.equal(last.x, last.x0) and bool(torch.isfinite(last.x).all())


@pytest.mark.parametrize("name", ["sde 1", "sde 2 midpoint", "sde 3 published", "euler a", "2s a", "consistency"])
def test_alpha_zero_is_the_limit_of_much_noise(name: str) -> None:
    """A plan from Flow's t = 1 is that from just below it, where sigma/alpha is 1e12."""
    tail = [0.8, 0.5, 0.1]
    exact, near = (SAMPLERS[name].plan(Flow(), torch.tensor([t, *tail], dtype=F64)).table() for t in (1.0, 1 - 1e-12))
    # a first step of order 1 and a second of order 1 or, just below, 2: the difference is divided by 27
    torch.testing.assert_close(exact, near, rtol=0, atol=1e-9 if name in ("sde 1", "2s a", "consistency") else 0.05)


# --- the formulas of other libraries, in y = x / alpha and sigma / alpha ---


def kept_up(s: float, t: float, eta: float) -> tuple[float, float]:
    up = min(t, eta * math.sqrt(t**2 * (s**2 - t**2) / s**2))
    return math.sqrt(t**2 - up**2), up


@pytest.mark.parametrize("eta", [0.0, 0.6, 1.0])
@pytest.mark.parametrize("schedule", [VP(), VE(), Flow(), Discrete.linear()], ids=["vp", "ve", "flow", "discrete"])
def test_ancestral_steps_are_those_of_k_diffusion(schedule: Schedule, eta: float) -> None:
    times = torch.linspace(0.9, 0.0, 6, dtype=F64)
    levels = [r / b for b, r in (at(schedule, t) for t in times)]
    z = torch.stack([Noise([k, 7 + k])("z", 0, (3,), dtype=F64) for k in range(10)])
    d, (a, _) = MIXTURE.denoiser(schedule), at(schedule, times[0])
    x = levels[0] * a * Noise([0, 1])("x_T", 0, (3,), dtype=F64)

    def data(y: Tensor, level: float) -> Tensor:
        t = schedule.t_of(torch.tensor(-math.log(level), dtype=F64)).expand(2)
        return d(schedule.alpha(t)[:, None] * y, t).x0

    euler, second, sde = (x / a for _ in range(3))
    for k, (s, t) in enumerate(zip(levels[:-1], levels[1:], strict=True)):
        down, up = kept_up(s, t, eta)
        euler = euler + (euler - data(euler, s)) / s * (down - s) + up * z[k]
        m = data(second, s)
        if t == 0:
            second, sde = m, data(sde, s)
            continue
        h = math.inf if down == 0 else math.log(s / down)
        half = s * math.exp(-0.5 * h)
        inner = half / s * second - math.expm1(-0.5 * h) * m
        second = down / s * second - math.expm1(-h) * data(inner, half) + up * z[k]
        m, middle = data(sde, s), math.sqrt(s * t)
        d1, u1 = kept_up(s, middle, eta)
        inner = d1 / s * sde + (1 - d1 / s) * m + u1 * z[5 + k]
        # one Brownian path over (sigma/alpha)^-2, the clock of the reverse process
        share = (middle**-2 - s**-2) / (t**-2 - s**-2) * 1.0
        both = math.sqrt(share) * z[5 + k] + math.sqrt(1 - share) * z[k]
        sde = down / s * sde + (1 - down / s) * data(inner, middle) + up * both
    noise = Scripted(2, {"step": z[:5], "stage 0": z[5:]})
    for sampler, expected in (
        (EulerAncestral(eta), euler),
        (DPMSolverPP2SAncestral(eta=eta), second),
        (DPMSolverPPSDE(eta=eta), sde),
    ):
        torch.testing.assert_close(sampler(d, x, grid=times, noise=noise), expected, rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("schedule", [VP(), Flow()], ids=["vp", "flow"])
def test_without_noise_they_are_deterministic_solvers(schedule: Schedule) -> None:
    """DDIM, and 2S whose grid has twice the steps (of which it uses every other time)."""
    d, x, times = MIXTURE.denoiser(schedule), start(schedule, 3), torch.linspace(0.9, 0.1, 5, dtype=F64)
    twice = torch.linspace(0.9, 0.1, 9, dtype=F64)
    expected = DPMSolverPPSingle(order=2)(d, x, grid=twice)
    for sampler in (DPMSolverPP2SAncestral(eta=0.0), DPMSolverPPSDE(eta=0.0)):
        assert not sampler.stochastic
        torch.testing.assert_close(sampler(d, x, grid=times), expected, rtol=1e-11, atol=1e-12)
    assert torch.equal(EulerAncestral(eta=0.0)(d, x, grid=times), DDIM()(d, x, grid=times))


# --- the contract ---


@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.parametrize("dtype", [torch.float32, F64], ids=["float32", "float64"])
def test_a_sample_is_the_same_alone_and_in_a_batch(name: str, dtype: torch.dtype) -> None:
    d, x_T = MIXTURE.denoiser(VP()), start(VP(), 5).to(dtype)
    together = SAMPLERS[name](d, x_T, steps=5, noise=Noise(range(5)))
    for i in (0, 2, 4):
        alone = SAMPLERS[name](d, x_T[i : i + 1].clone(), steps=5, noise=Noise([i]))
        assert alone.dtype is dtype and torch.equal(alone, together[i : i + 1])
    other = SAMPLERS[name](d, x_T[:1], steps=5, noise=Noise([100]))
    assert not torch.equal(other, together[:1])


@pytest.mark.parametrize("schedule", [VP(), Flow()], ids=["vp", "flow"])
@pytest.mark.parametrize("name", SAMPLERS)
def test_gradients_flow(name: str, schedule: Schedule) -> None:
    d, noise = MIXTURE.denoiser(schedule), Noise([0])
    sampler = SAMPLERS[name]
    x = 0.9 * start(schedule, 1).requires_grad_()
    grid = torch.tensor([0.9, 0.6, 0.3, 0.0], dtype=F64)
    assert torch.autograd.gradcheck(lambda x: sampler(d, x, grid=grid, noise=noise), x, atol=1e-6)


@pytest.mark.parametrize("schedule", [VP(), Flow()], ids=["vp", "flow"])
@pytest.mark.parametrize("name", SAMPLERS)
def test_declared_nfe_is_counted(name: str, schedule: Schedule) -> None:
    for steps in (1, 2, 7):
        d = Counting(MIXTURE.denoiser(schedule))
        SAMPLERS[name](d, start(schedule, 1), steps=steps, noise=Noise([0]))
        plan = SAMPLERS[name].plan(schedule, uniform_t(schedule, steps))
        assert len(d.times) == SAMPLERS[name].nfe(steps) == plan.nfe
        assert d.times == [t for call in plan.calls for t in call]


@pytest.mark.parametrize("name", SAMPLERS)
def test_the_weight_of_the_first_estimate(name: str) -> None:
    """first_order is what a step makes of x = 0 where every prediction is 1 and no noise is drawn."""

    class One(Denoiser):
        def forward(self, x_t: Tensor, t: Tensor, c: Condition | None = None) -> Prediction:
            return Prediction.from_x0(torch.ones_like(x_t), x_t, t, self.schedule)

    one = torch.ones(1, 2, dtype=F64)
    for schedule in (VP(), Flow()):
        plan = SAMPLERS[name].plan(schedule, uniform_t(schedule, 6))
        for k in range(plan.steps):
            after = SAMPLERS[name].step(One(schedule), State(0 * one, k, one, (one,) * min(k, 2)), k, plan)
            expected = SAMPLERS[name].first_order(plan.nodes, k) * one
            torch.testing.assert_close(after.x, expected, rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (lambda: SDEDPMSolverPP(eta=1.2), "eta=1.2"),
        (lambda: SDEDPMSolverPP(eta=math.nan), "eta=nan"),
        (lambda: SDEDPMSolverPP(order=4), "order=4"),
        (lambda: SDEDPMSolverPP(form="heun"), "form='heun'"),  # type: ignore[arg-type]
        (lambda: EulerAncestral(eta=-0.1), "eta=-0.1"),
        (lambda: DPMSolverPP2SAncestral(eta=2.0), "eta=2.0"),
        (lambda: DPMSolverPPSDE(r=0.0), "r=0.0"),
        (lambda: DPMSolverPPSDE(r=math.nan), "r=nan"),
    ],
)
def test_wrong_values_are_refused(wrong: Any, says: str, unchecked: None) -> None:
    with pytest.raises(ValueError, match=says):
        wrong()


def test_noise_is_asked_for() -> None:
    for name, sampler in SAMPLERS.items():
        with pytest.raises(ValueError, match="pass noise="):
            sampler(MIXTURE.denoiser(VP()), start(VP(), 1), steps=2)
        assert sampler.stochastic, name
