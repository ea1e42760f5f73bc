"""Processes: ends, one curve of noise, what is refused; and the call that restores."""

from __future__ import annotations

import math
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from mezzotint.core import VP, Condition, Noise, Schedule, X0Denoiser
from mezzotint.restore.bridge import (
    I2SB,
    IRSDE,
    BlindBridgeDenoiser,
    BridgeDenoiser,
    BridgeSampler,
    EpsBridgeDenoiser,
    I2SBDenoiser,
    InDI,
    OneCall,
    ResShift,
    TrainedRestorer,
    check_ends,
)
from mezzotint.sample import DDIM

F64 = torch.float64
PROCESSES = [IRSDE(), ResShift(), ResShift(0.5, 4), InDI(), InDI(0.3), I2SB(), I2SB(0.0, 1.0)]
IDS = [str(p) for p in PROCESSES]
T = torch.linspace(0, 1, 41, dtype=F64)


@pytest.mark.parametrize("process", PROCESSES, ids=IDS)
def test_it_is_a_schedule_from_x_to_y(process):
    assert isinstance(process, Schedule)
    check_ends(process)
    a, b, c, lam = (f(T) for f in (process.alpha, process.shift, process.sigma, process.half_log_snr))
    assert bool((a.diff() < 0).all()) and bool((b.diff() > 0).all())
    torch.testing.assert_close(a + b, torch.ones_like(T), rtol=0, atol=1e-12)  # a constant picture stays one
    assert bool((lam.diff() < 0).all()) and lam[0] == math.inf
    inner = slice(1, -1)
    if float(c[20]) > 0:
        torch.testing.assert_close(lam[inner], (a / c).log()[inner], rtol=0, atol=1e-9)
    torch.testing.assert_close(process.t_of(lam[inner]), T[inner], rtol=0, atol=1e-9)
    torch.testing.assert_close(process.alpha(T.float()), a.float(), rtol=0, atol=1e-6)


@pytest.mark.parametrize("process", PROCESSES, ids=IDS)
def test_what_is_carried_is_no_more_than_there_is(process):
    """carry^2 c_t^2 <= c_s^2, steps in a row carry what one step does, and nothing is carried to t = 0."""
    s, m, t = (torch.tensor(q, dtype=F64) for q in (0.2, 0.5, 0.9))
    assert float((process.carry(s, t) * process.sigma(t)) ** 2) <= float(process.sigma(s) ** 2) * (1 + 1e-12)
    torch.testing.assert_close(process.carry(s, m) * process.carry(m, t), process.carry(s, t))
    assert float(process.carry(torch.zeros((), dtype=F64), t)) == 0


def test_speeds_are_the_papers():
    steps = torch.arange(1, 16, dtype=F64)
    eta = ResShift().shift(steps / 15)
    root = 0.02 * (0.999**0.5 / 0.02) ** (((steps - 1) / 14) ** 0.3)  # equation 9
    torch.testing.assert_close(eta.sqrt(), root, rtol=1e-12, atol=0)
    beta = (I2SB(0.1, 0.4).past(T)[1:] - I2SB(0.1, 0.4).past(T)[:-1]) / T.diff()
    middles = 0.5 * (T[1:] + T[:-1])
    low, high = 0.1**0.5, 0.4**0.5
    want = (low + (high - low) * (1 - (2 * middles - 1).abs())) ** 2
    torch.testing.assert_close(beta, want, rtol=0, atol=1e-3)
    speed = -IRSDE().alpha(T).log().diff() / T.diff()  # theta, a squared sine
    want = math.log(200) * 2 * (math.pi * middles / 2).sin() ** 2
    torch.testing.assert_close(speed, want, rtol=0, atol=0.01)


def test_its_own_predictions_are_read_as_stated():
    c, t = Condition({"concat": torch.ones(2, 3, dtype=F64)}), torch.tensor([0.3, 0.8], dtype=F64)
    x, eps = torch.randn(2, 2, 3, generator=torch.Generator().manual_seed(0), dtype=F64)
    for process, kind in ((IRSDE(), EpsBridgeDenoiser), (I2SB(), I2SBDenoiser)):
        a, s, column = process.alpha(t)[:, None], process.sigma(t)[:, None], t[:, None]
        z = a * x + s * eps
        x_t = z + process.shift(column)
        answer = eps if kind is EpsBridgeDenoiser else (x_t - x) / process.past(column).sqrt()
        torch.testing.assert_close(kind(lambda *_, out=answer: out, process)(z, t, c).x0, x, rtol=0, atol=1e-9)


