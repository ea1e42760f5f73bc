"""Information and its atoms against distributions whose information is known (the sheet's section 6), float64."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from mezzotint.core import VP, Condition, Flow, Gaussian, GaussianMixture, Noise, fold
from mezzotint.core.exact.base import Distribution, ExactDenoiser
from mezzotint.interpret import Atoms, InformationLevels, decompose, information
from mezzotint.interpret.pid_levels import level_error

D = torch.float64
LN2 = math.log(2)
WIDE = InformationLevels(loc=0.5, scale=1.0, clip=4.0, count=40)


class Told(GaussianMixture):
    """A mixture whose condition is its weights: what is left of p(component) once some words are known."""

    def posterior_mean(self, x, alpha, sigma, c):
        p = self._joint(x, alpha, sigma, c["weights"].clamp_min(1e-300).log()).softmax(-1)
        gain = alpha * self.stds**2 / (alpha**2 * self.stds**2 + sigma**2)
        means = self.means + gain[..., None] * (x[:, None, :] - alpha[..., None] * self.means)
        return (p[..., None] * means).sum(1)


def atoms_of(joint, n=1500, levels=WIDE, std=0.1):
    """Mean over images of the atoms; joint: (y1, y2, pixels, probability)."""
    mix = Told(torch.tensor([[pixels] for *_, pixels, _ in joint], dtype=D), torch.full((len(joint),), std, dtype=D))
    weights = torch.tensor([p for *_, p in joint], dtype=D)
    words = torch.tensor([(a, b) for a, b, *_ in joint])
    denoiser, kept = ExactDenoiser(mix, VP()), []
    for k, (a, b) in enumerate(words.tolist()):
        count = round(n * float(weights[k]))
        same = torch.stack([torch.ones(len(joint), dtype=torch.bool), words[:, 0] == a, words[:, 1] == b,
                            (words == torch.tensor([a, b])).all(1)])  # fmt: skip
        c = Condition({"weights": weights * same / (weights * same).sum(1, keepdim=True)})
        noise = Noise([fold(k, "image", i) for i in range(count)])
        x = mix.means[k].view(1, *mix.shape) + std * noise("x", 0, mix.shape, dtype=D)
        made = decompose(denoiser, x, c, noise, levels=levels, batch=1 << 15)
        check_consistent(made)
        kept.append(made)
    return Atoms(*(torch.cat([getattr(m.maps, name) for m in kept]).mean(0) for name in Atoms.names)), kept


def check_consistent(made):
    for a in (made.maps, made.totals):
        for total, parts in ((a.i12, (a.r, a.u1, a.u2, a.s)), (a.i1, (a.r, a.u1)), (a.i2, (a.r, a.u2))):
            torch.testing.assert_close(sum(parts), total, rtol=0, atol=1e-9)
    for name in Atoms.names:
        torch.testing.assert_close(getattr(made.maps, name).flatten(1).sum(1), getattr(made.totals, name))
    assert float(made.maps.i1.min()) >= 0 and float(made.maps.u1.min()) >= 0


def near(told, *expected, within=0.02):
    """To `within` nats a pixel (the sheet's 2 % are of about a nat)."""
    torch.testing.assert_close(told, torch.tensor(expected, dtype=D), rtol=0.02, atol=within)


class Pair(Distribution):
    """x given y is N(rho y, 1 - rho^2); x is N(0, 1): y as a condition, known or not."""

    shape = (1, 1)

    def __init__(self, rho):
        self.rho = rho

    def posterior_mean(self, x, alpha, sigma, c):
        known, y = c["known"].view(-1, 1).to(D), c["y"].view(-1, 1).to(D)
        mean, var = known * self.rho * y, 1 - known * self.rho**2
        return mean + alpha * var / (alpha**2 * var + sigma**2) * (x - alpha * mean)

    def sample(self, noise):
        raise NotImplementedError

    def log_prob(self, x, alpha=1.0, sigma=0.0):
        raise NotImplementedError


def gaussian_pair(rho, form, n=400, schedule=None):
    d, told = ExactDenoiser(Pair(rho), schedule or VP()), []
    z = torch.special.ndtri((torch.arange(20, dtype=D) + 0.5) / 20)  # y, one a twentieth of its law
    for k, y in enumerate((z / z.square().mean().sqrt()).tolist()):
        c = Condition({"known": torch.tensor([0.0, 1.0], dtype=D), "y": torch.full((2,), y, dtype=D)})
        noise = Noise([fold(k, "pair", i) for i in range(n // 20)])
        x = rho * y + math.sqrt(1 - rho**2) * noise("x", 0, (1, 1), dtype=D)
        told.append(information(d, x, c, [(0, 1)], noise, levels=WIDE, form=form, batch=1 << 15))
    return torch.cat([t.totals[:, 0] for t in told]), torch.cat([t.total_errors[:, 0] for t in told])


@pytest.mark.parametrize(("rho", "expected"), [(0.5, 0.14384), (0.9, 0.83037)])
def test_a_gaussian_pair_has_its_information(rho, expected):
    """Both forms on average; half the axis without twice the integrand would give half."""
    assert expected == pytest.approx(-0.5 * math.log(1 - rho**2), abs=1e-5)
    orthogonal, known = gaussian_pair(rho, "orthogonal", n=2000)
    assert float(orthogonal.mean()) == pytest.approx(expected, rel=0.02)
    assert float(orthogonal.min()) >= 0
    standard, told = gaussian_pair(rho, "standard", n=2000)
    error = float(standard.std()) / len(standard) ** 0.5
    assert abs(float(standard.mean()) - expected) < 4 * error
    if rho == 0.5:
        # of the estimate; over images the standard form has the variance of log p(x|y)/p(x), rho^2, at the least
        assert float(told.square().mean()) > 10 * float(known.square().mean())
        assert float(standard.var()) > 0.9 * rho**2 > 5 * float(orthogonal.var())


def test_any_schedule_gives_the_same():
    vp, _ = gaussian_pair(0.9, "orthogonal", n=20)
    flow, _ = gaussian_pair(0.9, "orthogonal", n=20, schedule=Flow())
    torch.testing.assert_close(vp, flow, rtol=1e-6, atol=1e-9)


def test_the_density_of_a_gaussian():
    """-log p(x) = d/2 log(2 pi e) + int (E|eps - eps(x_t)|^2 - d sigmoid(2 lambda)) d lambda."""
    d, v = Gaussian(torch.zeros(1, 1, dtype=D), std=2.0).denoiser(VP()), 4.0
    x = torch.tensor([[[0.5]], [[3.0]]], dtype=D)
    levels = InformationLevels(loc=-0.5, clip=5.0, count=400, draws=2)
    noise = Noise([0, 1])
    lam, w = levels(VP(), noise)
    t = VP().t_of(lam)
    eps = torch.tensor([-1.0, 1.0], dtype=D).expand(2, levels.count, 2)  # the moments that a linear denoiser needs
    alpha, sigma = VP().alpha(t)[..., None], VP().sigma(t)[..., None]
    x_t = alpha * x.view(2, 1, 1) + sigma * eps
    times = t[..., None].expand_as(eps)
    told = d(x_t.reshape(-1, 1, 1), times.reshape(-1)).eps.view_as(eps)
    gap = ((eps - told) ** 2).mean(-1) - torch.sigmoid(2 * lam)
    found = 0.5 * math.log(2 * math.pi * math.e) + (w * gap).mean(1)
    expected = 0.5 * math.log(2 * math.pi * v) + x.flatten() ** 2 / (2 * v)
    torch.testing.assert_close(found, expected, rtol=0.02, atol=0)


def test_no_information_is_exactly_zero():
    mix = Told(torch.tensor([[[-1.0]], [[1.0]]], dtype=D), torch.tensor([0.1, 0.1], dtype=D))
    c = Condition({"weights": torch.full((4, 2), 0.5, dtype=D)})
    made = decompose(ExactDenoiser(mix, VP()), torch.ones(3, 1, 1, dtype=D), c, Noise([0, 1, 2]), levels=WIDE)
    for name in Atoms.names:
        assert not getattr(made.maps, name).any() and not getattr(made.total_errors, name).any()


def test_xor_is_synergy():
    """4.8e5 evaluations, as the sheet asks: with 6e4 one standard error alone is 1.7 %."""
    levels = replace(WIDE, draws=30)
    a, kept = atoms_of([(i, j, [2.0 * (i ^ j) - 1], 0.25) for i in (0, 1) for j in (0, 1)], n=400, levels=levels)
    assert max(float(v.abs().max()) for v in (a.i1, a.i2, a.r, a.u1, a.u2)) < 1e-25
    assert float(a.s) == pytest.approx(LN2, rel=0.02)
    assert all(float(m.total_errors.s.max()) > 0 for m in kept)


def test_two_bits_are_unique_and_only_the_sum_mistakes_them():
    a, kept = atoms_of([(i, j, [2.0 * i - 1, 2.0 * j - 1], 0.25) for i in (0, 1) for j in (0, 1)])
    near(a.u1, LN2, 0)
    near(a.u2, 0, LN2)
    near(a.r, 0, 0)
    near(a.s, 0, 0)
    summed = Atoms.of(a.i1.sum(), a.i2.sum(), a.i12.sum())  # the artefact
    assert float(summed.r) == pytest.approx(LN2, abs=0.03) and float(summed.s) == pytest.approx(LN2, abs=0.03)
    assert float(torch.cat([m.sum_then_min.r for m in kept]).mean()) > 0.3  # image by image, the least of noisy sums


def test_synonyms_are_redundant():
    a, _ = atoms_of([(i, i, [2.0 * i - 1], 0.5) for i in (0, 1)])
    near(a.r, LN2)
    assert not a.u1.any() and not a.u2.any() and not a.s.any()


def test_and():
    """Averages over images of the least: by symmetry i1 and i2 have one law, but not in each image."""
    joint = [(i, j, [2.0 * (i & j) - 1], 0.25) for i in (0, 1) for j in (0, 1)]
    a, _ = atoms_of(joint)
    near(a.i12, 0.5623)
    near(a.i1, 0.2158)
    near(a.i2, 0.2158)
    near(Atoms.of(a.i1, a.i2, a.i12).s, 0.347)


def test_biased_words_are_redundant_as_far_as_they_agree():
    a, _ = atoms_of([(i, j, [2.0 * i - 1, 2.0 * j - 1], 0.45 if i == j else 0.05) for i in (0, 1) for j in (0, 1)])
    near(a.i1, 0.504, 0.184)  # most at the word's own pixel, the rest at the one that it predicts
    near(a.i2, 0.184, 0.504)
    found = Atoms.of(a.i1, a.i2, a.i12)
    near(found.r, 0.184, 0.183)
    near(found.u1, 0.32, 0)
    near(found.u2, 0, 0.33)
    near(found.s, 0, 0)


def test_locality_is_not_promised():
    """The total is exact, but pixels that say nothing of y1 alone get a share of it."""
    joint = [(i, j, [2.0 * i - 1, 2.0 * (i ^ j) - 1, 2.0 * j - 1], 0.25) for i in (0, 1) for j in (0, 1)]
    a, _ = atoms_of(joint)
    near(a.i1, 0.46, 0.116, 0.115)
    assert float(a.i1.sum()) == pytest.approx(LN2, rel=0.02)


def test_the_atoms_are_symmetric():
    i1, i2, i12 = (torch.tensor(v, dtype=D) for v in ([0.2, 0.5], [0.4, 0.1], [0.5, 0.7]))
    a, b = Atoms.of(i1, i2, i12), Atoms.of(i2, i1, i12)
    assert torch.equal(a.r, b.r) and torch.equal(a.u1, b.u2) and torch.equal(a.s, b.s)


def test_the_weights_integrate():
    """int sigmoid(a) sigmoid(-a) da over the interval, and the interval's own length."""
    lam, w = InformationLevels(count=400)(VP(), Noise(range(20)))
    a, high, low = 2 * lam, torch.tensor(7.0, dtype=D), torch.tensor(-5.0, dtype=D)
    found = (2 * w * torch.sigmoid(a) * torch.sigmoid(-a)).mean()
    assert float(found) == pytest.approx(float(torch.sigmoid(high) - torch.sigmoid(low)), rel=1e-3)
    assert float(w.mean()) == pytest.approx(6.0, rel=1e-3)
    assert bool((lam.diff() > 0).all()) and float(lam.min()) > -2.5 and float(lam.max()) < 3.5


def test_noise_is_shared_by_all_conditions():
    """With a noise of its own for each condition the estimate would be 6.3 (the sheet's run) and not 0.144."""
    found, _ = gaussian_pair(0.5, "orthogonal", n=400)
    assert float(found.mean()) < 0.2


def test_standard_errors_cover_the_spread_over_noises():
    """One image, many noises: the estimates spread by no more than the error that each tells, and not far less."""
    d = ExactDenoiser(Pair(0.9), VP())
    c = Condition({"known": torch.tensor([0.0, 1.0], dtype=D), "y": torch.ones(2, dtype=D)})
    told = information(d, torch.full((500, 1, 1), 0.7, dtype=D), c, [(0, 1)], Noise(range(500)), levels=WIDE,
                       batch=1 << 15)  # fmt: skip
    spread, said = float(told.totals.std()), float(told.total_errors.square().mean().sqrt())
    assert 0.9 < said / spread < 1.5


def test_level_errors_are_those_of_independent_strata():
    values = Noise([3])("v", 0, (4000,), dtype=D)[0]
    assert float(level_error(values)) == pytest.approx(4000**-0.5, rel=0.05)
