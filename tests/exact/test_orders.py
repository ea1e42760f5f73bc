"""The order of every deterministic sampler, measured against solutions that are known without a solver."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from mezzotint.core import VE, VP, Cosine, Discrete, Flow, Gaussian, GaussianMixture, Noise, Shifted, uniform_lambda
from mezzotint.core.schedule import Schedule
from mezzotint.sample import DDIM, DPMSolverPP, Euler, Heun, Sampler

T_END = 0.01
OFF = {"lower_order_final": False}
SAMPLERS: dict[str, tuple[Sampler, int]] = {
    "ddim": (DDIM(), 1),
    "euler": (Euler(), 1),
    "heun": (Heun(), 2),
    "dpmpp-1": (DPMSolverPP(order=1, **OFF), 1),
    "dpmpp-2m midpoint": (DPMSolverPP(order=2, **OFF), 2),
    "dpmpp-2m taylor": (DPMSolverPP(order=2, form="taylor", **OFF), 2),
    "dpmpp-3m exact": (DPMSolverPP(order=3, **OFF), 3),
    "dpmpp-3m published": (DPMSolverPP(order=3, third="published", **OFF), 2),
}
# The sheet of arXiv 2211.01095, section 6: root mean square errors at 80, 160 and 320 steps.
SHEET = {
    "dpmpp-1": (2.0e-2, 1.0e-2, 5.1e-3),
    "dpmpp-2m midpoint": (5.7e-4, 1.4e-4, 3.6e-5),
    "dpmpp-2m taylor": (9.2e-4, 2.3e-4, 5.7e-5),
    "dpmpp-3m published": (1.9e-4, 4.5e-5, 1.1e-5),
    "dpmpp-3m exact": (3.5e-5, 4.3e-6, 5.3e-7),
}

MIX_W = torch.tensor([0.3, 0.4, 0.3], dtype=torch.float64)
MIX_M = torch.tensor([-1.0, 0.4, 1.2], dtype=torch.float64)
MIX_S = torch.tensor([0.35, 0.5, 0.4], dtype=torch.float64)


def _ab(schedule: Schedule, t: float) -> tuple[float, float]:
    time = torch.tensor(t, dtype=torch.float64)
    return float(schedule.alpha(time)), float(schedule.sigma(time))


def mixture_solution(schedule: Schedule, x: Tensor, t: float) -> Tensor:
    """The probability flow in one dimension keeps quantiles: solves F_t(y) = F_1(x) by bisection."""

    def below(y: Tensor, t: float) -> Tensor:
        alpha, sigma = _ab(schedule, t)
        z = (y[..., None] - alpha * MIX_M) / (alpha**2 * MIX_S**2 + sigma**2).sqrt()
        # left tail for negative x, right tail otherwise, so that no digits are lost to 1 - F
        left, right = (0.5 * torch.erfc(sign * z / math.sqrt(2)) for sign in (-1, 1))
        return (MIX_W * left).sum(-1), (MIX_W * right).sum(-1)

    left, right = below(x, 1.0)
    low, high = torch.full_like(x, -8), torch.full_like(x, 8)
    for _ in range(60):
        middle = 0.5 * (low + high)
        at_left, at_right = below(middle, t)
        too_low = torch.where(x < 0, at_left < left, at_right > right)
        low, high = torch.where(too_low, middle, low), torch.where(too_low, high, middle)
    return 0.5 * (low + high)


GAUSS = Gaussian(
    torch.tensor([0.5, -0.3, 0.1]),
    cov=torch.tensor([[0.5, 0.3, 0.0], [0.3, 0.6, -0.1], [0.0, -0.1, 0.05]], dtype=torch.float64),
)


def gaussian_solution(schedule: Schedule, x: Tensor, t: float) -> Tensor:
    """Along each eigenvector the flow keeps (x - alpha mean) / sqrt(alpha^2 value + sigma^2)."""
    values, vectors = torch.linalg.eigh(GAUSS.cov)
    (a1, s1), (a, s) = _ab(schedule, 1.0), _ab(schedule, t)
    growth = ((a**2 * values + s**2) / (a1**2 * values + s1**2)).sqrt()
    return a * GAUSS.mean + ((x - a1 * GAUSS.mean) @ vectors * growth) @ vectors.T


MIXTURE = GaussianMixture(MIX_M[:, None], MIX_S, MIX_W)


def rmse(sampler: Sampler, on: str, schedule: Schedule, steps: int, uniform: str = "lambda") -> float:
    exact, solve, size = (MIXTURE, mixture_solution, 1) if on == "mixture" else (GAUSS, gaussian_solution, 3)
    x_T = _ab(schedule, 1.0)[1] * Noise(range(256))("x_T", 0, (size,), dtype=torch.float64)
    if uniform == "lambda":
        grid = uniform_lambda(schedule, steps, t_end=T_END, to_zero=False)
    else:
        grid = torch.linspace(1, T_END, steps + 1, dtype=torch.float64)
    got = sampler(exact.denoiser(schedule), x_T, grid=grid)
    return float((got - solve(schedule, x_T, T_END)).square().mean().sqrt())


@pytest.mark.parametrize("on", ["gaussian", "mixture"])
@pytest.mark.parametrize("name", SAMPLERS)
def test_order_on_vp(name: str, on: str) -> None:
    sampler, order = SAMPLERS[name]
    # a Gaussian's leading error of third order is small: its asymptote is reached a little later
    steps = (320, 640) if (order, on) == (3, "gaussian") else (160, 320)
    coarse, fine = (rmse(sampler, on, VP(), n) for n in steps)
    assert abs(math.log2(coarse / fine) - order) < 0.15, (coarse, fine)
    if name != "dpmpp-3m published":
        assert sampler.order == order


@pytest.mark.parametrize("name", SHEET)
def test_errors_of_the_sheet(name: str) -> None:
    """Other draws than the sheet's, hence a factor of 1.5 either way."""
    for steps, expected in zip((80, 160, 320), SHEET[name], strict=True):
        assert expected / 1.5 < rmse(SAMPLERS[name][0], "mixture", VP(), steps) < expected * 1.5


