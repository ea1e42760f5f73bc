"""Inversion: round trips against the sheet's numbers, its order, its ends, and fixed points that map back exactly."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from mezzotint.core import VE, VP, Condition, Cosine, Denoiser, Flow, Gaussian, Noise, Prediction, uniform_lambda
from mezzotint.core.exact import probability_flow
from mezzotint.core.schedule import Schedule
from mezzotint.sample import (
    DDIM,
    DDPM,
    DEIS,
    Adaptive,
    DPMSolver,
    DPMSolverPP,
    DPMSolverPPSingle,
    DualFast,
    Euler,
    Heun,
    Sampler,
    State,
    UniPC,
    fixed_point,
    invert,
)

F64 = torch.float64
SCHEDULES = {"vp": VP(), "cosine": Cosine(), "ve": VE(), "flow": Flow()}
OFF = {"lower_order_final": False}
SAMPLERS: dict[str, Sampler] = {
    "ddim": DDIM(),
    "euler": Euler(),
    "heun": Heun(),
    "dpmpp-2m": DPMSolverPP(2, False),
    "dpmpp-3m": DPMSolverPP(3, False),
    "dpmpp-2s": DPMSolverPPSingle(order=2),
    "dpmpp-3s": DPMSolverPPSingle(order=3),
    "dpm-2m": DPMSolver(2, False),
    "deis-2": DEIS(2, False),
    "unipc-2": UniPC(2, **OFF),
}
ONE_STEP = ["ddim", "euler", "heun", "dpmpp-2s"]


def start(schedule: Schedule, count: int, shape: tuple[int, ...] = (1,)) -> Tensor:
    return schedule.sigma(torch.ones((), dtype=F64)) * Noise(range(count))("x_T", 0, shape, dtype=F64)


def rms(x: Tensor) -> float:
    return float(x.square().mean().sqrt())


# The sheet of arXiv 2211.01095, section 6, check 9: bounds at 200 steps, 2M measured there at 3e-6.
@pytest.mark.parametrize(
    ("name", "spacing", "low", "high"),
    [
        ("dpmpp-2m", "lambda", 1e-6, 1e-5),
        ("dpmpp-2m", "t", 0, 3e-4),
        ("ddim", "lambda", 1.8e-2, 2.8e-2),
        ("ddim", "t", 1.8e-2, 2.8e-2),
        ("heun", "lambda", 0, 1e-5),
        ("dpmpp-2s", "lambda", 0, 1e-5),
        ("dpmpp-3s", "lambda", 0, 2e-5),
        ("dpm-2m", "lambda", 0, 1e-5),
        ("deis-2", "lambda", 0, 1e-5),
        ("unipc-2", "lambda", 0, 2e-5),
        ("dpmpp-3m", "lambda", 0, 2e-5),
    ],
)
def test_round_trips_of_the_sheet(name: str, spacing: str, low: float, high: float, beds) -> None:
    d, x_T, sampler = beds["mixture"].denoiser(VP()), start(VP(), 256), SAMPLERS[name]
    grid = uniform_lambda(VP(), 200, t_end=0.01, to_zero=False)
    if spacing == "t":
        grid = torch.linspace(1, 0.01, 201, dtype=F64)
    back = invert(sampler, d, sampler(d, x_T, grid=grid), grid=grid)
    assert low <= rms(back - x_T) < high


@pytest.mark.parametrize("name", ["ddim", "heun", "dpmpp-2m", "dpm-2m", "deis-2", "dpmpp-2s"])
def test_the_order_holds_backwards(name: str, beds) -> None:
    """Against the flow itself, from data at t = 0.01 to noise."""
    bed, x = beds["mixture"], beds["mixture"].sample(Noise(range(64)))
    x = 0.99 * x
    exact = probability_flow(bed, VP(), x, 0.01, 1.0)

    def error(steps: int) -> float:
        grid = uniform_lambda(VP(), steps, t_end=0.01, to_zero=False)
        return rms(invert(SAMPLERS[name], bed.denoiser(VP()), x, grid=grid) - exact)

    assert abs(math.log2(error(160) / error(320)) - SAMPLERS[name].order) < 0.15


class Counting(Denoiser):
    def __init__(self, inner: Denoiser) -> None:
        super().__init__(inner.schedule)
        self.inner, self.calls = inner, 0

    def forward(self, x_t: Tensor, t: Tensor, c: Condition | None = None) -> Prediction:
        self.calls += 1
        return self.inner(x_t, t, c)


@pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)
@pytest.mark.parametrize("name", SAMPLERS)
def test_both_ends_are_finite_and_cost_what_sampling_costs(name: str, schedule: Schedule, beds) -> None:
    """From exactly sigma = 0, to alpha = 0 where the schedule has it; then back again to what it was."""
    bed = beds["mixture"]
    d, x0, sampler = Counting(bed.denoiser(schedule)), bed.sample(Noise(range(48))), SAMPLERS[name]
    seen: list[State] = []
    x_T = invert(sampler, d, x0, steps=60, grid=uniform_lambda, on_step=lambda k, state: seen.append(state))
    assert bool(torch.isfinite(x_T).all()) and d.calls <= sampler.nfe(60) + 1
    assert [state.k for state in seen] == list(range(1, len(seen) + 1)) and torch.equal(seen[-1].x, x_T)
    level = float(schedule.sigma(torch.ones((), dtype=F64)))
    assert 0.6 * level < float(x_T.std()) < 1.5 * level
    again = sampler(d, x_T, steps=60, grid=uniform_lambda)
    assert rms(again - x0) < (0.15 if sampler.order == 1 else 0.03)


def test_the_step_from_data_is_ddim_inversions() -> None:
    """x = alpha x0 + sigma eps(alpha x0), and to alpha = 0 x = sigma eps, on a Gaussian by hand."""
    schedule, m, v = Flow(), 0.3, 0.16
    d, x0 = Gaussian(torch.tensor([m], dtype=F64), std=0.4).denoiser(schedule), torch.tensor([[0.9]], dtype=F64)

    def eps(x: Tensor, t: float) -> Tensor:
        a = 1 - t
        return (x - a * (m + a * v * (x - a * m) / (a**2 * v + t**2))) / t

    x = 0.8 * x0 + 0.2 * eps(0.8 * x0, 0.2)
    torch.testing.assert_close(
        invert(DPMSolverPP(), d, x0, grid=torch.tensor([1.0, 0.2, 0.0], dtype=F64)), eps(x, 0.2), rtol=1e-12, atol=0
    )
    torch.testing.assert_close(invert(DDIM(), d, x0, grid=torch.tensor([0.2, 0.0], dtype=F64)), x, rtol=1e-12, atol=0)


@pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)
@pytest.mark.parametrize(
    ("name", "steps"), [*(("ddim", n) for n in (2, 9, 40)), *((name, 40) for name in ONE_STEP[1:])]
)
def test_fixed_points_map_back(name: str, schedule: Schedule, steps: int, beds) -> None:
    """To 1e-10: DDIM at any number of steps, the others at many (a long step of higher order may have no preimage)."""
    bed = beds["mixture"]
    d, x0, sampler = bed.denoiser(schedule), bed.sample(Noise(range(24))), SAMPLERS[name]
    grid = uniform_lambda if name != "ddim" else None
    x_T = fixed_point(sampler, d, x0, steps=steps, grid=grid)
    assert float((sampler(d, x_T, steps=steps, grid=grid) - x0).abs().max()) < 1e-10
    if steps == 9:
        plain = invert(sampler, d, x0, steps=steps)
        assert float((sampler(d, plain, steps=steps) - x0).abs().max()) > 1e-3  # the test can fail


def test_fixed_points_in_three_dimensions_and_on_parts_of_a_grid(beds) -> None:
    bed = beds["gaussian"]
    d, grid = bed.denoiser(VP()), torch.tensor([0.9, 0.5, 0.2, 0.05], dtype=F64)
    x = bed.sample(Noise(range(6)))
    x_T = fixed_point(DDIM(), d, x, grid=grid)
    assert float((DDIM()(d, x_T, grid=grid) - x).abs().max()) < 1e-10
    low = fixed_point(DDIM(), d, x.float(), grid=grid)
    assert low.dtype == torch.float32
    torch.testing.assert_close(low.double(), x_T, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("make", [invert, fixed_point])
def test_a_sample_is_the_same_alone_and_in_a_batch(make, beds) -> None:
    bed = beds["mixture"]
    for dtype in (torch.float32, F64):
        d, x = bed.denoiser(VP()), bed.sample(Noise(range(17))).to(dtype)
        together = make(DDIM(), d, x, steps=12)
        for i in (0, 5, 16):
            assert torch.equal(make(DDIM(), d, x[i : i + 1].clone(), steps=12), together[i : i + 1])


def test_gradients_flow_through_inversion(beds) -> None:
    d = beds["mixture"].denoiser(VP())
    x = torch.tensor([[0.3], [-0.8]], dtype=F64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: invert(DPMSolverPP(), d, x, steps=5), x, atol=1e-6)


class Steep(Denoiser):
    """A denoiser no data has: its slope is far above 1 / alpha, and turns around."""

    def forward(self, x_t: Tensor, t: Tensor, c: Condition | None = None) -> Prediction:
        return Prediction.from_x0(torch.sin(400 * x_t).abs(), x_t, t, self.schedule)


def test_what_does_not_converge_is_refused(beds) -> None:
    x = torch.full((2, 1), 3.0, dtype=F64)
    with pytest.raises(RuntimeError, match=r"did not converge between t = 0 and 0\.5: after 200 iterations"):
        fixed_point(DDIM(), Steep(VP()), x, steps=2)
    with pytest.raises(RuntimeError, match="after 1 iterations"):
        fixed_point(DDIM(), beds["mixture"].denoiser(VP()), x, steps=2, iterations=1)


@pytest.mark.parametrize("make", [invert, fixed_point])
@pytest.mark.parametrize(
    ("sampler", "options", "message"),
    [
        (DDPM(), {"steps": 4}, "draws noise"),
        (DDIM(eta=0.5), {"steps": 4}, "draws noise"),
        (Adaptive(), {"steps": 4}, "from noise to data only"),
        (DualFast(DDIM()), {"steps": 4}, "from noise to data only"),
        (DDIM(), {}, "neither steps"),
        (DDIM(), {"grid": torch.tensor([0.1, 0.5])}, "index 1"),
        (DDIM(), {"steps": 3, "c": Condition({"a": torch.zeros(3)})}, "3 rows"),
    ],
)
def test_wrong_calls(make, sampler: Sampler, options: dict, message: str, beds) -> None:
    with pytest.raises(ValueError, match=message):
        make(sampler, beds["mixture"].denoiser(VP()), torch.zeros(2, 1), **options)


def test_wrong_values(beds, unchecked: None) -> None:
    d, x = beds["mixture"].denoiser(VP()), torch.zeros(2, 1)
    for options, message in (({"tol": 0.0}, "tol=0"), ({"iterations": 0}, "iterations=0")):
        with pytest.raises(ValueError, match=message):
            fixed_point(DDIM(), d, x, steps=3, **options)
    with pytest.raises(ValueError, match="uses predictions of earlier steps"):
        fixed_point(DPMSolverPP(), d, x, steps=3)
    with pytest.raises(ValueError, match="forgets all of x"):
        invert(DDIM(), beds["mixture"].denoiser(Flow()), x, steps=1)
    with pytest.raises(ValueError, match="NaN or infinity"):
        invert(DDIM(), d, x / 0, steps=3)
