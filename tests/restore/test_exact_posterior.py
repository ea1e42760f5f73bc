"""The posterior in closed form, against quadrature, conditioning by hand, and samples."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from mezzotint.core import Empirical, Gaussian, GaussianMixture, Noise
from mezzotint.papers.mixture_posterior import MixtureProblem
from mezzotint.restore import exact_posterior
from mezzotint.restore.exact_posterior import matrix_of
from mezzotint.restore.operators import AveragePool, Blur, Identity, Mask, Matrix

F64 = torch.float64
DRAW = torch.Generator().manual_seed(2)


def normal(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=DRAW, dtype=F64)


def test_a_mixture_in_the_plane_against_quadrature():
    mix = GaussianMixture(
        torch.tensor([[-0.7, 0.2], [0.5, -0.4], [0.3, 0.9]]), torch.tensor([0.2, 0.3, 0.4]), torch.tensor([1.0, 2, 1])
    )
    matrix, y, std = torch.tensor([[1.0, 0.6]], dtype=F64), torch.tensor([[0.3]], dtype=F64), 0.35
    line = torch.linspace(-3, 3, 601, dtype=F64)
    x = torch.cartesian_prod(line, line)
    logs = mix.log_prob(x) - 0.5 * ((x @ matrix.T - y)[:, 0] / std) ** 2
    p = logs.softmax(0)
    mean = p @ x
    cov = (x - mean).T @ (p[:, None] * (x - mean))
    told = exact_posterior(mix, Matrix(matrix), y, std)
    torch.testing.assert_close(told.mean, mean, rtol=0, atol=1e-8)
    torch.testing.assert_close(told.cov, cov, rtol=0, atol=1e-8)
    torch.testing.assert_close(told.std, cov.diagonal().sqrt(), rtol=0, atol=1e-8)


def test_as_the_other_formula_for_mixtures():
    problem = MixtureProblem.draw(4, 3, n=10, m=3, k=4)
    for i in range(3):
        told = exact_posterior(problem.mixture, Matrix(problem.matrix), problem.y[i : i + 1], problem.std)
        torch.testing.assert_close(told.mean, problem.mean[i], rtol=0, atol=1e-10)
        torch.testing.assert_close(told.std, problem.width[i], rtol=0, atol=1e-10)
        torch.testing.assert_close(told.weights, problem.modes[i], rtol=0, atol=1e-10)


@pytest.mark.parametrize("operator", [Identity(), AveragePool(2), Blur.gaussian(0.8, 3), Mask(torch.eye(4))], ids=str)
@pytest.mark.parametrize("std", [0.0, 0.2])
def test_a_gaussian_under_operators_of_images(operator, std):
    """By conditioning the joint law; places that y keeps and that measure nothing say nothing."""
    root = normal(16, 16)
    prior = Gaussian(normal(1, 4, 4), root @ root.T / 16 + 0.1 * torch.eye(16, dtype=F64))
    matrix = matrix_of(operator, (1, 4, 4))
    torch.testing.assert_close(operator(prior.mean.view(1, 1, 4, 4)).flatten(), matrix @ prior.mean)
    y = operator(normal(1, 1, 4, 4))
    seen = matrix.abs().sum(1) > 0
    a, cov = matrix[seen], prior.cov
    gain = cov @ a.T @ torch.linalg.inv(a @ cov @ a.T + std**2 * torch.eye(len(a), dtype=F64))
    told = exact_posterior(prior, operator, y, std)
    torch.testing.assert_close(told.mean.flatten(), prior.mean + gain @ (y.flatten()[seen] - a @ prior.mean))
    torch.testing.assert_close(told.cov, cov - gain @ a @ cov, rtol=0, atol=1e-9)
    if not std:
        torch.testing.assert_close(operator(told.mean[None]), y, rtol=0, atol=1e-8)


def test_samples_are_of_it():
    mix = GaussianMixture(torch.tensor([[-0.7, 0.2], [0.5, -0.4]]), torch.tensor([0.2, 0.3]))
    told = exact_posterior(mix, Matrix(torch.tensor([[1.0, 1.0]], dtype=F64)), torch.zeros(1, 1, dtype=F64), 0.5)
    made = told.sample(Noise(range(8000)))
    assert float((made.mean(0) - told.mean).norm() / told.cov.trace().sqrt()) < 0.03
    assert float((torch.cov(made.T) - told.cov).norm() / told.cov.norm()) < 0.05
    torch.testing.assert_close(told.sample(Noise([5]))[0], made[5])


def test_nothing_measured_is_the_prior():
    prior = Gaussian(normal(3), std=0.4)
    told = exact_posterior(prior, Matrix(torch.zeros(2, 3, dtype=F64)), normal(1, 2), 0.1)
    torch.testing.assert_close(told.mean, prior.mean)
    torch.testing.assert_close(told.cov, prior.cov)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: exact_posterior(Gaussian(torch.zeros(2), std=1.0), Identity(), normal(2, 2), 0.1), "2 measurements"),
        (lambda: exact_posterior(Gaussian(torch.zeros(2), std=1.0), Identity(), normal(1, 2), -0.1), "std=-0.1"),
        (lambda: exact_posterior(Empirical(normal(3, 2)), Identity(), normal(1, 2), 0.0), "no width"),
    ],
)
def test_bad_input_is_one_line(call, message, unchecked):
    with pytest.raises(ValueError, match=message):
        call()
