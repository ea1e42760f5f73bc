"""DEIS: its order in both variables, what it reduces to, and its integrals against the formulas in rho."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from mezzotint.core import VE, VP, Condition, Denoiser, Flow, GaussianMixture, Noise, Prediction, uniform_t
from mezzotint.core.schedule import Schedule
from mezzotint.sample import DDIM, DEIS, DPMSolver

F64 = torch.float64
MIXTURE = GaussianMixture(torch.tensor([[-0.8, 0.3, 0.1], [0.6, -0.2, 0.5]]), torch.tensor([0.2, 0.3]))
ALL = [DEIS(o, False, variable=v) for o in (1, 2, 3) for v in ("log-rho", "rho")]
every = pytest.mark.parametrize("sampler", ALL, ids=lambda s: f"{s.order} {s.variable}")


def start(schedule: Schedule, batch: int) -> Tensor:
    return schedule.sigma(torch.ones((), dtype=F64)) * Noise(range(batch))("x_T", 0, (3,), dtype=F64)


@every
@pytest.mark.parametrize("on", ["gaussian", "mixture"])
def test_order(sampler: DEIS, on: str, slope) -> None:
    # in log rho a Gaussian's leading error of third order is small: its asymptote is reached a little later
    late = (on, sampler.order, sampler.variable) == ("gaussian", 3, "log-rho")
    assert abs(slope(sampler, on, VP(), 320 if late else 160) - sampler.order) < 0.15


def test_order_with_a_corrected_start(slope) -> None:
    """Where little noise hides no start, order 3 falls towards 2 with a plain one and stays 3 with a corrected one."""
    for variable in ("log-rho", "rho"):
        sampler = DEIS(3, False, variable=variable, start="corrected")
        assert abs(slope(sampler, "mixture", VE(0.02, 20.0), 160) - 3) < 0.15
    assert slope(DEIS(3, False), "mixture", VE(0.02, 20.0), 160) < 2.3


class Constant(Denoiser):
    def forward(self, x_t: Tensor, t: Tensor, c: Condition | None = None) -> Prediction:
        return Prediction.from_x0(torch.full_like(x_t, 0.37), x_t, t, self.schedule)


class ConstantNoise(Denoiser):
    def forward(self, x_t: Tensor, t: Tensor, c: Condition | None = None) -> Prediction:
        a, s = self.schedule.alpha(t)[:, None], self.schedule.sigma(t)[:, None]
        return Prediction.from_x0((x_t - s * 0.6) / a, x_t, t, self.schedule)


@every
@pytest.mark.parametrize("schedule", [VP(), VE(), Flow()], ids=["vp", "ve", "flow"])
def test_one_step_and_the_last_step_of_a_constant_denoiser(sampler: DEIS, schedule: Schedule) -> None:
    """A constant D is exact at order 1 (DDIM) alone; every order returns it at sigma = 0."""
    x_T = start(schedule, 2)
    for steps in (1, 2, 7):
        got = sampler(Constant(schedule), x_T, steps=steps)
        torch.testing.assert_close(got, torch.full_like(x_T, 0.37), rtol=1e-12, atol=1e-12)
        if sampler.order == 1 or steps == 1:
            times = uniform_t(schedule, steps)
            a, s = schedule.alpha(times), schedule.sigma(times)
            for state in sampler.trajectory(Constant(schedule), x_T, steps=steps):
                expected = a[state.k] * 0.37 + s[state.k] / s[0] * (x_T - a[0] * 0.37)
                torch.testing.assert_close(state.x, expected, rtol=1e-12, atol=1e-12)


@every
@pytest.mark.parametrize("schedule", [VP(), VE()], ids=["vp", "ve"])
def test_constant_noise_is_exact(sampler: DEIS, schedule: Schedule) -> None:
    """e = c: x_t / alpha_t moves by (rho_t - rho_s) c, whatever the nodes."""
    times = torch.linspace(0.9, 0.05, 8, dtype=F64)
    x = start(schedule, 2)
    got = sampler(ConstantNoise(schedule), x, grid=times)
    a, s = schedule.alpha(times), schedule.sigma(times)
    expected = a[-1] * (x / a[0] + (s[-1] / a[-1] - s[0] / a[0]) * 0.6)
    torch.testing.assert_close(got, expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("schedule", [VP(), VE(), Flow()], ids=["vp", "ve", "flow"])
def test_reductions(schedule: Schedule) -> None:
    """Order 1 is DDIM; in log rho the others are DPM-Solver's noise form with exact weights."""
    d, x_T = MIXTURE.denoiser(schedule), start(schedule, 4)
    for variable in ("log-rho", "rho"):
        torch.testing.assert_close(
            DEIS(1, variable=variable)(d, x_T, steps=9), DDIM()(d, x_T, steps=9), rtol=1e-11, atol=1e-12
        )
    for order in (2, 3):
        same = DPMSolver(order=order, form="taylor", start="plain")(d, x_T, steps=9)
        assert torch.equal(DEIS(order)(d, x_T, steps=9), same)


def antiderivative(power: int, at: float) -> float:
    """int (log rho)^power d rho."""
    log = math.log(at)
    return at * (1.0, log - 1, log**2 - 2 * log + 2)[power]


@pytest.mark.parametrize("variable", ["log-rho", "rho"])
def test_weights_are_integrals_of_lagranges_polynomials(variable: str) -> None:
    """x_t/alpha_t - x_s/alpha_s = sum_i e_i int L_i d rho, the third-order step, its polynomials solved for."""
    schedule, times = VP(), torch.linspace(0.8, 0.3, 4, dtype=F64)
    sampler = DEIS(3, False, variable=variable)
    nodes = sampler.plan(schedule, times).nodes
    rho = [node.ratio for node in nodes]
    past = [rho[2], rho[1], rho[0]]
    phi = torch.tensor([math.log(r) if variable == "log-rho" else r for r in past], dtype=F64)
    if variable == "log-rho":
        moments = [antiderivative(n, rho[3]) - antiderivative(n, rho[2]) for n in range(3)]
    else:
        moments = [(rho[3] ** (n + 1) - rho[2] ** (n + 1)) / (n + 1) for n in range(3)]
    vandermonde = torch.stack([phi**n for n in range(3)])
    expected = torch.linalg.solve(vandermonde, torch.tensor(moments, dtype=F64))
    got = [-w * rho[3] for w in sampler.integral(nodes, 2)]
    torch.testing.assert_close(torch.tensor(got, dtype=F64), expected, rtol=1e-9, atol=1e-10)


@every
def test_batch_gradients_and_evaluations(sampler: DEIS) -> None:
    d, x_T = MIXTURE.denoiser(VP()), start(VP(), 9)
    for x in (x_T, x_T.float()):
        together = sampler(d, x, steps=6)
        for i in (0, 4, 8):
            assert torch.equal(sampler(d, x[i : i + 1].clone(), steps=6), together[i : i + 1])
    assert torch.autograd.gradcheck(lambda x: sampler(d, x, steps=5), x_T[:2].clone().requires_grad_(), atol=1e-6)
    for steps in (1, 2, 12):
        assert sampler.nfe(steps) == sampler.plan(VP(), uniform_t(VP(), steps)).nfe == steps


def test_wrong_choices(unchecked: None) -> None:
    for arguments, message in (({"order": 4}, "order=4"), ({"variable": "t"}, "variable='t'")):
        with pytest.raises(ValueError, match=message):
            DEIS(**arguments)
    with pytest.raises(TypeError):
        DEIS(form="midpoint")  # type: ignore[call-arg]
