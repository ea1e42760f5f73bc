"""Checks 1 and 10 of the sheet of 2112.10752: the divergence, and shift equivariance of the encoder."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from mezzotint.core import Noise
from mezzotint.latent import AutoencoderKL, Posterior


def test_divergence_of_known_gaussians() -> None:
    zeros = torch.zeros(2, 4, 8, 8)
    torch.testing.assert_close(Posterior(zeros + 1, zeros).kl(), torch.full((2,), 128.0), atol=1e-5, rtol=0)
    assert Posterior(zeros, zeros).kl().tolist() == [0.0, 0.0]


def test_divergence_equals_torch_distributions_and_its_gradient_is_the_mean() -> None:
    mean = Noise([0, 1])("mean", 0, (3, 2, 2), dtype=torch.float64).requires_grad_()
    logvar = Noise([0, 1])("logvar", 0, (3, 2, 2), dtype=torch.float64)
    kl = Posterior(mean, logvar).kl()
    normal = torch.distributions.Normal
    reference = torch.distributions.kl_divergence(normal(mean, (0.5 * logvar).exp()), normal(0.0, 1.0)).sum((1, 2, 3))
    torch.testing.assert_close(kl, reference, atol=1e-12, rtol=0)
    torch.testing.assert_close(torch.autograd.grad(kl.sum(), mean)[0], mean.detach(), atol=1e-12, rtol=0)


def test_sample_has_the_moments_of_the_posterior() -> None:
    mean, logvar = torch.full((1, 1, 200, 200), 3.0).double(), torch.full((1, 1, 200, 200), -2.0).double()
    z = Posterior(mean, logvar).sample(Noise([0]))
    assert float(z.mean()) == pytest.approx(3.0, abs=4 * 0.368 / 200)
    assert float(z.var()) == pytest.approx(0.1353, rel=0.03)
    with pytest.raises(ValueError, match="2 seeds for 1 images"):
        Posterior(mean, logvar).sample(Noise([0, 1]))


def test_log_variance_is_clamped(build: Callable) -> None:
    net = build(AutoencoderKL, channels=4, mult=(1, 1), latent=2)
    with torch.no_grad():
        net.quant_conv.bias[2], net.quant_conv.bias[3] = 1e3, -1e3
    logvar = net.posterior(torch.zeros(1, 3, 4, 4).double()).logvar
    assert set(logvar[:, 0].unique().tolist()) == {20.0} and set(logvar[:, 1].unique().tolist()) == {-30.0}


def test_encode_samples_the_posterior_with_noise_and_takes_its_mean_without(build: Callable) -> None:
    net = build(AutoencoderKL, channels=4, mult=(1, 1), latent=2)
    x = Noise([0, 1]).uniform("image", 0, (3, 8, 8), dtype=torch.float64)
    posterior = net.posterior(x)
    assert torch.equal(net.encode(x), posterior.mean)
    torch.testing.assert_close(net.encode(x, Noise([3, 4])), posterior.sample(Noise([3, 4])), atol=1e-12, rtol=0)


@pytest.mark.parametrize("patch", [1, 2])
def test_encoder_is_equivariant_to_shifts_of_its_factor_only(build: Callable, patch: int) -> None:
    """Check 10: content on a constant ground, far from the borders, f = 4, no attention."""
    net = build(AutoencoderKL, channels=4, mult=(1, 2, 2) if patch == 1 else (1, 2), latent=2, patch=patch, groups=2)
    assert net.spec.factor == 4
    x = torch.full((1, 3, 256, 256), 0.2, dtype=torch.float64)
    x[..., 124:132, 124:132] = Noise([0]).uniform("content", 0, (3, 8, 8), dtype=torch.float64)
    z = net.encode(x)
    by_factor = net.encode(x.roll((4, 4), (2, 3)))
    inside = (..., slice(12, -12), slice(12, -12))  # what the border's zeros do does not move
    torch.testing.assert_close(by_factor[inside], z.roll((1, 1), (2, 3))[inside], atol=1e-4, rtol=0)
    by_one = net.encode(x.roll((1, 1), (2, 3)))
    assert float((by_one - z).detach()[inside].abs().max()) > 1e-2


def test_downsampling_pads_right_and_bottom_only() -> None:
    from mezzotint.latent.blocks import Downsample

    down = Downsample(1)
    with torch.no_grad():
        down.conv.weight.zero_()
        down.conv.bias.zero_()
        down.conv.weight[0, 0, 2, 2] = 1.0  # the corner that meets the padding
    x = torch.arange(1.0, 17.0).view(1, 1, 4, 4)
    assert down(x)[0, 0].tolist() == [[11.0, 0.0], [0.0, 0.0]]


def test_attention_is_a_site_that_can_be_tapped(build: Callable) -> None:
    from mezzotint.nn.site import find_sites

    net = build(AutoencoderKL, channels=4, mult=(1, 1), latent=2, attention=True)
    assert list(find_sites(net)) == ["encoder.mid.1.attention", "decoder.mid.1.attention"]
