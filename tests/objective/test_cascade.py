"""The joint objective against closed forms; its law of levels, corruption and shifts."""

from __future__ import annotations

import math
from collections import Counter

import pytest
import torch

from mezzotint.core import VE, Condition, Flow, Noise, ResolutionPyramid, pyramid_of
from mezzotint.core.exact import PooledGaussian
from mezzotint.objective import (
    Batch,
    CascadeObjective,
    Corruption,
    Denoise,
    LogitNormalTime,
    LogNormalSigma,
    Scheduled,
    ShiftedTimes,
)

D, NOISE = torch.float64, Noise(range(3000))
PYRAMID = ResolutionPyramid((4, 8), scales=(0.8, 1.25), dims=1)
ROW = 0.25 * 0.7 ** torch.minimum(torch.arange(8), 8 - torch.arange(8)).to(D)
COV = torch.stack([ROW.roll(i) for i in range(8)])
EXACT = PooledGaussian(COV, VE(), PYRAMID, (1, 8))


def data() -> torch.Tensor:
    return (NOISE("data", 0, (8,), dtype=D) @ torch.linalg.cholesky(COV).T)[:, None]


@pytest.mark.parametrize("drop", [0.0, 1.0])
@pytest.mark.parametrize("level", [0, 1])
def test_the_exact_denoiser_reaches_the_posterior_variance(level, drop):
    """E |x_l - D|^2 = tr V sigma^2 (V + sigma^2)^-1, V the covariance given the corrupted level below."""
    corruption = Corruption(mean=-1.5, blur=0.0)
    base = Denoise("x0", LogNormalSigma(), drop=0.0)
    objective = CascadeObjective((0.5, 0.5), base, corruption=corruption, drop=drop)
    step = next(k for k in range(9) if objective.at(k).level == level)
    loss = objective.at(step)(EXACT, Batch(data()), NOISE)
    sigma = (-1.2 + math.log(1.0 if level else 0.5**0.5) + 1.2 * NOISE("t", 0, (), dtype=D)).exp()
    s = (-1.5 + NOISE("low level", 0, (), dtype=D)).exp().clamp(max=0.5)
    v = EXACT.conditional(1, s)[1] if level and not drop else EXACT.covs[level].expand(3000, -1, -1)
    noise = (sigma**2)[:, None, None] * torch.eye(v.shape[1], dtype=D)
    left = (v @ torch.linalg.solve(v + noise, noise)).diagonal(dim1=1, dim2=2).mean()
    assert float(loss.total) == pytest.approx(float(left), rel=0.03)
    assert loss.terms[f"mse {(4, 8)[level]}"] is loss.terms["mse"]


def test_a_wrong_scale_costs():
    """The exact denoiser told of a low image whose scale was forgotten loses to the right one."""
    objective = CascadeObjective((0.0, 1.0), Denoise("x0", LogNormalSigma(), drop=0.0), corruption=None, drop=0.0)
    right = objective.at(0)(EXACT, Batch(data()), NOISE).total
    wrong = PooledGaussian(COV, VE(), PYRAMID, (1, 8))
    wrong.pyramid = ResolutionPyramid((4, 8), scales=(1.0, 1.25), dims=1)
    assert float(objective.at(0)(wrong, Batch(data()), NOISE).total) > 1.1 * float(right)


@pytest.mark.parametrize("q", [(0.3, 0.7), (3.0, 7.0), (0.2, 0.3, 0.5), (0.0, 1.0), (1.0, 0.0)])
def test_every_stretch_of_steps_has_its_share_of_each_level(q):
    objective = CascadeObjective(q)
    assert isinstance(objective, Scheduled)
    for start in (0, 137, 5000):
        seen = Counter(objective.at(step).level for step in range(start, start + 100))
        for level, share in enumerate(q):
            assert abs(seen[level] - 100 * share / sum(q)) < 3


def test_weights_multiply_and_shifts_move():
    base = Denoise("x0", LogNormalSigma(), drop=0.0)
    plain, heavy = (CascadeObjective((1.0, 0.0), base, weights=w, corruption=None) for w in (None, (3.0, 1.0)))
    one, three = (o.at(0)(EXACT, Batch(data()), NOISE) for o in (plain, heavy))
    assert float(three.total) == pytest.approx(3 * float(one.total))
    assert torch.equal(one.terms["mse"], three.terms["mse"])
    unmoved = CascadeObjective((1.0, 0.0), base, shifts=(1.0, 1.0)).at(0)(EXACT, Batch(data()), NOISE)
    same = base(EXACT, Batch(PYRAMID.down(data(), 0)), NOISE)
    assert torch.equal(unmoved.total, same.total) and not torch.equal(one.total, same.total)