@pytest.mark.parametrize("name", ["ddim", "heun", "dpmpp-2m midpoint", "dpmpp-2m taylor"])
@pytest.mark.parametrize("schedule", [Flow(), Shifted(Cosine(), 2.0)], ids=["flow", "shifted cosine"])
def test_order_from_alpha_zero(name: str, schedule: Schedule) -> None:
    """Uniform t from alpha = 0: the first step is infinite in lambda and must not cost an order."""
    sampler, order = SAMPLERS[name]
    coarse, fine = (rmse(sampler, "gaussian", schedule, n, uniform="t") for n in (160, 320))
    assert abs(math.log2(coarse / fine) - order) < 0.15, (coarse, fine)


@pytest.mark.parametrize("name", ["ddim", "heun", "dpmpp-2m midpoint"])
@pytest.mark.parametrize("schedule", [VE(0.02, 20.0), Discrete.linear()], ids=["ve", "discrete"])
def test_order_on_other_schedules(name: str, schedule: Schedule) -> None:
    sampler, order = SAMPLERS[name]
    coarse, fine = (rmse(sampler, "gaussian", schedule, n) for n in (80, 160))
    assert abs(math.log2(coarse / fine) - order) < 0.15, (coarse, fine)


def test_the_start_of_3m_counts_where_little_noise_does_not_hide_it() -> None:
    """The one first-order step is of second order where D moves already: at sigma = 20, not at VP's t = 1."""
    coarse, fine = (rmse(SAMPLERS["dpmpp-3m exact"][0], "gaussian", VE(0.02, 20.0), n) for n in (160, 320))
    assert abs(math.log2(coarse / fine) - 2) < 0.15, (coarse, fine)
