"""Simulated scans are their operators plus noise; the Gaussian of slices is what its samples say."""

from __future__ import annotations

import pytest
import torch

from mezzotint.core import Gaussian, Noise
from mezzotint.restore.scan import ct_scan, mri_scan, slice_prior

F64 = torch.float64


def test_ct_of_density_is_ct_of_the_slice():
    x = Noise([0, 1]).uniform("x", 0, (1, 16, 16)) * 2 - 1
    still = ct_scan(x, Noise([3, 4]), views=7, std=0.0)
    torch.testing.assert_close(still.y, still.operator(x), rtol=0, atol=1e-4)
    noisy = ct_scan(x, Noise([3, 4]), views=7, std=0.3)
    assert float((noisy.y - still.y).std()) == pytest.approx(0.6, rel=0.1) and noisy.std == 0.6
    full = ct_scan(x[:1], Noise([3]), views=120, std=0.0)
    assert float((full.plain - x[:1]).square().mean()) < float((still.plain[:1] - x[:1]).square().mean())


def test_mri_noise_lies_where_something_was_sampled():
    x = Noise([0, 1]).uniform("x", 0, (1, 16, 16)) * 2 - 1
    still, noisy = (mri_scan(x, Noise([3, 4]), acceleration=2, coils=3, std=std) for std in (0.0, 0.1))
    torch.testing.assert_close(still.y, still.operator(x), rtol=0, atol=1e-6)
    where = still.y != 0
    assert float((noisy.y - still.y)[where].std()) == pytest.approx(0.1, rel=0.1)
    assert not (noisy.y - still.y)[~where].any()
    alone = mri_scan(x[1:], Noise([4]), acceleration=2, coils=3, std=0.1)
    torch.testing.assert_close(alone.y, noisy.y[1:], rtol=0, atol=1e-6)  # by its seed alone


def test_the_prior_is_the_gaussian_of_its_slices():
    root = torch.randn(9, 9, generator=torch.Generator().manual_seed(0), dtype=F64)
    true = Gaussian(torch.arange(9, dtype=F64).view(1, 3, 3) / 9, root @ root.T / 9)
    found = slice_prior(true.sample(Noise(range(4000))), shrink=1e-6)
    assert float((found.cov - true.cov).norm() / true.cov.norm()) < 0.1
    assert float((found.mean - true.mean).abs().max()) < 0.06
    few = slice_prior(true.sample(Noise(range(3))), shrink=0.02)
    assert float(torch.linalg.eigvalsh(few.cov).min()) > 0


def test_rubbish_is_refused():
    x = torch.zeros(1, 1, 16, 16)
    for call, message in (
        (lambda: ct_scan(x, Noise([0]), views=0), "views=0"),
        (lambda: mri_scan(x, Noise([0]), coils=0), "coils=0"),
        (lambda: mri_scan(x, Noise([0]), std=-1.0), "std=-1"),
        (lambda: slice_prior(x), "1 slices"),
        (lambda: slice_prior(torch.zeros(3, 1, 80, 80)), "take a network"),
        (lambda: slice_prior(torch.full((3, 1, 4, 4), float("nan"))), "NaN"),
    ):
        with pytest.raises(ValueError, match=message):
            call()
