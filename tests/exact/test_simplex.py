"""Structured noise: its law, its spectrum, the seed contract, and that the ordinary process is untouched."""

from __future__ import annotations

import math

import pytest
import torch

from mezzotint.core import VP, Condition, Flow, Gaussian, Noise, Simplex, SimplexNoise
from mezzotint.core.simplex import _variance
from mezzotint.objective import Batch, Denoise, Structured
from mezzotint.sample import DDIM, DDPM


@pytest.mark.parametrize("n", [1, 2, 3])
def test_the_variance_is_the_mean_over_a_cell(n: int) -> None:
    """Given the place, gradients are independent: the variance is sum_v fall(r_v)^2 r_v^2 / n, here over all v near."""
    points = (torch.arange(24, dtype=torch.float64) + 0.5) / 24
    place = torch.cartesian_prod(*[points] * n).view(-1, n)
    vertices = torch.cartesian_prod(*[torch.arange(-2.0, 4.0, dtype=torch.float64)] * n).view(-1, n)
    away = place[:, None] - vertices[None]
    away = away - (1 - 1 / math.sqrt(n + 1)) / n * away.sum(2, keepdim=True)
    square = away.square().sum(2)
    values = ((0.5 - square).clamp(min=0) ** 8 * square / n).sum(1)
    assert _variance(n) == pytest.approx(float(values.mean()), rel=1e-6)


@pytest.mark.parametrize("shape", [(1, 6), (1, 2, 3), (1, 2, 2, 2)])
def test_every_pixel_has_mean_0_and_variance_1(shape: tuple[int, ...]) -> None:
    """Over seeds, within 3 standard errors at the first pixel and the last."""
    n = 3000
    x = Simplex(octaves=2)(range(n))("eps", 0, shape, dtype=torch.float64).flatten(1)
    for pixel in (x[:, 0], x[:, -1]):
        assert abs(float(pixel.square().mean()) - 1) < 3 * float(pixel.square().std()) / math.sqrt(n)
        assert abs(float(pixel.mean())) < 3 / math.sqrt(n)


def test_many_waves_have_mean_0_and_variance_1_to_two_percent() -> None:
    x = Simplex(frequency=0.37, octaves=2)(range(12))("eps", 0, (1, 128, 128), dtype=torch.float64)
    assert abs(float(x.mean())) < 0.02 and abs(float(x.square().mean()) - 1) < 0.02


def power(x: torch.Tensor) -> torch.Tensor:
    """Power of rows at frequencies 1, 2, ... waves a row, mean over rows and draws."""
    return torch.fft.rfft(x, dim=-1).abs().square().flatten(0, -2).mean(0)[1:]


def test_the_spectrum_falls_with_the_decay() -> None:
    slopes = []
    for decay in (1.0, 0.8, 0.5):
        p = power(Simplex(decay=decay)(range(24))("eps", 0, (1, 64, 64), dtype=torch.float64))
        octaves = torch.stack([p[2**k - 1 : 2 ** (k + 1) - 1].mean().log2() for k in range(5)])
        slopes.append(float((octaves[1:] - octaves[:-1]).mean()))
    assert slopes[0] - 0.3 > slopes[1] > slopes[2] + 0.8  # each octave's power falls by decay^2 more
    flat = power(Noise(range(24))("eps", 0, (1, 64, 64), dtype=torch.float64))
    assert slopes[0] < -0.5 and float(flat[16:].mean() / flat[:4].mean()) == pytest.approx(1, abs=0.15)


def test_noise_is_smooth_at_the_coarsest_octave_and_does_not_repeat() -> None:
    x = Simplex(octaves=1)(range(64))("eps", 0, (2, 32, 32), dtype=torch.float64)
    assert float((x[..., 1:] - x[..., :-1]).square().mean()) < 0.02  # white noise has 2
    assert abs(float((x[:, 0] * x[:, 1]).mean())) < 0.4 and not torch.equal(x[:, 0], x[:, 1])


