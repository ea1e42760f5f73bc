"""Perceptual distance: the formula, its invariances, and the fixed random features."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from mezzotint.core import Noise
from mezzotint.objective.perceptual import Perceptual, RandomFeatures


class _Two(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 5, 3)
        self.drop = nn.Dropout(0.5)

    def forward(self, x: Tensor) -> list[Tensor]:
        return [x, self.drop(self.conv(x))]


def _pair() -> tuple[Tensor, Tensor]:
    return Noise([0, 1])("x", 0, (3, 8, 8)), Noise([0, 1])("y", 0, (3, 8, 8))


def test_it_is_the_formula() -> None:
    features, (x, y) = _Two(), _pair()
    weights = [torch.tensor([1.0, 0.0, 2.0]), torch.rand(5)]
    ours = Perceptual(features, weights)(x, y)
    for i in range(2):
        total = 0.0
        for f, g, w in zip(features(x), features(y), weights):
            f, g = f[i].double(), g[i].double()
            f, g = f / f.norm(dim=0), g / g.norm(dim=0)
            total += float((w.double()[:, None, None] * (f - g).square()).sum(0).mean())
        assert float(ours[i]) == pytest.approx(total, rel=1e-5)


def test_distance_is_zero_at_home_symmetric_and_blind_to_feature_strength() -> None:
    d, (x, y) = Perceptual(_Two()), _pair()
    assert d(x, x).tolist() == [0.0, 0.0] and bool((d(x, y) > 0).all())
    torch.testing.assert_close(d(x, y), d(y, x), atol=1e-6, rtol=0)

    class Raw(nn.Module):
        def forward(self, x: Tensor) -> list[Tensor]:
            return [x]

    torch.testing.assert_close(Perceptual(Raw())(3 * x, y), Perceptual(Raw())(x, y), atol=1e-6, rtol=0)


def test_gradient_reaches_the_images_never_the_network_and_is_finite_at_zero() -> None:
    d, (x, _) = Perceptual(RandomFeatures()).train(), _pair()
    y = torch.zeros_like(x).requires_grad_()
    d(x, y).sum().backward()
    assert bool(torch.isfinite(y.grad).all()) and float(y.grad.abs().max()) > 0

    features = _Two()
    d = Perceptual(features).train()
    y = torch.zeros_like(x).requires_grad_()
    d(x, y).sum().backward()  # its first map is the image: 0 / 0 without care
    assert bool(torch.isfinite(y.grad).all())
    assert not features.training and not any(p.requires_grad for p in d.parameters())


def test_it_notices_blur_that_l1_hardly_does() -> None:
    """A faint fine texture lost on a flat ground: small in L1, plain in normalised features."""
    ground = torch.full((1, 3, 32, 32), 0.2)
    texture = ground + 0.05 * Noise([0])("t", 0, (3, 32, 32)).sign()
    lighter = ground + 0.05
    d = Perceptual(RandomFeatures())
    assert float((texture - ground).abs().mean()) == pytest.approx(float((lighter - ground).abs().mean()), rel=1e-3)
    assert float(d(texture, ground)) > 3 * float(d(lighter, ground))


def test_random_features_are_a_function_of_their_seed() -> None:
    x = _pair()[0]
    first = RandomFeatures(seed=3)(x)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        again, other = RandomFeatures(seed=3)(x), RandomFeatures(seed=4)(x)
    assert all(torch.equal(a, b) for a, b in zip(first, again)) and not torch.equal(first[0], other[0])
    assert [tuple(f.shape[1:]) for f in first] == [(8, 8, 8), (16, 4, 4), (32, 2, 2)]
    assert not RandomFeatures().state_dict() and "not LPIPS" in RandomFeatures.label
    config = {"in_channels": 1, "channels": [4], "seed": 2, "bias": 0.1}
    assert RandomFeatures(**RandomFeatures(1, (4,), 2).config).config == config


def test_random_features_keep_their_strength_through_the_scales() -> None:
    x = Noise(range(8))("x", 0, (3, 32, 32))
    strengths = [float(f.square().mean()) for f in RandomFeatures(channels=(32, 32, 32))(x)]
    assert all(0.05 < s < 3 for s in strengths), strengths


def test_bad_input_raises() -> None:
    x, y = _pair()
    with pytest.raises(ValueError, match="one shape"):
        Perceptual(RandomFeatures())(x, y[:1].repeat(3, 1, 1, 1)[:, :, :4])
    with pytest.raises(ValueError, match="non-negative"):
        Perceptual(_Two(), [torch.tensor([1.0, -1.0, 0.0]), torch.ones(5)])
    with pytest.raises(ValueError, match="1 weights for 2"):
        Perceptual(_Two(), [torch.ones(3)])(x, y)
    with pytest.raises(ValueError, match="2 entries for 3"):
        Perceptual(_Two(), [torch.ones(2), torch.ones(5)])(x, y)
    with pytest.raises(ValueError, match="at least 4 pixels"):
        RandomFeatures()(x[..., :2])
