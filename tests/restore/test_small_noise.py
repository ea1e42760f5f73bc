"""A noise far below the rounding of the measurement changes nothing: no rounding is divided by it."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from mezzotint.core import Flow, Gaussian, Noise
from mezzotint.restore import ILVR, MCG, FromGuess, Problem, REDDiff
from mezzotint.restore.fit import first_image
from mezzotint.restore.operators import AveragePool, Blur, Fourier, LinearOperator, Mask, Matrix, Resize

DRAW = torch.Generator().manual_seed(3)
OPERATORS: dict[str, LinearOperator] = {
    "resize": Resize(2),
    "pool": AveragePool(2),
    "blur": Blur.gaussian(0.5, 3),
    "mask": Mask(torch.rand(8, 8, generator=DRAW) > 0.4),
    "fourier": Fourier(torch.rand(8, 8, generator=DRAW) > 0.5, real=True),
    "matrix": Matrix(torch.rand(40, 64, generator=DRAW), (1, 8, 8)),
    "too many rows": Matrix(torch.rand(80, 64, generator=DRAW), (1, 8, 8)),
}
X = 0.5 * torch.randn(2, 1, 8, 8, generator=DRAW)


def close(a: Tensor, b: Tensor) -> None:
    torch.testing.assert_close(a, b, rtol=0, atol=2e-3)


@pytest.mark.parametrize("std", [1e-5, 1e-8, 1e-30])
@pytest.mark.parametrize("name", OPERATORS)
def test_the_first_image_is_that_without_noise(name, std):
    a = OPERATORS[name]
    y = a(X)
    close(first_image(Problem.of(a, y, Noise([0, 1]), std)), first_image(Problem.of(a, y, Noise([0, 1]))))


@pytest.mark.parametrize("name", OPERATORS)
def test_the_nearest_image_is_that_without_noise(name):
    a = OPERATORS[name]
    close(a.prox(0.5 * X, a(X), 1e-12), a.prox(0.5 * X, a(X), 0.0))


@pytest.mark.parametrize("method", [ILVR(), MCG(zeta=0.1), REDDiff(), FromGuess(0.5)], ids=lambda m: type(m).__name__)
@pytest.mark.parametrize("name", OPERATORS)
def test_methods_give_what_they_give_without_noise(name, method):
    a, d = OPERATORS[name], Gaussian(torch.zeros(1, 8, 8), std=0.5).denoiser(Flow())
    y = a(X)
    quiet, faint = (method(d, a, y, Noise([4, 5]), std=std, steps=4) for std in (0.0, 1e-9))
    torch.testing.assert_close(faint, quiet, rtol=0, atol=1e-2)
