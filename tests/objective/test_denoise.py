"""The denoising objective against its formulas."""

from __future__ import annotations

import math

import pytest
import torch

from mezzotint.core import VP, Condition, Denoiser, Flow, Gaussian, Noise, Prediction
from mezzotint.objective import (
    Batch,
    Denoise,
    EDMWeight,
    LogitNormalTime,
    LogNormalSigma,
    MinSNR,
    UniformTime,
    Unweighted,
)

D = torch.float64
NOISE = Noise(range(4000))


class Recorder(Denoiser):
    """Predicts x0 = 0 and keeps what it was asked."""

    def __init__(self, schedule):
        super().__init__(schedule)
        self.asked = []

    def forward(self, x_t, t, c=None):
        self.asked.append((x_t, t, c))
        return Prediction.from_x0(torch.zeros_like(x_t), x_t, t, self.schedule)


@pytest.mark.parametrize("schedule", [VP(), Flow()])
def test_minimum_over_a_gaussian_is_the_posterior_variance(schedule):
    """With the exact denoiser the x0 loss at time t is s^2 sigma^2 / (alpha^2 s^2 + sigma^2)."""
    spread = 0.7
    exact = Gaussian(torch.zeros(8), std=spread).denoiser(schedule)
    data = spread * NOISE("data", 0, (8,), dtype=D)
    loss = Denoise("x0", drop=0.0)(exact, Batch(data), NOISE).total
    t = UniformTime()(NOISE, schedule)
    a, s = schedule.alpha(t), schedule.sigma(t)
    expected = (spread**2 * s**2 / (a**2 * spread**2 + s**2)).mean()
    assert float(loss) == pytest.approx(float(expected), rel=0.03)


@pytest.mark.parametrize("target", ["eps", "v", "flow"])
def test_targets_and_inputs_are_the_definitions(target):
    d = Recorder(VP())
    data = NOISE.rows(range(6))("data", 0, (5,), dtype=D)
    noise = NOISE.rows(range(6))
    loss = Denoise(target, drop=0.0)(d, Batch(data), noise)
    x_t, t, _ = d.asked[0]
    eps = noise("eps", 0, (5,), dtype=D)
    a, s = VP().alpha(t)[:, None], VP().sigma(t)[:, None]
    assert torch.allclose(x_t, a * data + s * eps, atol=1e-12)
    p = Prediction.from_x0(torch.zeros_like(x_t), x_t, t, VP())
    truth = {"eps": eps, "v": a * eps - s * data, "flow": eps - data}[target]
    assert float(loss.total) == pytest.approx(float((getattr(p, target) - truth).square().mean()), rel=1e-10)


@pytest.mark.parametrize("weight", [MinSNR(5.0), EDMWeight(0.5)])
def test_a_weight_means_the_same_in_every_target(weight):
    """w(target) |target error|^2 is one number: that of the x0 error with the stated weight."""
    exact = Gaussian(torch.ones(3), std=0.5).denoiser(VP())
    data = NOISE.rows(range(50))("data", 0, (3,), dtype=D)
    losses = [
        float(
            Denoise(kind, times=LogitNormalTime(), weight=weight, drop=0.0)(
                exact, Batch(data), NOISE.rows(range(50))
            ).total
        )
        for kind in ("x0", "eps", "v", "flow")
    ]
    assert losses == pytest.approx([losses[0]] * 4, rel=1e-9)


def test_weights_are_the_published_formulas():
    t = torch.linspace(0.05, 0.95, 9, dtype=D)
    a, s = VP().alpha(t), VP().sigma(t)
    snr = a**2 / s**2
    assert torch.allclose(MinSNR(5.0)("eps", a, s), snr.clamp(max=5) / snr, rtol=1e-10)
    assert torch.allclose(MinSNR(5.0)("v", a, s), snr.clamp(max=5) / (snr + 1), rtol=1e-10)
    sigma = s / a
    one = torch.ones_like(s)
    assert torch.allclose(EDMWeight(0.5)("x0", one, sigma), (sigma**2 + 0.25) / (sigma * 0.5) ** 2, rtol=1e-10)
    assert torch.equal(Unweighted()("eps", a, s), torch.ones_like(a))
    for kind in ("eps", "v", "flow"):  # finite where nothing is left to predict, and where nothing is left of the data
        end = torch.tensor([1.0, 0.0], dtype=D), torch.tensor([0.0, 1.0], dtype=D)
        assert bool(torch.isfinite(MinSNR()("v" if kind == "eps" else kind, *end)).all())


def test_time_distributions():
    u = UniformTime()(NOISE, VP())
    assert 0 < float(u.min()) and float(u.max()) <= 1
    assert abs(float(u.mean()) - 0.5) < 5 / math.sqrt(12 * 4000)
    z = torch.logit(LogitNormalTime(0.3, 0.8)(NOISE, VP()))
    assert abs(float(z.mean()) - 0.3) < 5 * 0.8 / math.sqrt(4000)
    assert float(z.std()) == pytest.approx(0.8, rel=0.06)
    log_sigma = -VP().half_log_snr(LogNormalSigma(-1.2, 1.2)(NOISE, VP()))
    assert abs(float(log_sigma.mean()) + 1.2) < 5 * 1.2 / math.sqrt(4000)


def test_dropout_replaces_that_share_of_conditions_and_is_a_function_of_the_seed():
    d = Recorder(VP())
    c = Condition({"label": torch.zeros(4000, dtype=torch.long)}, {"label": torch.tensor([9])})
    data = torch.zeros(4000, 1)
    for _ in range(2):
        Denoise(drop=0.2)(d, Batch(data, c), NOISE)
    first, second = (asked[2]["label"] for asked in d.asked)
    assert torch.equal(first, second)
    assert float((first == 9).double().mean()) == pytest.approx(0.2, abs=5 * math.sqrt(0.16 / 4000))
    alone = Recorder(VP())
    Denoise(drop=0.2)(alone, Batch(data[:1], c.rows([7])), NOISE.rows([7]))
    assert torch.equal(alone.asked[0][2]["label"], first[7:8])
    assert torch.equal(alone.asked[0][0], d.asked[0][0][7:8])
