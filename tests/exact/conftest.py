"""The two test beds of the solvers: a mixture in one dimension and a correlated Gaussian in three."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch

from mezzotint.core import Gaussian, GaussianMixture, Noise, uniform_lambda
from mezzotint.core.exact import Distribution, probability_flow
from mezzotint.core.schedule import Schedule
from mezzotint.sample import Sampler

T_END = 0.01
BEDS: dict[str, Distribution] = {
    # the sheet of arXiv 2211.01095, section 6
    "mixture": GaussianMixture(
        torch.tensor([[-1.0], [0.4], [1.2]]), torch.tensor([0.35, 0.5, 0.4]), torch.tensor([0.3, 0.4, 0.3])
    ),
    "gaussian": Gaussian(
        torch.tensor([0.5, -0.3, 0.1]),
        cov=torch.tensor([[0.5, 0.3, 0.0], [0.3, 0.6, -0.1], [0.0, -0.1, 0.05]], dtype=torch.float64),
    ),
}


@pytest.fixture(scope="session")
def beds() -> dict[str, Distribution]:
    """The beds by name: mixture, gaussian."""
    return BEDS


@pytest.fixture(scope="session")
def rmse() -> Callable[..., float]:
    """rmse(sampler, bed, schedule, steps, uniform="lambda", count=256): error at t = 0.01 against the exact flow."""

    def measured(
        sampler: Sampler, on: str, schedule: Schedule, steps: int, uniform: str = "lambda", count: int = 256
    ) -> float:
        exact = BEDS[on]
        level = schedule.sigma(torch.ones((), dtype=torch.float64))
        x_T = level * Noise(range(count))("x_T", 0, exact.shape, dtype=torch.float64)
        if uniform == "lambda":
            grid = uniform_lambda(schedule, steps, t_end=T_END, to_zero=False)
        else:
            grid = torch.linspace(1, T_END, steps + 1, dtype=torch.float64)
        got = sampler(exact.denoiser(schedule), x_T, grid=grid)
        return float((got - probability_flow(exact, schedule, x_T, 1.0, T_END)).square().mean().sqrt())

    return measured


@pytest.fixture(scope="session")
def slope(rmse) -> Callable[..., float]:
    """slope(sampler, bed, schedule, steps, uniform="lambda"): order measured at `steps` and twice as many, 12 draws."""

    def measured(sampler: Sampler, on: str, schedule: Schedule, steps: int, uniform: str = "lambda") -> float:
        coarse, fine = (rmse(sampler, on, schedule, n, uniform, 12) for n in (steps, 2 * steps))
        return math.log2(coarse / fine)

    return measured
