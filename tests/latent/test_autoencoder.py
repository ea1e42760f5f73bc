"""What holds for every autoencoder: statistics, scale, round trips, seeds, bad input."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from mezzotint.core import Noise
from mezzotint.latent import Autoencoder, AutoencoderKL, AutoencoderVQ, AutoencoderVQEMA, Identity, LatentSpec
from mezzotint.latent._check import check_image

SMALL = {"channels": 8, "mult": (1, 2), "latent": 3, "groups": 4}
KINDS = [
    (Identity, {}),
    (AutoencoderKL, SMALL),
    (AutoencoderKL, {**SMALL, "patch": 2, "attention": True, "attention_at": (2,), "blocks": 2}),
    (AutoencoderVQ, {**SMALL, "codes": 16}),
    (AutoencoderVQEMA, {**SMALL, "codes": 16, "decay": 0.5}),
]
every = pytest.mark.parametrize(("kind", "options"), KINDS)


def _images(n: int, size: int = 16, first: int = 0) -> torch.Tensor:
    return Noise(range(first, first + n)).uniform("image", 0, (3, size, size), dtype=torch.float64) * 2 - 1


@every
def test_fitted_statistics_normalise_each_channel(build: Callable, kind: type, options: dict) -> None:
    """Check 4: unit spread on the images measured, however they are split into batches."""
    net, x = build(kind, **options), _images(6)
    spec = net.fit_statistics([x[:1], x[1:4], x[4:]])
    mean, variance = net.moments(x)
    within = 0.0 if variance is None else variance.mean((0, 2, 3))
    z = net.encode(x)
    torch.testing.assert_close(z.mean((0, 2, 3)), torch.zeros(spec.channels).double(), atol=1e-6, rtol=0)
    spread = z.var((0, 2, 3), correction=0) + within / torch.tensor(spec.std).double().square()
    torch.testing.assert_close(spread, torch.ones(spec.channels).double(), atol=1e-6, rtol=0)
    torch.testing.assert_close(net.denormalise(z), mean, atol=1e-6, rtol=0)


@every
def test_pooled_scale_gives_unit_std_over_all_elements(build: Callable, kind: type, options: dict) -> None:
    """Check 4 with the paper's one scale (no posterior noise: variance set aside)."""
    net, x = build(kind, **options), _images(4)
    mean = net.moments(x)[0]
    channel = tuple(mean.mean((0, 2, 3)).tolist()), tuple(mean.std((0, 2, 3), correction=0).tolist())
    net.spec = LatentSpec(net.spec.factor, net.spec.channels, *channel, codes=net.spec.codes).pooled()
    assert float(net.encode(x).detach().std(correction=0)) == pytest.approx(1.0, abs=1e-6)


@every
def test_the_scale_leaves_the_round_trip_alone(build: Callable, kind: type, options: dict) -> None:
    net, x = build(kind, **options).eval(), _images(2)
    before = net.decode(net.encode(x))
    net.fit_statistics([4 * _images(2, first=9).clamp(-0.3, 0.3)])
    torch.testing.assert_close(net.decode(net.encode(x)), before, atol=1e-5, rtol=0)
    torch.testing.assert_close(net(x), before, atol=1e-5, rtol=0)


def test_a_large_offset_costs_no_digits() -> None:
    """One-pass sums of squares would lose the spread of 1e-6 about 1.0 in float32."""
    net = Identity(1)
    x = 1.0 + 1e-4 * Noise([0, 1])("x", 0, (1, 32, 32), dtype=torch.float64)
    spec = net.fit_statistics([x[:1], x[1:]])
    assert spec.std[0] == pytest.approx(float(x.std(correction=0)), rel=1e-6)


@every
def test_config_and_state_rebuild_it_exactly(build: Callable, kind: type, options: dict) -> None:
    net = build(kind, **options).eval()
    net.fit_statistics([_images(3)])
    copy = kind(**net.config).double().eval()
    copy.load_state_dict(net.state_dict())
    x = _images(2, first=5)
    assert copy.spec == net.spec and copy.config == net.config
    assert torch.equal(copy.encode(x), net.encode(x)) and torch.equal(copy(x), net(x))


