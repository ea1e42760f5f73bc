"""The level of an unknown noise, on images whose noise is known."""

from __future__ import annotations

import math

import pytest
import torch

from mezzotint.core import Noise
from mezzotint.restore.measure import GaussianNoise, RicianNoise, estimate_kspace_std, estimate_std
from mezzotint.restore.operators import AsComplex, Fourier, MultiCoil, cartesian_mask, coil_maps

F64 = torch.float64


def smooth(n: int, channels: int) -> torch.Tensor:
    i = torch.arange(n, dtype=F64) / n
    waves = [torch.sin(5 * i[:, None] + 3 * k) * torch.cos(4 * i + k) for k in range(channels)]
    return 0.9 * torch.stack(waves)[None]


@pytest.mark.parametrize("std", [0.002, 0.01, 0.05, 0.2, 1.0])
@pytest.mark.parametrize(("size", "channels"), [(32, 3), (48, 3), (64, 1), (96, 1)])
def test_within_a_tenth_on_smooth_images(size, channels, std):
    y = smooth(size, channels).expand(8, channels, size, size)
    found = estimate_std(GaussianNoise(std)(y, Noise(range(8))))
    assert found.shape == (8,)
    assert float((found / std - 1).abs().max()) < 0.1
    assert float((found / std - 1).mean().abs()) < 0.03


def test_edges_are_passed_over():
    y = smooth(64, 1)
    y[..., 20:40, 10:30] += 1.0
    y[..., 45:50, :] -= 0.7
    for std in (0.02, 0.1):
        found = estimate_std(GaussianNoise(std)(y, Noise([0])))
        assert float(found) == pytest.approx(std, rel=0.1)


def test_nothing_is_found_on_ramps_and_scale_is_followed():
    i = torch.arange(12, dtype=F64)
    assert float(estimate_std((2 * i[:, None] - i + 0.1 * i[:, None] * i)[None, None])) < 1e-12
    y = GaussianNoise(0.1)(smooth(40, 1), Noise([0]))
    torch.testing.assert_close(estimate_std(3 * y + 5), 3 * estimate_std(y))


def test_the_bright_part_of_a_magnitude_image():
    y = RicianNoise(0.05)(smooth(64, 1) * 0.3 + 1, Noise([0]))
    assert float(estimate_std(y)) == pytest.approx(0.05, rel=0.1)


@pytest.mark.parametrize("std", [0.01, 0.05, 0.3])
def test_within_a_tenth_in_k_space(std):
    n = 64
    i = torch.arange(n, dtype=F64)
    bump = (-((i - 30)[:, None] ** 2 + (i - 35) ** 2) / 200).exp()[None, None]
    x = AsComplex(i[:, None] / 20 + i / 30)(bump)
    for a in (
        Fourier(torch.ones(n, n)),
        Fourier(cartesian_mask(n, 4.0, Noise([0]))),
        MultiCoil(coil_maps(n, 3).double(), cartesian_mask(n, 2.0, Noise([1]))),
    ):
        y = a.keep(GaussianNoise(std)(a(x), Noise([3])))
        assert float(estimate_kspace_std(y, a.mask)) == pytest.approx(std, rel=0.1)
    if std < 0.1:  # without the mask zeros are taken for samples
        assert float(estimate_kspace_std(y)) < 0.5 * std


def test_both_agree_on_a_full_scan():
    noise = GaussianNoise(0.1)
    y = noise(torch.zeros(1, 2, 48, 48, dtype=F64), Noise([0]))
    a = Fourier(torch.ones(48, 48))
    assert float(estimate_kspace_std(a(y))) == pytest.approx(float(estimate_std(y)), rel=0.08)
    assert math.isclose(float(estimate_kspace_std(a(y), share=1.0)), 0.1, rel_tol=0.05)


def test_bad_input_is_told(unchecked):
    for make, said in (
        (lambda: estimate_std(torch.zeros(1, 1, 2, 9)), "too few pixels"),
        (lambda: estimate_std(torch.zeros(1, 1, 4, 4)), "too few pixels"),
        (lambda: estimate_std(torch.zeros(3, 9, 9)), r"shape \(3, 9, 9\); expected real floats"),
        (lambda: estimate_std(torch.zeros(1, 1, 9, 9, dtype=torch.complex64)), "complex64"),
        (lambda: estimate_kspace_std(torch.zeros(1, 1, 9, 9)), "pairs of channels"),
        (lambda: estimate_kspace_std(torch.zeros(1, 2, 9, 9), share=0), "share=0"),
        (lambda: estimate_kspace_std(torch.zeros(1, 2, 4, 4)), "8 numbers to look at; expected 16"),
        (lambda: estimate_kspace_std(torch.zeros(1, 2, 9, 9), torch.ones(9, 8)), "a mask"),
    ):
        with pytest.raises(ValueError, match=said):
            make()
