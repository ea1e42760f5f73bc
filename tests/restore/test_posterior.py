"""Several restorations of one measurement: the seeds, the spread, the intervals, and what calibration promises."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from mezzotint.core import VP, Condition, Gaussian, GaussianMixture, Noise, fold
from mezzotint.restore import DDNM, PiGDM, Posterior, REDDiff, calibrate, posterior
from mezzotint.restore.operators import Mask, Matrix

F64 = torch.float64
MIX = GaussianMixture(torch.tensor([[-0.8, 0.3], [0.6, -0.2]]), torch.tensor([0.2, 0.3]))
D = MIX.denoiser(VP())
SOME = Matrix(torch.tensor([[1.0, 0.5]], dtype=F64))
Y = torch.tensor([[0.2], [0.7]], dtype=F64)


def normal(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=F64)


@pytest.mark.parametrize("at_once", [1, 2, 16])
def test_a_sample_is_what_its_seed_gives_alone(at_once):
    done = []
    made = posterior(DDNM(), D, SOME, Y[:1], [3, 4, 5], std=0.1, steps=4, at_once=at_once, on_sample=done.append)
    assert made.samples.shape == (3, 1, 2) and len(made) == 3 and done[-1] == 3 and len(done) == math.ceil(3 / at_once)
    for j, seed in enumerate([3, 4, 5]):
        alone = DDNM()(D, SOME, Y[:1], Noise([seed]), std=0.1, steps=4)
        torch.testing.assert_close(made.samples[j], alone, rtol=0, atol=1e-12)
    torch.testing.assert_close(made.mean, made.samples.mean(0))
    torch.testing.assert_close(made.std, made.samples.var(0, unbiased=True).sqrt())


def test_several_measurements_each_with_its_own_mask_and_condition():
    operator = Mask(torch.tensor([[[[1, 0]]], [[[0, 1]]]]))
    prior = GaussianMixture(MIX.means.view(2, 1, 1, 2), MIX.stds)
    y = operator(normal(1, 2, 1, 1, 2))
    c = Condition({"label": torch.tensor([0, 1])}, null={"label": torch.tensor([2])})
    made = posterior(PiGDM(), prior.denoiser(VP()), operator, y, [7, 8], std=0.1, steps=3, c=c)
    assert made.samples.shape == (2, 2, 1, 1, 2)
    for i in range(2):
        one = Mask(operator.mask[i : i + 1])
        alone = posterior(PiGDM(), prior.denoiser(VP()), one, y[i : i + 1], [7, 8], std=0.1, steps=3, c=c.rows([i]))
        torch.testing.assert_close(made.samples[:, i : i + 1], alone.samples, rtol=0, atol=1e-12)


def test_it_says_whether_the_spread_means_anything():
    assert posterior(DDNM(), D, SOME, Y[:1], [1], steps=2).sampled
    assert not posterior(REDDiff(), D, SOME, Y[:1], [1], steps=2).sampled


def test_one_sample_has_no_spread():
    one = Posterior(normal(0, 1, 2, 3))
    assert bool(one.std.isnan().all()) and torch.equal(one.mean, one.samples[0])
    with pytest.raises(ValueError, match="one sample has no spread"):
        one.interval()


@pytest.mark.parametrize("n", [2, 4, 16])
@pytest.mark.parametrize("level", [0.5, 0.9])
def test_intervals_of_a_gaussian_cover_as_much_as_they_say(n, level):
    """However few the samples: 20000 pixels, each with a width and a truth of its own."""
    pixels = 20_000
    width, centre = normal(1, pixels).exp(), normal(2, pixels)
    drawn = centre + width * normal(3 + n, n + 1, pixels)
    made = Posterior(drawn[1:, None])
    covered = float(made.coverage(drawn[:1], level))
    assert abs(covered - level) < 4 * math.sqrt(level * (1 - level) / pixels)
    low, high = made.interval(level)
    inside = float(((drawn[:1] >= low) & (drawn[:1] <= high)).double().mean())
    assert covered == pytest.approx(inside, abs=2e-4), "but for values within 1e-6"


def batch(seed: int, images: int, lie: float) -> tuple[Posterior, Tensor]:
    """Samples whose spread is `lie` of what it should be, with another scale for every image."""
    scale = normal(seed, images, 1).exp()
    truth = scale * normal(seed + 1, images, 40)
    return Posterior(lie * scale * normal(seed + 2, 8, images, 40)), truth


def test_calibration_is_the_least_factor_that_meets_the_bound():
    made, truth = batch(11, 12, 0.5)
    factor = calibrate([made], [truth], 0.8)

    def bound(q: float) -> float:
        return (12 * (1 - float(made.scaled(q).coverage(truth, 0.8).mean())) + 1) / 13

    assert bound(factor * (1 + 1e-9)) <= 0.2 + 1e-9 < bound(factor * (1 - 1e-6))
    assert calibrate([made.scaled(3.0)], [truth], 0.8) == factor, "its own factor is not looked at"
    apart = [Posterior(made.samples[:, i : i + 1]) for i in range(12)]
    assert calibrate(apart, list(truth[:, None]), 0.8) == pytest.approx(factor)


@pytest.mark.parametrize("lie", [0.3, 1.0, 3.0])
def test_a_new_image_is_covered_on_average_over_all_draws(lie):
    """200 times 15 images to calibrate on and one to look at; intervals too narrow, right and too wide."""
    shares = []
    for draw in range(200):
        made, truth = batch(fold(draw) % 2**31, 16, lie)
        known, new = Posterior(made.samples[:, :15]), Posterior(made.samples[:, 15:])
        factor = calibrate([known], [truth[:15]], 0.8)
        shares.append(float(new.scaled(factor).coverage(truth[15:], 0.8)))
    mean = torch.tensor(shares)
    error = float(mean.std()) / math.sqrt(len(shares))
    assert 0.8 - 3 * error < float(mean.mean()) < 0.8 + 1 / 16 + 3 * error


def test_images_of_several_sizes_count_alike():
    """An image of one pixel weighs as much as one of fifty."""
    small = Posterior(normal(3, 4, 6, 1)), normal(4, 6, 1)
    large = Posterior(normal(5, 4, 6, 50)), normal(6, 6, 50)
    factor = calibrate([small[0], large[0]], [small[1], large[1]], 0.8)

    def bound(q: float) -> float:
        shares = [p.scaled(q).coverage(x, 0.8) for p, x in (small, large)]
        return (12 * (1 - float(torch.cat(shares).mean())) + 1) / 13

    assert bound(factor * (1 + 1e-9)) <= 0.2 + 1e-9 < bound(factor * (1 - 1e-6))


def test_what_is_known_exactly_counts_as_covered_and_what_is_off_cannot_be():
    samples = normal(1, 4, 10, 6)
    samples[..., :3] = 0.25
    truth = normal(2, 10, 6)
    truth[:, :3] = 0.25 + 1e-8
    made = Posterior(samples)
    assert float(made.coverage(truth).min()) >= 0.5
    assert math.isfinite(calibrate([made], [truth], 0.8))
    truth[:, :3] = 0.5
    with pytest.raises(ValueError, match="intervals of no width"):
        calibrate([made], [truth], 0.8)


def test_over_a_posterior_that_is_known():
    """PiGDM on unit data: the intervals cover the truth nearly as often as they say, and calibrated ones do."""
    prior = Gaussian(torch.zeros(4), std=1.0)
    operator, noise = Matrix(normal(4, 2, 4)), Noise(range(40))
    x = prior.sample(noise)
    y = operator(x) + 0.3 * noise("n", 0, (2,), dtype=F64)
    made = posterior(PiGDM(), prior.denoiser(VP()), operator, y, range(100, 108), std=0.3, steps=25)
    assert 0.8 < float(made.coverage(x).mean()) < 0.95
    half = Posterior(made.samples[:, :20]), Posterior(made.samples[:, 20:])
    factor = calibrate([half[0]], [x[:20]])
    assert 0.8 < factor < 1.7 and float(half[1].scaled(factor).coverage(x[20:]).mean()) > 0.85


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: posterior(DDNM(), D, SOME, Y[:1], []), "no seed"),
        (lambda: posterior(DDNM(), D, SOME, Y[:1], [1], at_once=0), "at_once=0"),
        (
            lambda: posterior(DDNM(), D, SOME, Y, [1], c=Condition({"label": torch.tensor([1])})),
            "1 rows but there are 2 measurements",
        ),
        (lambda: Posterior(normal(0, 2, 1, 3)).interval(1.0), "level=1.0"),
        (lambda: Posterior(normal(0, 2, 1, 3)).scaled(-1.0), "factor=-1.0"),
        (lambda: Posterior(normal(0, 2, 1, 3)).coverage(normal(0, 1, 4)), r"expected \(1, 3\)"),
        (lambda: calibrate([], [], 0.9), "needs 9 images or more; got 0"),
        (lambda: calibrate([Posterior(normal(0, 2, 8, 3))], [normal(0, 8, 3)]), "needs 9 images or more; got 8"),
        (lambda: calibrate([Posterior(normal(0, 2, 8, 3))], []), "1 posteriors but 0 truths"),
    ],
)
def test_bad_input_is_one_line(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_nine_images_do_for_nine_tenths():
    assert math.isfinite(calibrate([Posterior(normal(0, 2, 9, 3))], [normal(1, 9, 3)], 0.9))
