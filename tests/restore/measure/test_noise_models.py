"""Noise models: their laws, the seed contract, and the level that a restorer is told."""

from __future__ import annotations

import math

import pytest
import torch

from mezzotint.core import Noise
from mezzotint.restore.measure import (
    CTNoise,
    GaussianNoise,
    InTurn,
    PoissonNoise,
    RicianNoise,
    Rounding,
    SaltPepper,
    Speckle,
    poisson_counts,
)

F64 = torch.float64
MODELS = {
    "Gaussian": GaussianNoise(0.3),
    "Poisson": PoissonNoise(20),
    "Poisson, dim": PoissonNoise(0.7, low=0.0, high=2.0),
    "CT": CTNoise(2000, 0.7, 1.0),
    "Rician": RicianNoise(0.4),
    "Rician of pairs": RicianNoise(0.4, pairs=True),
    "salt and pepper": SaltPepper(0.2),
    "rounding": Rounding(3),
    "speckle": Speckle(4),
    "in turn": InTurn((SaltPepper(0.0), GaussianNoise(0.1), Rounding(8, -3, 3))),
}


def values(count: int) -> torch.Tensor:
    """(1, 4, count): in each channel one value, from black to white."""
    return torch.tensor([-1.0, -0.5, 0.2, 0.9], dtype=F64)[None, :, None].expand(1, 4, count)


def clean(name: str, y: torch.Tensor) -> torch.Tensor:
    return y.unflatten(1, (-1, 2)).square().sum(2).sqrt() if name == "Rician of pairs" else y


@pytest.mark.parametrize("name", MODELS)
def test_the_level_is_the_root_mean_square_of_what_was_added(name):
    model, count = MODELS[name], 20_000
    y = values(count)
    if name == "Poisson, dim":
        y = y + 1  # its black is 0
    if name == "rounding":  # over values anywhere between two levels
        y = 2 * Noise([5]).uniform("y", 0, (4, count), dtype=F64) - 1
    off = (model(y, Noise([3])) - clean(name, y)).square()
    told = model.spread(y).square()
    assert told.shape == off.shape
    error = off.var(2).sqrt() / math.sqrt(count)
    allowed = 4 * error + (1e-3 if name == "CT" else 1e-9) * told.mean(2)  # CT's is of first order
    assert bool(((off.mean(2) - told.mean(2)).abs() <= allowed).all())
    assert model.level(y) == pytest.approx(math.sqrt(float(told.mean())))


@pytest.mark.parametrize("name", MODELS)
def test_a_row_depends_on_its_seed_alone(name):
    model = MODELS[name]
    y = values(6).expand(3, 4, 6)
    together = model(y, Noise([1, 8, 5]))
    assert torch.equal(model(y[:1], Noise([8])), together[1:2])
    if name != "rounding":
        assert not torch.equal(together[0], together[1])
    single = model(y.float(), Noise([1, 8, 5]))
    assert single.dtype == torch.float32
    if name not in ("rounding", "in turn"):
        torch.testing.assert_close(single.double(), together, rtol=1e-5, atol=1e-5)


def test_counts_are_poissons_quantiles():
    u = Noise([0, 1]).uniform("test", 0, (400,), dtype=F64)
    for rate in (0.01, 0.8, 7.0, 300.0):
        n = poisson_counts(torch.full((2, 400), rate, dtype=F64), Noise([0, 1]), "test")
        k = torch.arange(0, int(rate + 12 * math.sqrt(rate) + 12), dtype=F64)
        cumulative = (k * math.log(rate) - rate - torch.lgamma(k + 1)).exp().cumsum(0)
        assert torch.equal(n, torch.searchsorted(cumulative, u, right=True).double())
    assert poisson_counts(torch.zeros(2, 5), Noise([0, 1]), "test").tolist() == [[0.0] * 5] * 2


@pytest.mark.parametrize("rate", [0.3, 12.0, 2e4, 8e8])
def test_counts_have_poissons_moments(rate):
    n = poisson_counts(torch.full((1, 20_000), rate, dtype=F64), Noise([9]), "test")[0]
    assert float(n.mean()) == pytest.approx(rate, abs=4 * math.sqrt(rate / 20_000))
    spread = math.sqrt((2 + 1 / rate) / 20_000)  # of a Poisson sample's variance over its own
    assert float(n.var()) == pytest.approx(rate, rel=4 * spread)
    assert bool((n == n.round()).all())


def test_counts_against_scipy():
    stats = pytest.importorskip("scipy.stats")
    u = Noise([4]).uniform("test", 0, (2000,), dtype=F64)
    for top in (2.0, 1e3, 1e6):
        rate = top * Noise([5]).uniform("rate", 0, (2000,), dtype=F64)
        n = poisson_counts(rate, Noise([4]), "test")
        assert torch.equal(n, torch.from_numpy(stats.poisson.ppf(u.numpy(), rate.numpy())))


