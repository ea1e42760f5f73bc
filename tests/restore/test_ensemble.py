"""Ensembles: masks of a known law come out in its shares, and n samples of a posterior have its mean."""

from __future__ import annotations

import math

import pytest
import torch

from mezzotint.core import VP, Flow, Gaussian, GaussianMixture, Noise, X0Denoiser
from mezzotint.metric import dice, ged
from mezzotint.restore import MaskEnsemble, PiGDM, coded, posterior, segment
from mezzotint.restore.operators import Matrix

F64 = torch.float64


def test_two_annotators_come_out_in_their_shares():
    """Masks are one of two, 0.3 and 0.7 of the time: P is 0.7 where the second alone has a pixel, within 3 s.e."""
    masks = torch.tensor([[1.0, 1.0, 0.0], [1.0, 0.0, 1.0]]).view(2, 1, 1, 3)
    mixture = GaussianMixture(coded(masks), torch.tensor([0.02, 0.02]), torch.tensor([0.3, 0.7]))
    n = 120
    made = segment(mixture.denoiser(Flow()), torch.zeros(2, 1, 1, 3), range(n), steps=16)
    p, error = made.probability, math.sqrt(0.21 / n)
    assert bool((p[:, 0, 0, 0] == 1).all()) and float((p[..., 1] - 0.3).abs().max()) < 3 * error
    assert float((p[..., 2] - 0.7).abs().max()) < 3 * error
    assert bool((made.samples[..., 1] ^ made.samples[..., 2]).all())  # each sample is one of the two
    assert made.label[0, 0, 0].tolist() == [True, False, True]
    torch.testing.assert_close(made.variance, n / (n - 1) * p * (1 - p))
    truth = masks[:, 0].bool()[None].expand(2, 2, 1, 3)
    q = made.samples[..., 2].double().mean((1, 2, 3))
    found = ged(made.samples[:, :, 0], truth)  # 1 - IoU of the two masks is 2/3
    torch.testing.assert_close(found, 2 / 3 * (0.5 - 2 * q * (1 - q)), rtol=0, atol=1e-9)
    assert bool((found < 0.5 * ged(made.label[:, None, 0], truth)).all())
    assert dice(made.label[:1, 0], masks[1].bool()).item() == 1.0


def test_the_model_is_told_the_image_and_samples_do_not_depend_on_the_batch():
    class Copy(torch.nn.Module):
        def forward(self, x, time, c):
            return torch.sign(c["concat"][:, :1] + 0.3 * x)

    d, image = X0Denoiser(Copy(), Flow()), Noise([1, 2])("image", 0, (2, 8, 8))
    made = segment(d, image, [4, 5], steps=1)
    assert torch.equal(made.samples[1:], segment(d, image[1:], [4, 5], steps=1).samples)
    assert torch.equal(made.samples[:, 1:], segment(d, image, [5], steps=1).samples)
    x_T = Noise([5])("x_T", 0, (1, 8, 8))
    assert torch.equal(made.samples[:, 1], image[:, :1] + 0.3 * x_T > 0)
    assert torch.equal(segment(d, image, [4], grid=torch.tensor([0.5, 0.0])).samples[0, 0],
                       (image[:1, :1] + 0.15 * Noise([4])("x_T", 0, (1, 8, 8)) > 0)[0])  # fmt: skip


def test_one_sample_has_no_variance():
    one = MaskEnsemble(torch.ones(2, 1, 1, 3, 3, dtype=torch.bool))
    assert len(one) == 1 and bool(one.variance.isnan().all()) and bool(one.label.all())


def test_the_mean_of_64_posterior_samples_is_within_3_standard_errors():
    """x ~ N(0, I), y = A x + std n: mean A^T (A A^T + std^2)^-1 y, where PiGDM is exact as the steps grow."""
    generator = torch.Generator().manual_seed(3)
    a, std, n = torch.randn(3, 6, generator=generator, dtype=F64), 0.5, 64
    y = torch.randn(1, 3, generator=generator, dtype=F64)
    gain = a.T @ torch.linalg.inv(a @ a.T + std**2 * torch.eye(3, dtype=F64))
    mean, cov = (gain @ y[0]), torch.eye(6, dtype=F64) - gain @ a
    d = Gaussian(torch.zeros(6), std=1.0).denoiser(VP())
    made = posterior(PiGDM(), d, Matrix(a), y, range(n), std=std, steps=80)
    off = (made.mean[0] - mean) / (cov.diagonal() / n).sqrt()
    assert bool((off.abs() < 3).all())
    share = made.std[0] / cov.diagonal().sqrt()
    assert bool(((share - 1).abs() < 3 / math.sqrt(2 * n)).all())
    assert bool(posterior(PiGDM(), d, Matrix(a), y, [0], std=std, steps=2).std.isnan().all())


def test_wrong_calls_say_what_is_wrong(unchecked):
    d = Gaussian(torch.zeros(1, 2, 2), std=1.0).denoiser(VP())
    with pytest.raises(ValueError, match="expected \\(b, k, h, w\\)"):
        segment(d, torch.zeros(2, 2), [0])
    with pytest.raises(ValueError, match="no seed"):
        segment(d, torch.zeros(1, 1, 2, 2), [])
