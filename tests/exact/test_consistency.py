"""Consistency sampling with a consistency function that is known."""

from __future__ import annotations

from collections.abc import Sequence
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
)
from mezzotint.core.exact import probability_flow
from mezzotint.sample import (
    Consistency,
)

F64 = torch.float64
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


class Exact(Denoiser):
    """The consistency function of a Gaussian: where the probability flow ends."""

    def __init__(self, g: Gaussian, schedule: Schedule) -> None:
        super().__init__(schedule)
        self.g = g

    def forward(self, x_t: Tensor, t: Tensor, c: Condition | None = None) -> Prediction:
        return Prediction.from_x0(probability_flow(self.g, self.schedule, x_t, float(t[0]), 0.0), x_t, t, self.schedule)


def at(schedule: Schedule, t: float | Tensor) -> tuple[float, float]:
    time = torch.as_tensor(t, dtype=F64)
    return float(schedule.alpha(time)), float(schedule.sigma(time))


def start(schedule: Schedule, batch: int, size: int = 3) -> Tensor:
    return at(schedule, 1.0)[1] * Noise(range(batch))("x_T", 0, (size,), dtype=F64)


@pytest.mark.parametrize("schedule", [VP(), Flow(), VE()], ids=["vp", "flow", "ve"])
def test_an_exact_consistency_function_gives_exact_samples(schedule: Schedule) -> None:
    """Mean and covariance at any number of steps, exactly; one step is the flow's; the last draws nothing."""
    g = Gaussian(torch.tensor([0.5, -0.3]), cov=torch.tensor([[0.5, 0.3], [0.3, 0.6]], dtype=F64))
    d = Exact(g, schedule)
    a, s = at(schedule, 1.0)
    for steps in (1, 2, 5):
        batch = 2 * steps + 3
        root = torch.linalg.cholesky(a**2 * g.cov + s**2 * torch.eye(2, dtype=F64))
        x = (a * g.mean).expand(batch, 2).clone()
        x[1:3] += root.T
        unit = torch.zeros(steps, batch, 2, dtype=F64)
        for k in range(steps):
            unit[k, 3 + 2 * k : 5 + 2 * k] = torch.eye(2, dtype=F64)
        out = Consistency()(d, x, steps=steps, noise=Scripted(batch, {"step": unit}))
        apart = out[1:] - out[0]
        torch.testing.assert_close(out[0], g.mean, rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(apart.T @ apart, g.cov, rtol=1e-12, atol=1e-12)
    x = start(schedule, 3, 2)
    once = Consistency()(d, x, steps=1, noise=Noise(range(3)))
    torch.testing.assert_close(once, probability_flow(g, schedule, x, 1.0, 0.0), rtol=1e-12, atol=1e-12)


def test_consistency_steps_are_the_formula() -> None:
    d, x, z = MIXTURE.denoiser(Flow()), start(Flow(), 2), torch.linspace(-1, 1, 18, dtype=F64)
    z, times = z.reshape(3, 2, 3), [1.0, 0.7, 0.2, 0.0]
    got = Consistency()(d, x, grid=torch.tensor(times, dtype=F64), noise=Scripted(2, {"step": z}))
    for k in range(3):
        x = (1 - times[k + 1]) * d(x, torch.full((2,), times[k], dtype=F64)).x0 + times[k + 1] * z[k]
    torch.testing.assert_close(got, x, rtol=1e-12, atol=1e-12)