def test_salt_pepper_and_levels_are_where_they_should_be():
    y = SaltPepper(0.3, -2.0, 3.0)(torch.zeros(1, 20_000, dtype=F64), Noise([0]))
    for value, share in ((-2.0, 0.15), (3.0, 0.15), (0.0, 0.7)):
        assert float((y == value).double().mean()) == pytest.approx(share, abs=4 * math.sqrt(share / 20_000))
    x = torch.linspace(-1.2, 1.2, 500, dtype=F64)[None]
    z = Rounding(3)(x, Noise([0]))
    torch.testing.assert_close(z.unique(), torch.linspace(-1, 1, 8, dtype=F64))
    assert float((z - x.clamp(-1, 1)).abs().max()) <= 1 / 7 + 1e-12


def test_speckle_multiplies():
    y = values(20_000)
    gain = ((Speckle(3)(y, Noise([0])) + 1) / (y + 1).clamp(min=1e-9))[:, 1:]
    assert float(gain.mean()) == pytest.approx(1, abs=0.01) and float(gain.var()) == pytest.approx(1 / 3, rel=0.05)
    assert float(gain.min()) > 0 and bool((Speckle(3)(y, Noise([0]))[:, 0] == -1).all())  # black stays black


def test_a_rician_magnitude_is_too_bright_in_the_dark_only():
    y = torch.tensor([-1.0, 9.0], dtype=F64)[None, :, None].expand(1, 2, 40_000)
    dark, bright = RicianNoise(0.5)(y, Noise([0]))[0]
    assert float(dark.mean()) == pytest.approx(-1 + 0.5 * math.sqrt(math.pi / 2), abs=0.01)  # Rayleigh
    assert float(bright.mean()) == pytest.approx(9, abs=0.02) and float(bright.std()) == pytest.approx(0.5, rel=0.02)
    far = RicianNoise(1e-3).spread(torch.tensor([[-0.9, 0.0, 1.0, 1e3]], dtype=F64))
    torch.testing.assert_close(far, torch.full((1, 4), 1e-3, dtype=F64), rtol=1e-3, atol=0)


def test_photons_behind_a_body():
    y = torch.tensor([[0.0, 3.0, 40.0]], dtype=F64)
    model = CTNoise(1e5)
    z = model(y, Noise([0]))
    assert abs(float(z[0, 0])) < 0.02 and abs(float(z[0, 1]) - 3) < 0.08
    assert float(z[0, 2]) == pytest.approx(math.log(1e5))  # nothing came through: counted as one photon
    shifted = CTNoise(1e5, 0.5, torch.tensor([[2.0, 1.0, 0.0]], dtype=F64))
    raw = 2 * CTNoise(1e5)((y + torch.tensor([[2.0, 1.0, 0.0]], dtype=F64)) / 2, Noise([0]))
    torch.testing.assert_close(shifted(y, Noise([0])), raw - torch.tensor([[2.0, 1.0, 0.0]], dtype=F64))


def test_bad_input_is_told(unchecked):
    y, noise = torch.zeros(2, 3), Noise([0, 1])
    for make, said in (
        (lambda: GaussianNoise(-1), "std=-1; expected a finite number >= 0"),
        (lambda: PoissonNoise(0), "peak=0; expected a finite number > 0"),
        (lambda: PoissonNoise(5, 1.0, 0.0), "expected low < high"),
        (lambda: CTNoise(-5), "photons=-5"),
        (lambda: CTNoise(5, 0), "scale=0"),
        (lambda: RicianNoise(0), "std=0"),
        (lambda: RicianNoise(1.0, math.inf), "low=inf"),
        (lambda: SaltPepper(1.5), "share=1.5; expected a share"),
        (lambda: Rounding(0), "bits=0"),
        (lambda: Speckle(0), "looks=0"),
        (lambda: InTurn(()), "got nothing"),
        (lambda: InTurn((GaussianNoise(1), GaussianNoise(2))), "noises of different kinds"),
        (lambda: GaussianNoise(1)(y, Noise([0])), "1 seeds for 2 measurements"),
        (lambda: PoissonNoise(1)(y.to(torch.complex64), noise), "complex64 measurement"),
        (lambda: SaltPepper(0.1)(y.to(torch.uint8), noise), "uint8 measurement"),
        (lambda: PoissonNoise(1)(y / 0, noise), "NaN or infinity"),
        (lambda: PoissonNoise(1e12)(y, noise), "finite rates in"),
        (lambda: CTNoise()(y - 100, noise), "finite rates in"),
        (lambda: RicianNoise(1, pairs=True)(y, noise), "expected an even number of channels"),
    ):
        with pytest.raises(ValueError, match=said):
            make()