def test_shifted_times_are_a_shifted_mean():
    for schedule in (VE(), Flow()):
        moved = ShiftedTimes(LogNormalSigma(-1.2, 1.0), 0.5)(NOISE, schedule)
        assert torch.allclose(moved, LogNormalSigma(-1.2 + math.log(0.5), 1.0)(NOISE, schedule), atol=1e-9)
    t = LogitNormalTime()(NOISE, Flow())
    moved = ShiftedTimes(LogitNormalTime(), 0.5)(NOISE, Flow())
    assert torch.allclose(moved / (1 - moved), 0.5 * t / (1 - t), rtol=1e-9)


def test_corruption_is_what_it_says():
    y = NOISE("y", 0, (1, 6), dtype=D)
    made, s = Corruption(blur=0.0)(y, NOISE)
    z = (made - y) / s[:, None, None]
    assert float(z.std()) == pytest.approx(1, abs=0.03) and abs(float(z.mean())) < 0.03
    assert float(s.max()) <= 0.5 and float(s.log().median()) == pytest.approx(-3, abs=0.1)
    alone, _ = Corruption(blur=0.0)(y[5:6], NOISE.rows([5]))
    assert torch.equal(alone[0], made[5])
    flat = torch.ones(3000, 2, 4, 4, dtype=D)
    flat[:, :, 1, 1] = 17.0
    blurred, s = Corruption(mean=-20.0)(flat, NOISE)
    touched = (blurred[:, 0, 1, 1] < 16).double()
    assert float(touched.mean()) == pytest.approx(0.2, abs=0.03)
    row = int(touched.argmax())
    kernel = torch.tensor([[1, 2, 1], [2, 4, 2], [1, 2, 1]], dtype=D) / 16
    assert torch.allclose(blurred[row, 0, :3, :3], 1 + 16 * kernel, atol=1e-6)


def test_what_is_dropped_is_the_level_below_alone():
    """The other conditions keep their own probability of being dropped."""
    asked = []

    class Recorder(PooledGaussian):
        def forward(self, x_t, t, c=None):
            asked.append(c)
            return super().forward(x_t, t, c)

    label = Condition({"label": torch.arange(3000)}, {"label": torch.tensor([-1])})
    d = Recorder(COV, VE(), PYRAMID, (1, 8))
    objective = CascadeObjective((0.0, 1.0), Denoise("x0", LogNormalSigma(), drop=0.2), drop=0.4)
    objective.at(0)(d, Batch(data(), label), NOISE)
    (c,) = asked
    gone, untold = c["label"] == -1, c["low_given"] == 0
    assert float(gone.double().mean()) == pytest.approx(0.2, abs=0.03)
    assert float(untold.double().mean()) == pytest.approx(0.4, abs=0.03)
    assert float((gone & untold).double().mean()) == pytest.approx(0.08, abs=0.02)
    assert torch.equal(c["label"][~gone], label["label"][~gone])


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: CascadeObjective(()), "probabilities"),
        (lambda: CascadeObjective((0.0, 0.0)), "not all 0"),
        (lambda: CascadeObjective((0.5, 0.5), weights=(1.0,)), "weights"),
        (lambda: CascadeObjective((0.5, 0.5), shifts=(1.0, -1.0)), "shifts"),
        (lambda: CascadeObjective((0.5, 0.5), drop=1.5), "probability"),
        (lambda: Corruption(std=0.0), "std > 0"),
        (lambda: Corruption(most=0.9), "most in"),
        (lambda: ShiftedTimes(LogNormalSigma(), 0.0), "factor > 0"),
        (
            lambda: CascadeObjective((1.0, 1.0, 1.0)).at(0)(EXACT, Batch(data()), NOISE),
            "has 3 probabilities",
        ),
    ],
)
def test_refusals(make, words):
    assert pyramid_of(EXACT) is PYRAMID
    with pytest.raises(ValueError, match=words):
        make()