@every
def test_latent_size_is_what_the_spec_says(build: Callable, kind: type, options: dict) -> None:
    net = build(kind, **options).eval()
    f = net.spec.factor
    z = net.encode(_images(2)[..., : 2 * f])
    assert z.shape == (2, net.spec.channels, 16 // f, 2) and net.decode(z).shape == (2, 3, 16, 2 * f)


@every
def test_a_sample_does_not_depend_on_its_batch(build: Callable, kind: type, options: dict) -> None:
    net, x, noise = build(kind, **options).eval(), _images(4), Noise([7, 8, 9, 10])
    alone = net.encode(x[2:3], noise.rows([2]))
    torch.testing.assert_close(net.encode(x, noise)[2:3], alone, atol=1e-12, rtol=0)


def test_gradients_reach_the_image_through_everything(build: Callable) -> None:
    for kind, options in KINDS:
        net, x = build(kind, **options).eval(), _images(1).requires_grad_()
        net(x, Noise([0])).square().sum().backward()
        assert x.grad is not None and float(x.grad.abs().max()) > 0, kind


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (torch.zeros(1, 3, 16, 16, dtype=torch.uint8), r"uint8.*127.5 - 1"),
        (torch.full((1, 3, 16, 16), 255.0), r"\[-1, 1\], got values from 255 to 255"),
        (torch.full((1, 3, 16, 16), float("nan")), "NaN"),
        (torch.full((1, 3, 16, 16), float("-inf")), "NaN or infinite"),
        (torch.zeros(1, 3, 18, 16), r"multiples of 4, got 18 x 16; resize or pad to 20 x 16"),
        (torch.zeros(1, 3, 16, 0), "multiples of 4"),
        (torch.zeros(1, 1, 16, 16), r"\(batch, 3, height, width\)"),
        (torch.zeros(3, 16, 16), r"\(batch, 3, height, width\)"),
    ],
)
def test_bad_images_raise(image: torch.Tensor, message: str) -> None:
    net = AutoencoderKL(**{**SMALL, "mult": (1, 1, 1)})
    # the shape and type checks of the tests come before ours where the annotation already rules the image out
    ruled_out = image.ndim != 4 or not image.dtype.is_floating_point
    calls = [net.encode, net.posterior, lambda x: net.fit_statistics([x])]
    for call in [lambda x: check_image(x, 3, 4)] if ruled_out else calls:
        with pytest.raises(ValueError, match=message):
            call(image)


def test_other_bad_calls_raise(build: Callable) -> None:
    net = build(AutoencoderKL, **SMALL)
    with pytest.raises(ValueError, match="NaN or infinite"):
        net.decode(torch.full((1, 3, 4, 4), float("nan")))
    with pytest.raises(ValueError, match=r"\(batch, 3, height, width\)"):
        net.decode(torch.zeros(1, 4, 4, 4))
    with pytest.raises(ValueError, match="2 seeds for a batch of 1"):
        net.encode(_images(1), Noise([0, 1]))
    with pytest.raises(ValueError, match="no images"):
        net.fit_statistics([])
    with pytest.raises(ValueError, match="no spread"):
        Identity().fit_statistics([torch.zeros(2, 3, 4, 4)])
    with pytest.raises(ValueError, match="has factor 2, 3 channels"):
        net.spec = LatentSpec.unit(4, 3)
    for bad in ({"mult": ()}, {"latent": 0}, {"patch": 0}, {"attention_at": (3,)}):
        with pytest.raises(ValueError, match=next(iter(bad))):
            AutoencoderKL(**{**SMALL, **bad})


def test_base_class_cannot_be_built() -> None:
    with pytest.raises(TypeError, match="abstract"):
        Autoencoder(LatentSpec.unit(1, 3), 3, {})
