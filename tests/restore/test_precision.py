"""Half precision in, half precision out, float32 in between; callers in inference mode."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from mezzotint.core import Flow, Gaussian, Noise, Prediction
from mezzotint.core.denoiser import Denoiser
from mezzotint.restore import (
    DDNM,
    DDRM,
    DPS,
    ILVR,
    MCG,
    DiffPIR,
    FromGuess,
    GuessPiGDM,
    MomentMatching,
    PiGDM,
    PredictorCorrector,
    REDDiff,
)
from mezzotint.restore.operators import Blur, Clip, Fourier, Mask, PhaseRetrieval, Radon

DRAW = torch.Generator().manual_seed(5)
X = 0.3 * torch.randn(2, 1, 8, 8, generator=DRAW)
LINEAR = [DDNM(), DDRM(), ILVR(), MCG(), DiffPIR(), MomentMatching(), PiGDM(), PredictorCorrector()]
ANY = [DPS(), REDDiff(), GuessPiGDM(), FromGuess(0.5)]


def name(value: object) -> str:
    return type(value).__name__


class Wide(Denoiser):
    """A Gaussian's, which refuses states that are not float32."""

    def __init__(self) -> None:
        super().__init__(Flow())
        self.exact = Gaussian(torch.zeros(1, 8, 8), std=0.5).denoiser(Flow())

    def forward(self, x_t: Tensor, t: Tensor, c=None) -> Prediction:
        assert x_t.dtype is torch.float32
        return self.exact(x_t, t, c)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("method", [*LINEAR, *ANY], ids=name)
def test_a_measurement_in_half_precision_is_restored_in_float32(method, dtype):
    a = Blur.gaussian(0.7, 3)
    y = a(X).to(dtype)
    made = method(Wide(), a, y, Noise([1, 2]), std=0.05, steps=3)
    assert made.dtype is dtype
    assert torch.equal(made, method(Wide(), a, y.float(), Noise([1, 2]), std=0.05, steps=3).to(dtype))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize(
    "operator",
    [Blur.gaussian(0.7, 3), Fourier(torch.ones(8, 8), real=True), Radon.sparse(3, 8), PhaseRetrieval(8)],
    ids=name,
)
def test_operators_without_half_precision_say_so(operator, dtype):
    for call in (operator, operator.guess):
        with pytest.raises(ValueError, match="float32 or float64"):
            call(operator(X).to(dtype) if call is not operator else X.to(dtype))


@pytest.mark.parametrize("method", [*LINEAR, *ANY], ids=name)
@pytest.mark.parametrize("operator", [Mask(torch.rand(8, 8, generator=DRAW) > 0.4), Clip(1.2)], ids=name)
def test_callers_in_inference_mode(method, operator):
    if isinstance(operator, Clip) and method in LINEAR:
        pytest.skip("linear operators only")
    d = Gaussian(torch.zeros(1, 8, 8), std=0.5).denoiser(Flow())
    expected = method(d, operator, operator(X), Noise([1, 2]), std=0.05, steps=3)
    with torch.inference_mode():
        made = method(d, operator, operator(X), Noise([1, 2]), std=0.05, steps=3)
    assert torch.equal(made, expected)