def echo(x: Tensor, time: Tensor, c: Condition | None) -> Tensor:
    return 0.5 * x if c is None else 0.5 * x + 0.3 * c["concat"][:, :1] + c["concat"][:, 1:].sum(1, keepdim=True)


@pytest.mark.parametrize("process", [IRSDE(), ResShift(), I2SB(), InDI(0.2)], ids=lambda p: type(p).__name__)
def test_rows_are_apart_and_one_measurement_has_several_samples(process):
    d, y, run = BridgeDenoiser(echo, process), Noise([9])("y", 0, (1, 4, 4)), TrainedRestorer()
    many = run(d, y, Noise([1, 2]), steps=3)
    torch.testing.assert_close(many[1:], run(d, y, Noise([2]), steps=3), rtol=0, atol=1e-6)
    assert many.shape == (2, 1, 4, 4) and not torch.equal(many[0], many[1])
    assert torch.equal(many, run(d, y.expand(2, 1, 4, 4), Noise([1, 2]), steps=3))


def test_more_channels_are_for_the_network_and_blind_ones_see_none():
    y, extra = torch.zeros(2, 1, 2, 2), torch.tensor([0.25, 0.5]).view(2, 1, 1, 1).expand(2, 1, 2, 2)
    made = TrainedRestorer()(BridgeDenoiser(echo, InDI()), y, Noise([0, 1]), steps=1, c=Condition({"concat": extra}))
    assert torch.equal(made, extra)
    blind = TrainedRestorer()(BlindBridgeDenoiser(echo, InDI()), y + 1, Noise([0, 1]), steps=1)
    assert torch.equal(blind, torch.full_like(y, 0.5))


def test_conditional_diffusion_and_regression_have_the_same_call():
    y = Noise([9])("y", 0, (1, 4, 4))
    d, seen = X0Denoiser(echo, VP()), []
    made = TrainedRestorer(DDIM(1.0))(d, y, Noise([1, 2]), steps=3, on_step=lambda k, state: seen.append(k))
    x_T = float(VP().sigma(torch.ones((), dtype=F64))) * Noise([1, 2])("x_T", 0, (1, 4, 4))
    c = Condition({"concat": y.expand(2, 1, 4, 4)})
    assert torch.equal(made, DDIM(1.0)(d, x_T, steps=3, c=c, noise=Noise([1, 2]))) and seen == [0, 1, 2]
    once = OneCall()(d, y, Noise([1, 2]), steps=3)
    assert torch.equal(once, (0.3 * y).expand(2, 1, 4, 4))


@dataclass(frozen=True)
class Half(InDI):
    """Goes half of the way."""

    def alpha(self, t: Tensor) -> Tensor:
        return 1 - t / 2


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: IRSDE(0.0), "expected level > 0"),
        (lambda: IRSDE(left=0.5), r"left in \(0, 0.05\]"),
        (lambda: ResShift(n=1), "n >= 2"),
        (lambda: ResShift(first=0.5, last=0.4), "first < last"),
        (lambda: InDI(-1.0), ">= 0"),
        (lambda: I2SB(0.2, 0.1), "end <= middle"),
        (lambda: BridgeSampler(2.0), r"in \[0, 1\]"),
        (lambda: BridgeSampler().first_order((), 0), "cannot be part of another solver"),
        (lambda: BridgeDenoiser(echo, VP()), "expected a Process"),
        (lambda: BridgeDenoiser(echo, Half()), r"a = 0.5 and b = 1 at t = 1"),
        (lambda: I2SBDenoiser(echo, InDI()), "take BridgeDenoiser"),
        (lambda: BridgeDenoiser(echo, InDI())(torch.zeros(1, 1), torch.ones(1)), "needs the degraded picture"),
        (
            lambda: BridgeDenoiser(echo, InDI())(
                torch.zeros(1, 1, 4, 4), torch.ones(1), Condition({"concat": torch.zeros(1, 1, 2, 2)})
            ),
            "operator.guess",
        ),
        (lambda: TrainedRestorer()(X0Denoiser(echo, VP()), torch.zeros(1, 1), Noise([0])), "needs a BridgeDenoiser"),
        (lambda: TrainedRestorer()(BridgeDenoiser(echo, InDI()), torch.zeros(3, 1), Noise([0])), "1 seeds"),
        (lambda: OneCall()(X0Denoiser(echo, VP()), torch.full((1, 1), math.nan), Noise([0])), "NaN"),
    ],
)  # fmt: skip
def test_bad_input_is_one_line(call, message, unchecked):
    with pytest.raises(ValueError, match=message):
        call()