def test_the_seed_contract() -> None:
    law, shape = Simplex(), (2, 8, 8)
    together = law(range(8))("step", 3, shape)
    assert isinstance(law([1]), Noise)
    assert torch.equal(law([5])("step", 3, shape)[0], together[5])
    assert torch.equal(law(range(8)).rows(slice(2, 4))("step", 3, shape), together[2:4])
    assert torch.equal(law(range(8)).rows([6])("step", 3, shape), together[6:7])
    assert not torch.equal(law([5])("step", 4, shape)[0], together[5])
    assert not torch.equal(law([5])("eps", 3, shape)[0], together[5])
    half = law([5])("step", 3, shape, dtype=torch.float64)
    assert torch.equal(half.float()[0], together[5])


def test_other_purposes_and_uniform_numbers_are_as_ever() -> None:
    simplex, plain = SimplexNoise([3, 4]), Noise([3, 4])
    assert torch.equal(simplex("posterior", 0, (4, 4)), plain("posterior", 0, (4, 4)))
    assert torch.equal(simplex.uniform("eps", 0, (4,)), plain.uniform("eps", 0, (4,)))
    for purpose in ("eps", "x_T", "step", "stage 1", "path"):
        assert not torch.equal(simplex(purpose, 0, (1, 4, 4)), plain(purpose, 0, (1, 4, 4)))


def test_with_normal_noise_it_is_the_ordinary_process_bit_for_bit() -> None:
    d, batch = Gaussian(torch.zeros(1, 4, 4), std=0.7).denoiser(VP()), Batch(torch.ones(3, 1, 4, 4))
    noise = Noise([1, 2, 3])
    for a, b in ((Structured(Noise), Denoise()), (Structured(Noise, Denoise("x0")), Denoise("x0"))):
        assert torch.equal(a(d, batch, noise).total, b(d, batch, noise).total)
    assert not torch.equal(Structured()(d, batch, noise).total, Denoise()(d, batch, noise).total)


def test_an_objective_sees_the_state_that_the_law_makes() -> None:
    """x_t = alpha x + sigma n at the times of the ordinary objective, which are uniform numbers and stay."""
    seen = []

    class Watch(type(d := Gaussian(torch.zeros(1, 4, 4), std=1.0).denoiser(Flow()))):  # type: ignore[misc]
        def forward(self, x_t: torch.Tensor, t: torch.Tensor, c: Condition | None = None):
            seen.append((x_t, t))
            return super().forward(x_t, t, c)

    d.__class__ = Watch
    noise, x = Noise([4, 9]), torch.full((2, 1, 4, 4), 0.3)
    Structured()(d, Batch(x), noise)
    Denoise()(d, Batch(x), noise)
    (x_t, t), (_, plain_t) = seen
    assert torch.equal(t, plain_t)
    level = t.view(-1, 1, 1, 1)
    want = (1 - level) * x + level * Simplex()([4, 9])("eps", 0, (1, 4, 4))
    torch.testing.assert_close(x_t, want)


def test_samplers_take_it() -> None:
    """DDPM's steps draw from it: of data that is one point, every law ends there; on the way the noise is smooth."""
    d, noise = Gaussian(torch.full((1, 16, 16), 0.5), std=0.0).denoiser(VP()), Simplex(octaves=2)([0, 1])
    x_T = noise("x_T", 0, (1, 16, 16))
    torch.testing.assert_close(DDPM()(d, x_T, steps=8, noise=noise), torch.full((2, 1, 16, 16), 0.5))
    times = torch.linspace(1, 0.5, 6, dtype=torch.float64)
    rough = []
    for law in (noise, Noise([0, 1])):
        x = DDPM()(d, law("x_T", 0, (1, 16, 16)), grid=times, noise=law)
        rough.append(float((x[..., 1:] - x[..., :-1]).square().mean()))
    assert rough[0] < 0.1 * rough[1]
    assert torch.isfinite(DDIM()(d, x_T, steps=4)).all()


@pytest.mark.usefixtures("unchecked")
def test_bad_settings() -> None:
    for make in (lambda: Simplex(octaves=0), lambda: Simplex(frequency=0.0), lambda: Simplex(decay=-1.0)):
        with pytest.raises(ValueError, match="expected positive"):
            make()
    with pytest.raises(ValueError, match="more than one wave"):
        Simplex(octaves=8)
    with pytest.raises(ValueError, match="simplex noise of shape"):
        SimplexNoise([0])("eps", 0, (4,))
