"""One path a seed: its law, the solvers' strong order along it, and what it does for runs of different lengths."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from mezzotint.core import (
    VP,
    BrownianPath,
    Condition,
    Denoiser,
    Flow,
    GaussianMixture,
    Noise,
    Prediction,
    uniform_lambda,
)
from mezzotint.sample import (
    DDPM,
    Brownian,
    Churn,
    DPMSolverPP,
    DPMSolverPP2SAncestral,
    DPMSolverPPSDE,
    DualFast,
    EulerAncestral,
    Heun,
    Restart,
    SDEDPMSolverPP,
    StationaryPath,
)

F64 = torch.float64
MIXTURE = GaussianMixture(torch.tensor([[-0.8, 0.3, 0.1], [0.6, -0.2, 0.5]]), torch.tensor([0.2, 0.3]))


def start(batch: int) -> Tensor:
    return Noise(range(batch))("x_T", 0, (3,), dtype=F64)


class TwoPoints(Denoiser):
    """The exact denoiser of independent numbers that are -1 or 1."""

    def forward(self, x_t: Tensor, t: Tensor, c: Condition | None = None) -> Prediction:
        a, s = self.schedule.alpha(t)[:, None], self.schedule.sigma(t)[:, None]
        return Prediction.from_x0(torch.tanh(a * x_t / s**2), x_t, t, self.schedule)


SLOW = [
    (SDEDPMSolverPP(order=3), (128, 256, 512)),  # before that its deterministic part, of order 3, still shows
    (DPMSolverPP2SAncestral(), (32, 64, 128)),
    (DPMSolverPPSDE(), (32, 64, 128)),
    (EulerAncestral(eta=0.7), (32, 64, 128)),
]


@pytest.mark.parametrize(
    ("base", "steps"), [(SDEDPMSolverPP(), (16, 32, 64)), *(pytest.param(*s, marks=pytest.mark.slow) for s in SLOW)]
)
def test_strong_order_where_the_denoiser_is_not_linear(base: Any, steps: tuple[int, ...]) -> None:
    """On the path of one seed, 1000 numbers at once: slope 1, and far nearer than runs with draws of their own."""
    eta = base.eta if isinstance(base, SDEDPMSolverPP) else base.eta**2
    noise = Noise([0])
    x = noise("x_T", 0, (1000,), dtype=F64)
    ends = [
        Brownian(base, rate=eta)(
            TwoPoints(VP()), x, grid=uniform_lambda(VP(), n, t_end=0.2, to_zero=False), noise=noise
        )
        for n in steps
    ]
    distances = [float((a - b).square().mean().sqrt()) for a, b in zip(ends, ends[1:])]
    assert abs(math.log2(distances[0] / distances[1]) - 1) < 0.25, distances
    alone = base(TwoPoints(VP()), x, grid=uniform_lambda(VP(), steps[1], t_end=0.2, to_zero=False), noise=noise)
    assert distances[1] < 0.15 * float((alone - ends[1]).square().mean().sqrt())


@pytest.mark.parametrize("eta", [0.5, 1.0])
def test_with_a_constant_denoiser_the_number_of_steps_does_not_matter(eta: float) -> None:
    """All that two runs on one path differ in is the solver's error: here there is none."""

    class Constant(Denoiser):
        def forward(self, x_t: Tensor, t: Tensor, c: Condition | None = None) -> Prediction:
            return Prediction.from_x0(torch.full_like(x_t, 0.4), x_t, t, self.schedule)

    for schedule in (VP(), Flow()):
        noise, grid = Noise([3, 4]), torch.linspace(1, 0.1, 9, dtype=F64)
        x = start(2)
        sampler = Brownian(SDEDPMSolverPP(eta=eta), rate=eta)
        few, many = (sampler(Constant(schedule), x, grid=g, noise=noise) for g in (grid[::4], grid))
        torch.testing.assert_close(few, many, rtol=0, atol=3e-5)
        plain = (SDEDPMSolverPP(eta=eta)(Constant(schedule), x, grid=g, noise=noise) for g in (grid[::4], grid))
        assert float((next(plain) - next(plain)).abs().max()) > 0.05
    one, two = (Brownian(DPMSolverPPSDE())(Constant(VP()), start(2), grid=g, noise=Noise([3, 4]))
                for g in (grid[::4], grid))  # fmt: skip
    torch.testing.assert_close(one, two, rtol=0, atol=3e-5)


def test_increments_of_one_path_are_independent_normals() -> None:
    path, places = StationaryPath(Noise([0]), (20000,)), [-math.inf, -3.0, -0.5, 0.0, 0.7, 6.0]
    draws = torch.cat([path.increment(a, b) for a, b in zip(places, places[1:])])
    torch.testing.assert_close(draws @ draws.T / 20000, torch.eye(5, dtype=F64), rtol=0, atol=5 / 20000**0.5)
    u, v = path(-0.5), path(0.7)
    assert abs(float((u * v).mean()) - math.exp(-1.2)) < 5 / 20000**0.5
    assert abs(float(u.square().mean()) - 1) < 5 * (2 / 20000) ** 0.5
    # what a step adds in two parts is what it adds at once
    new = [math.sqrt(-math.expm1(-2 * h)) for h in (1.2, 0.5, 0.7)]
    parts = math.exp(-0.7) * new[1] * path.increment(-0.5, 0.0) + new[2] * path.increment(0.0, 0.7)
    torch.testing.assert_close(new[0] * path.increment(-0.5, 0.7), parts, rtol=0, atol=1e-5)


def test_a_path_is_one_whatever_is_asked_first_and_keeps_little() -> None:
    for make in (BrownianPath, StationaryPath):
        fine, other = make(Noise([0, 1]), (3,)), make(Noise([1]), (3,))
        places = [i / 40 for i in range(41)]
        walked = [fine(p) for p in places]
        for i in (40, 7, 23, 0):
            assert torch.equal(other(places[i])[0], walked[i][1])
        assert len(fine._descent) <= make.depth


def test_brownian_refuses_what_has_no_path(unchecked: None) -> None:
    d = MIXTURE.denoiser(VP())
    for base in (DPMSolverPP(), SDEDPMSolverPP(eta=0.0)):
        with pytest.raises(ValueError, match="draws no noise"):
            Brownian(base)
    for rate in (0.0, math.inf, math.nan):
        with pytest.raises(ValueError, match="rate="):
            Brownian(DDPM(), rate=rate)
    for base in (Heun(Churn(10.0)), Restart()):
        with pytest.raises(ValueError, match="begins with added noise"):
            Brownian(base)(d, start(1), steps=6, noise=Noise([0]))
    with pytest.raises(ValueError, match="fewer steps"):
        StationaryPath(Noise([0]), (1,)).increment(0.0, 1e-8)


def test_dualfast_goes_around_a_path() -> None:
    d, x, noise = MIXTURE.denoiser(VP()), start(2), Noise([0, 1])
    base = Brownian(SDEDPMSolverPP())
    same = DualFast(base, c_max=0.0)(d, x, steps=6, noise=noise)
    assert torch.equal(same, base(d, x, steps=6, noise=noise))
    assert not torch.equal(same, DualFast(base)(d, x, steps=6, noise=noise))
