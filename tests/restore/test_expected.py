"""The denoiser as a restorer: the posterior's mean for noise, each row at its own level for what A does."""

from __future__ import annotations

import pytest
import torch

from mezzotint.core import VE, VP, Cosine, Flow, Gaussian, GaussianMixture, Noise
from mezzotint.restore import Expected, exact_posterior
from mezzotint.restore.operators import JPEG, AveragePool, Identity

F64 = torch.float64
MIX = GaussianMixture(torch.tensor([[-0.8, 0.3], [0.6, -0.2]]), torch.tensor([0.2, 0.3]), torch.tensor([0.4, 0.6]))


@pytest.mark.parametrize("schedule", [VP(), VE(), Flow(), Cosine()], ids=lambda s: type(s).__name__)
def test_it_is_the_mean_of_the_posterior(schedule):
    y = torch.tensor([[0.2, 0.4], [-0.7, 0.1]], dtype=F64)
    got = Expected()(MIX.denoiser(schedule), Identity(), y, Noise([0, 1]), std=0.3)
    exact = torch.stack([exact_posterior(MIX, Identity(), row[None], 0.3).mean for row in y]).reshape(2, 2)
    torch.testing.assert_close(got, exact, rtol=0, atol=1e-9)
    assert torch.equal(Expected()(MIX.denoiser(schedule), Identity(), y, Noise([0, 1])), y)  # nothing to do


def test_the_level_of_an_operator_is_that_of_its_error_on_a_picture_like_it():
    """Over a Gaussian of one variance both calls are a factor, so that the level can be written down."""
    prior, operator = Gaussian(torch.zeros(1, 16, 16), std=0.4), JPEG(10)
    y = operator(prior.sample(Noise(range(4))).clamp(-1, 1))
    gain = lambda square: 0.16 / (0.16 + square)  # noqa: E731
    first = gain(0.1**2) * y
    square = (operator(first) - first).square().mean((1, 2, 3), keepdim=True)
    for factor, std in ((1.0, 0.0), (2.0, 0.05)):
        got = Expected(factor)(prior.denoiser(VP()), operator, y, Noise(range(4)), std=std)
        if std:  # the first call knows of the noise
            first = gain(0.1**2 + std**2) * y
            square = (operator(first) - first).square().mean((1, 2, 3), keepdim=True)
        torch.testing.assert_close(got, gain(std**2 + factor**2 * square) * y, rtol=0, atol=1e-9)
        assert float((got - y).abs().max()) > 1e-3


def test_rows_do_not_depend_on_each_other():
    prior = Gaussian(torch.zeros(3, 16, 16), std=0.4)
    x = prior.sample(Noise(range(3))) * torch.tensor([1.0, 0.1, 2.0], dtype=F64).view(3, 1, 1, 1)
    y = JPEG(20)(x.clamp(-1, 1))
    d = prior.denoiser(Flow())
    together = Expected()(d, JPEG(20), y, Noise(range(3)), std=0.05)
    alone = torch.cat([Expected()(d, JPEG(20), y[k : k + 1], Noise([k]), std=0.05) for k in range(3)])
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-12)
    assert not Expected().spread


def test_what_it_does_not_take():
    d = Gaussian(torch.zeros(1, 4, 4), std=1.0).denoiser(VP())
    with pytest.raises(ValueError, match="1, 2, 2. of .1, 4, 4.; other methods"):
        Expected()(d, AveragePool(2), torch.zeros(1, 1, 2, 2), Noise([0]))
    with pytest.raises(ValueError, match="does not reach"):
        Expected()(d, Identity(), torch.zeros(1, 1, 4, 4), Noise([0]), std=1e6)
    with pytest.raises(ValueError, match="factor=-1"):
        Expected(factor=-1.0)
