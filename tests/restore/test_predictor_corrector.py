"""Score-MRI: the measured part is the measurement's, the law of the rest is the prior's, calls are as counted."""

from __future__ import annotations

import math

import pytest
import torch

from mezzotint.core import VE, VP, Gaussian, Noise
from mezzotint.restore import PredictorCorrector
from mezzotint.restore.operators import Clip, Fourier, Matrix, MultiCoil, cartesian_mask, coil_maps

F64 = torch.float64


def test_with_a_full_mask_it_returns_the_data():
    x = Noise([0, 1])("image", 0, (2, 8, 8), dtype=F64)
    d = Gaussian(torch.zeros(2, 8, 8), std=0.5).denoiser(VE(sigma_max=10.0))
    full = Fourier(torch.ones(8, 8))
    made = PredictorCorrector()(d, full, full(x), Noise([3, 4]), steps=4)
    torch.testing.assert_close(made, x, rtol=0, atol=1e-12)


def test_what_is_sampled_is_the_measurement_with_one_coil_and_near_it_with_several():
    x = Noise([0])("image", 0, (2, 16, 16), dtype=F64)
    mask = cartesian_mask(16, 4, Noise([7]))
    d = Gaussian(torch.zeros(2, 16, 16), std=1.0).denoiser(VP())
    one = Fourier(mask)
    made = PredictorCorrector(corrections=2)(d, one, one(x), Noise([3]), steps=6)
    torch.testing.assert_close(one(made), one(x), rtol=0, atol=1e-12)
    assert not torch.allclose(made, x, atol=0.1)
    several = MultiCoil(coil_maps(16, 4).double(), mask)
    made = PredictorCorrector()(d, several, several(x), Noise([3]), steps=30)
    before = (several(x) - several(several.adjoint(several(x)))).norm()
    assert float((several(made) - several(x)).norm()) < float(before)


def test_what_is_not_measured_has_the_law_of_the_prior():
    """4 of 40 independent numbers are known: the others are N(0, 1), which predictor and corrector each keep."""
    d = Gaussian(torch.zeros(40), std=1.0).denoiser(VP())
    n, y = 60, torch.full((1, 4), 0.7, dtype=F64)
    made = PredictorCorrector(snr=0.1)(d, Matrix(torch.eye(40)[:4]), y, Noise(range(n)), steps=40)
    assert bool(((made[:, :4] - 0.7).abs() < 1e-12).all())
    free = made[:, 4:]
    assert abs(float(free.mean())) < 3 / math.sqrt(free.numel())
    assert float(free.var()) == pytest.approx(1, abs=0.08)


def test_network_calls_are_as_counted():
    calls = []

    class Watch(type(d := Gaussian(torch.zeros(2), std=1.0).denoiser(VP()))):  # type: ignore[misc]
        def forward(self, x_t, t, c=None):
            calls.append(float(t[0]))
            return super().forward(x_t, t, c)

    d.__class__ = Watch
    y = torch.ones(1, 2, dtype=F64)
    PredictorCorrector(corrections=2)(d, Matrix(torch.eye(2)), y, Noise([0]), steps=3)
    third = [1.0, 2 / 3, 2 / 3, 2 / 3, 1 / 3, 1 / 3, 1 / 3]
    assert calls == pytest.approx(third)
    calls.clear()
    PredictorCorrector(corrections=0)(d, Matrix(torch.eye(2)), y, Noise([0]), steps=3)
    assert len(calls) == 3


def test_an_operator_that_enlarges_is_refused(unchecked):
    d = Gaussian(torch.zeros(2), std=1.0).denoiser(VP())
    with pytest.raises(ValueError, match=r"diverges where \|A\| > 1; this operator has 3"):
        PredictorCorrector()(d, Matrix(3 * torch.eye(2)), torch.ones(1, 2), Noise([0]), steps=2)
    with pytest.raises(ValueError, match="needs a linear operator"):
        PredictorCorrector()(d, Clip(), torch.ones(1, 1, 2, 2), Noise([0]), steps=2)
    with pytest.raises(ValueError, match="corrections=-1"):
        PredictorCorrector(corrections=-1)
    with pytest.raises(ValueError, match="snr=0"):
        PredictorCorrector(snr=0.0)
