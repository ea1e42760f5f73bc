"""A late start from a guess: the law at the start, the two ends of t0, and the methods it takes."""

from __future__ import annotations

import pytest
import torch

from mezzotint.core import VP, Flow, GaussianMixture, Noise
from mezzotint.restore import DPS, ILVR, FromGuess, REDDiff
from mezzotint.restore.operators import Clip, Matrix
from mezzotint.sample import DDIM

F64 = torch.float64
MIX = GaussianMixture(torch.tensor([[-0.8, 0.3], [0.6, -0.2]]), torch.tensor([0.1, 0.1]))
MEAN, Y = Matrix(torch.tensor([[0.5, 0.5]], dtype=F64)), torch.tensor([[0.25], [-0.2]], dtype=F64)
NOISE = Noise([3, 4])


def test_from_the_top_it_is_the_method_itself():
    d = MIX.denoiser(Flow())  # alpha(1) = 0: nothing of the guess is left
    assert torch.equal(FromGuess(1.0, ILVR())(d, MEAN, Y, NOISE, steps=6), ILVR()(d, MEAN, Y, NOISE, steps=6))
    x_T = NOISE("x_T", 0, (2,), dtype=F64)
    assert torch.equal(FromGuess(1.0)(d, MEAN, Y, NOISE, steps=6), DDIM()(d, x_T, steps=6))


def test_it_starts_at_the_guess_with_the_noise_of_its_level():
    t, d = torch.tensor([0.3], dtype=F64), MIX.denoiser(VP())
    grid = torch.tensor([0.3, 0.0], dtype=F64)
    x = VP().alpha(t) * MEAN.pinv(Y) + VP().sigma(t) * NOISE("x_T", 0, (2,), dtype=F64)
    got = FromGuess()(d, MEAN, Y, NOISE, grid=grid)
    torch.testing.assert_close(got, d(x, t.expand(2)).x0, rtol=0, atol=1e-12)
    assert torch.equal(FromGuess(0.3)(d, MEAN, Y, NOISE, steps=1), got)


def test_the_later_it_starts_the_nearer_it_stays():
    d, far = MIX.denoiser(Flow()), []
    for start in (0.9, 0.4, 0.05):
        far.append(float((FromGuess(start)(d, MEAN, Y, NOISE, steps=20) - MEAN.pinv(Y)).norm()))
    assert far[0] > far[1] > far[2] > 0


def test_a_method_that_knows_the_measurement_keeps_knowing_it():
    made = FromGuess(0.4, ILVR())(MIX.denoiser(VP()), MEAN, Y, NOISE, steps=5)
    torch.testing.assert_close(MEAN(made), Y, rtol=0, atol=1e-12)
    assert FromGuess(0.4, DPS()).spread and not FromGuess(0.4).spread
    clipped = FromGuess(0.4, DPS(zeta=0.1))(MIX.denoiser(VP()), Clip(), Y.expand(2, 2), NOISE, steps=5)
    assert bool(torch.isfinite(clipped).all())


def test_wrong_calls_say_what_is_wrong(unchecked):
    with pytest.raises(ValueError, match=r"start=0.0; expected a time in \(0, 1\]"):
        FromGuess(0.0)
    with pytest.raises(ValueError, match="expected a sampler"):
        FromGuess(0.5, REDDiff())
    with pytest.raises(ValueError, match="ILVR needs a linear operator and Clip is none"):
        FromGuess(0.5, ILVR())(MIX.denoiser(VP()), Clip(), Y.expand(2, 2), NOISE, steps=2)
