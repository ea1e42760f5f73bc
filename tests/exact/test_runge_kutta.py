"""Runge-Kutta methods in the flow's variable: their order on every kind of schedule, and what they reduce to."""

from __future__ import annotations

import math

import pytest
import torch

from mezzotint.core import VE, VP, Cosine, Flow, Noise, Shifted, X0Denoiser
from mezzotint.core.exact import probability_flow
from mezzotint.core.schedule import Schedule
from mezzotint.sample import RungeKutta

METHODS = {"midpoint": 2, "heun3": 3, "rk4": 4}
# The leading term of midpoint's error vanishes on a Gaussian, where u^2 is a quadratic of tau.
MEASURED = {("midpoint", "gaussian"): 3}


def error(method: str, bed, schedule: Schedule, steps: int) -> float:
    """On a grid that is uniform in tau, which is the variable that is solved in, from 1 (or near it) to tau = 0.05."""
    high = float(schedule.sigma(torch.ones(())) / (schedule.alpha(torch.ones(())) + schedule.sigma(torch.ones(()))))
    tau = torch.linspace(high, 0.05, steps + 1, dtype=torch.float64)
    grid = schedule.t_of(((1 - tau) / tau).log())
    grid[0] = 1.0
    x = float(schedule.sigma(torch.ones(()))) * Noise(range(64))("x_T", 0, bed.shape, dtype=torch.float64)
    got = RungeKutta(method)(bed.denoiser(schedule), x, grid=grid)  # type: ignore[arg-type]
    return float((got - probability_flow(bed, schedule, x, 1.0, float(grid[-1]))).square().mean().sqrt())


@pytest.mark.parametrize(
    "schedule", [VP(), Flow(), VE(0.002, 80.0), Shifted(Cosine(), 2.0)], ids=lambda s: type(s).__name__
)
@pytest.mark.parametrize("on", ["gaussian", "mixture"])
@pytest.mark.parametrize("method", METHODS)
def test_order(method: str, on: str, schedule: Schedule, beds) -> None:
    coarse, fine = (error(method, beds[on], schedule, n) for n in (40, 80))
    expected = MEASURED.get((method, on), METHODS[method])
    assert abs(math.log2(coarse / fine) - expected) < 0.15, (coarse, fine)
    assert RungeKutta(method).order == METHODS[method]  # type: ignore[arg-type]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("schedule", [VP(), Flow()], ids=lambda s: type(s).__name__)
def test_a_constant_prediction_is_reached_exactly(method: str, schedule: Schedule, beds) -> None:
    """Every method is exact where u is linear in tau; the last step returns the prediction itself."""
    given = X0Denoiser(lambda x, time, c: torch.full_like(x, 0.7), schedule)
    x = Noise(range(4))("x_T", 0, (3,), dtype=torch.float64)
    assert torch.equal(RungeKutta(method)(given, x, steps=5), torch.full_like(x, 0.7))  # type: ignore[arg-type]
    grid = torch.linspace(1, 0.1, 4, dtype=torch.float64)
    t = grid[[0, -1]]
    (a, b), (s, r) = schedule.alpha(t), schedule.sigma(t)
    expected = b * 0.7 + r / s * (x - a * 0.7)
    torch.testing.assert_close(RungeKutta(method)(given, x, grid=grid), expected, atol=1e-12, rtol=0)  # type: ignore[arg-type]


@pytest.mark.parametrize("method", METHODS)
def test_evaluations_are_counted_and_a_sample_is_the_same_alone(method: str, beds) -> None:
    sampler, bed, calls = RungeKutta(method), beds["mixture"], []  # type: ignore[arg-type]
    denoiser = bed.denoiser(Flow())
    denoiser.register_forward_hook(lambda *_: calls.append(1))
    x = Noise(range(5))("x_T", 0, (1,))
    together = sampler(denoiser, x, steps=4)
    assert len(calls) == sampler.nfe(4) == sampler.plan(Flow(), torch.linspace(1, 0, 5)).nfe
    assert torch.equal(sampler(denoiser, x[2:3], steps=4), together[2:3])


def test_gradients_agree_with_differences(beds) -> None:
    denoiser = beds["mixture"].denoiser(VP())

    def run(x: torch.Tensor) -> torch.Tensor:
        return RungeKutta("rk4")(denoiser, x, steps=3)

    assert torch.autograd.gradcheck(run, torch.tensor([[0.3], [-0.8]], dtype=torch.float64, requires_grad=True))


def test_another_method_is_refused(unchecked) -> None:
    with pytest.raises(ValueError, match="midpoint, heun3, rk4"):
        RungeKutta("rk45")  # type: ignore[arg-type]
