"""Denoising from the time that has the image's noise: the three answers of a Gaussian, known each."""

from __future__ import annotations

import math

import pytest
import torch

from mezzotint.core import VE, VP, Cosine, Flow, Gaussian, Noise
from mezzotint.restore import denoise, time_of_noise
from mezzotint.sample import DDIM, DDPM

F64, MEAN, STD, S = torch.float64, 0.4, 0.3, 0.2
Y = torch.linspace(-1, 1, 5, dtype=F64).view(1, 5)


@pytest.mark.parametrize("schedule", [VP(), Flow(), Cosine(), VE()], ids=str)
def test_the_time_has_the_noise(schedule):
    for std in (0.01, 0.2, 3.0):
        t = torch.tensor(time_of_noise(schedule, std), dtype=F64)
        assert float(schedule.sigma(t) / schedule.alpha(t)) == pytest.approx(std, rel=1e-9)
    d = Gaussian(torch.full((5,), MEAN, dtype=F64), std=STD).denoiser(schedule)
    assert torch.equal(denoise(d, Y, 0.0), Y)
    want = MEAN + STD**2 / (STD**2 + S**2) * (Y - MEAN)  # one step is E[x | y]
    torch.testing.assert_close(denoise(d, Y, S), want, rtol=0, atol=1e-12)


def test_many_steps_keep_the_law_or_draw_from_the_posterior():
    d = Gaussian(torch.full((5,), MEAN, dtype=F64), std=STD).denoiser(VP())
    kept = MEAN + STD / math.sqrt(STD**2 + S**2) * (Y - MEAN)  # what has y's law is brought to x's
    torch.testing.assert_close(denoise(d, Y, S, steps=400, sampler=DDIM()), kept, rtol=0, atol=1e-3)
    n = 300
    made = denoise(d, Y.expand(n, 5), S, Noise(range(n)), steps=120, sampler=DDPM())
    mean, var = MEAN + STD**2 / (STD**2 + S**2) * (Y[0] - MEAN), STD**2 * S**2 / (STD**2 + S**2)
    assert bool(((made.mean(0) - mean).abs() < 3.5 * math.sqrt(var / n)).all())
    assert float(made.var(0).mean()) == pytest.approx(var, rel=0.06)


def test_noise_that_the_schedule_does_not_reach_is_refused():
    with pytest.raises(ValueError, match="this schedule ends at"):
        time_of_noise(VE(), 1000.0)
    for std in (-1.0, math.nan, math.inf):
        with pytest.raises(ValueError, match="finite number >= 0"):
            time_of_noise(VP(), std)
