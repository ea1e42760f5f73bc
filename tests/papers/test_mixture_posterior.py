"""The exact posterior against a grid, and the measures of samples drawn from it."""

from __future__ import annotations

import pytest
import torch

from mezzotint.core import GaussianMixture
from mezzotint.papers.mixture_posterior import MixtureProblem, _posterior

F64 = torch.float64


def test_it_is_the_posterior_of_a_grid():
    mixture = GaussianMixture(
        torch.tensor([[-0.5, 0.3], [0.6, 0.2]]), torch.tensor([0.2, 0.35]), torch.tensor([1.0, 2.0])
    )
    matrix, y, std = torch.tensor([[0.7, -0.4]], dtype=F64), torch.tensor([[0.1]], dtype=F64), 0.15
    mean, width, modes = _posterior(mixture, matrix, std, y)
    axis = torch.linspace(-3, 3, 601, dtype=F64)
    grid = torch.cartesian_prod(axis, axis)
    log = mixture.log_prob(grid) - 0.5 * ((y - grid @ matrix.T) / std).square().sum(-1)
    p = log.softmax(0)
    torch.testing.assert_close(mean[0], p @ grid, rtol=0, atol=1e-8)
    torch.testing.assert_close(width[0].square(), p @ (grid - mean).square(), rtol=0, atol=1e-8)
    one = GaussianMixture(mixture.means[:1], mixture.stds[:1])
    share = (mixture.weights[0].log() + one.log_prob(grid) - mixture.log_prob(grid)).exp()
    assert float(modes[0, 0]) == pytest.approx(float(p @ share), abs=1e-8)


def test_exact_samples_score_as_they_should():
    problem = MixtureProblem.draw(3, 40, n=6, m=2, k=3)
    # importance resampling of the prior: slow, exact in the limit, and independent of the formulas
    generator = torch.Generator().manual_seed(0)
    k = torch.randint(3, (40_000,), generator=generator)
    prior = problem.mixture.means[k] + problem.mixture.stds[k, None] * torch.randn(
        40_000, 6, generator=generator, dtype=F64
    )
    miss = (problem.y[:, None] - prior @ problem.matrix.T).square().sum(-1)
    chosen = torch.multinomial((-0.5 * miss / problem.std**2).softmax(-1), 200, True, generator=generator)
    told = problem.compare(prior[chosen])
    assert told["error"] == pytest.approx(1, abs=0.05) and told["width"] == pytest.approx(1, abs=0.05)
    assert told["bias"] < 0.15 and told["coverage"] == pytest.approx(0.9, abs=0.05)
    still = problem.compare(problem.mean[:, None].expand(-1, 5, -1))
    assert max(still["error"], still["width"], still["bias"]) < 1e-12
