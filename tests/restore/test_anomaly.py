"""Partial diffusion: the score has the expectation that the Gaussian case knows, under every law of noise."""

from __future__ import annotations

import math

import pytest
import torch

from mezzotint.core import VP, Condition, Flow, Gaussian, Noise, Simplex
from mezzotint.guide import GuidedDenoiser
from mezzotint.restore import PartialDiffusion, healthy_twin
from mezzotint.restore.anomaly import smoothed

F64 = torch.float64
STD, SHAPE = 0.3, (1, 6, 6)
D = Gaussian(torch.zeros(SHAPE), std=STD).denoiser(VP())
SEEDS = list(range(400))


def levels(t: float) -> tuple[float, float]:
    time = torch.tensor(t, dtype=F64)
    return float(VP().alpha(time)), float(VP().sigma(time))


def images(n: int) -> torch.Tensor:
    return torch.linspace(-1, 1, 36, dtype=F64).view(1, *SHAPE).expand(n, *SHAPE)


def test_without_noise_it_gives_the_image_back():
    x = images(3)
    found = PartialDiffusion(start=0.0)(D, x, [0, 1, 2])
    assert torch.equal(found.twin, x) and torch.equal(found.score, torch.zeros_like(found.score))


@pytest.mark.parametrize("law", [Noise, Simplex(octaves=3)], ids=["gaussian", "simplex"])
def test_one_step_has_the_expected_score(law):
    """x_k = g (alpha x + sigma n): E (x - x_k)^2 = (1 - g alpha)^2 x^2 + g^2 sigma^2 at each pixel, as Var n = 1."""
    a, s = levels(0.4)
    g = a * STD**2 / (a**2 * STD**2 + s**2)
    x = images(len(SEEDS))
    score = PartialDiffusion(0.4, law, repeats=2, steps=1, blur=0.0)(D, x, SEEDS).score
    want = (1 - g * a) ** 2 * x[0].square() + g**2 * s**2
    error = score.std(0) / math.sqrt(len(SEEDS))
    assert bool(((score.mean(0) - want).abs() < 4 * error).all())
    assert abs(float((score.mean(0) - want).mean())) < 3 * float(score.mean((1, 2, 3)).std()) / math.sqrt(len(SEEDS))


def test_ancestral_steps_have_the_score_of_posterior_samples():
    """Many exact steps draw x_k ~ p(x0 | x_t): the variance STD^2 sigma^2 / (alpha^2 STD^2 + sigma^2) comes on top."""
    a, s = levels(0.4)
    total = a**2 * STD**2 + s**2
    g, v = a * STD**2 / total, STD**2 * s**2 / total
    x = images(len(SEEDS))
    score = PartialDiffusion(0.4, repeats=1, steps=60, blur=0.0)(D, x, SEEDS).score
    want = (1 - g * a) ** 2 * x[0].square() + g**2 * s**2 + v
    assert float(score.mean()) == pytest.approx(float(want.mean()), rel=0.03)
    assert v > 6 * 0.03 * float(want.mean())  # far more than the tolerance: the term is seen


def test_every_draw_follows_the_law():
    """The start's noise and the steps': with simplex noise of one octave the residual of a flat image is smooth."""
    flat, rough = torch.zeros(8, 1, 32, 32, dtype=F64), []
    d = Gaussian(torch.zeros(1, 32, 32), std=STD).denoiser(VP())
    for law in (Simplex(octaves=1), Noise):
        back = PartialDiffusion(0.4, law, steps=6).back(d, flat, range(8))
        assert float(back.std()) > 0.05
        rough.append(float((back[..., 1:] - back[..., :-1]).square().mean() / back.square().mean()))
    assert rough[0] < 0.05 and rough[1] > 1.5


def test_repeats_and_images_have_noise_of_their_own():
    x, run = images(2), PartialDiffusion(0.3, repeats=2, steps=2, blur=0.0)
    both = run(D, x, [5, 9])
    alone = run(D, x[:1], [9])
    assert torch.equal(alone.score, both.score[1:]) and not torch.equal(both.score[:1], both.score[1:])
    one = PartialDiffusion(0.3, repeats=1, steps=2, blur=0.0)(D, x, [5, 9])
    assert not torch.equal(one.twin, both.twin)


def test_the_score_is_smoothed_inside_the_body_alone():
    score = torch.rand(1, 1, 12, 12, generator=torch.Generator().manual_seed(0))
    mask = torch.zeros(1, 1, 12, 12, dtype=torch.bool)
    mask[..., 2:9, 3:10] = True
    outside = torch.where(mask, score, torch.full_like(score, 1e6))
    assert torch.equal(smoothed(score, 1.0, mask), smoothed(outside * mask, 1.0, mask))
    assert bool((smoothed(score, 1.0, mask)[~mask] == 0).all())
    torch.testing.assert_close(smoothed(torch.ones(1, 1, 12, 12), 2.0, mask), mask.float())
    assert float(smoothed(score, 1.0).std()) < float(score.std())


class Towards(GuidedDenoiser):
    """A denoiser that says one image, whatever it sees."""

    def pair(self, x_t, t, c=None):
        made = self.denoiser(x_t, t, c)
        away = torch.full_like(x_t, 0.25)
        return type(made)("x0", away, x_t, t, made.schedule), made


def test_a_twin_without_a_guide_is_the_image_and_with_one_what_the_guide_says():
    x, d = images(1), Gaussian(torch.zeros(SHAPE), std=STD).denoiser(Flow())
    plain = healthy_twin(d, d, x, start=0.5, steps=60)
    assert float(plain.score.max()) < 0.03
    finer = healthy_twin(d, d, x, start=0.5, steps=240)
    assert float(finer.score.max()) < 0.5 * float(plain.score.max())
    guided = healthy_twin(d, Towards(d), x, start=0.5, steps=20)
    torch.testing.assert_close(guided.score, (x - 0.25).abs(), rtol=0, atol=1e-12)


def test_wrong_calls_say_what_is_wrong(unchecked):
    for settings in ({"start": 1.0}, {"start": -0.1}):
        with pytest.raises(ValueError, match=r"expected a time in \[0, 1\)"):
            PartialDiffusion(**settings)
    with pytest.raises(ValueError, match="repeats=0"):
        PartialDiffusion(repeats=0)
    with pytest.raises(ValueError, match="there are 1 seeds"):
        PartialDiffusion()(D, images(2), [0])
    with pytest.raises(ValueError, match=r"expected a time in \(0, 1\)"):
        healthy_twin(D, D, images(1), start=0.0, c=Condition({}))
