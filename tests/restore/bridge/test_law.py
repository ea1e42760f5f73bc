"""Where x and y are jointly Gaussian the best F and the law of x | y are known: what each process gives with it."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from mezzotint.core import Condition, Noise
from mezzotint.restore.bridge import (
    I2SB,
    IRSDE,
    BlindBridgeDenoiser,
    BridgeDenoiser,
    BridgeSampler,
    InDI,
    Process,
    ResShift,
    TrainedRestorer,
)
from mezzotint.sample import DDIM

F64 = torch.float64
DRAW = torch.Generator().manual_seed(11)
N = 3
ROOT, MAP = (torch.randn(N, N, generator=DRAW, dtype=F64) for _ in range(2))
PRIOR = ROOT @ ROOT.T / N + 0.05 * torch.eye(N, dtype=F64)
MEAN = torch.randn(N, generator=DRAW, dtype=F64)
NOISE = 0.09 * torch.eye(N, dtype=F64)  # y = MAP x + n
GAIN = PRIOR @ MAP.T @ torch.linalg.inv(MAP @ PRIOR @ MAP.T + NOISE)
COV = PRIOR - GAIN @ MAP @ PRIOR
VALUES, VECTORS = torch.linalg.eigh(COV)


def mean_of(y: Tensor) -> Tensor:
    """E[x | y], (b, n)."""
    return MEAN + (y - MEAN @ MAP.T) @ GAIN.T


class Best:
    """E[x | x_t, y], as a network that is told 1000 t and y."""

    def __init__(self, process: Process) -> None:
        self.process = process

    def __call__(self, x: Tensor, time: Tensor, c: Condition | None) -> Tensor:
        assert c is not None
        t = (time / 1000)[:, None]
        a, b, s = self.process.alpha(t), self.process.shift(t), self.process.sigma(t)
        y = c["concat"]
        m, total = mean_of(y), a**2 * VALUES + s**2
        gain = torch.where(total > 0, a * VALUES / total.clamp(min=1e-300), 0.0)
        return m + (gain * ((x - b * y - a * m) @ VECTORS)) @ VECTORS.T


class Impulses(Noise):
    """Row (k + 1) n + i has a one at place i of the draw of step k (k = -1: the start), the last row has none.

    A sampler is affine in its draws: run once on these, its law is known to rounding.
    """

    def __init__(self, steps: int, n: int = N) -> None:
        super().__init__(range((steps + 1) * n + 1))
        self.n = n

    def __call__(self, purpose, k, shape, **options):
        z = torch.zeros(len(self), self.n, dtype=F64)
        place = {"x_T": 0, "step": k + 1}[purpose] * self.n
        z[place : place + self.n] = torch.eye(self.n, dtype=F64)
        return z.view(len(self), *shape)


def law(made: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and covariance of what a sampler makes of `Impulses`."""
    root = made[:-1] - made[-1]
    return made[-1], root.T @ root


def off(made: Tensor, y: Tensor) -> tuple[float, float]:
    """Of the mean in units of the posterior's width, and of the covariance."""
    mean, cov = law(made)
    return (
        float((mean - mean_of(y)[0]).norm() / COV.trace().sqrt()),
        float((cov - COV).norm() / COV.norm()),
    )


Y = torch.randn(1, N, generator=DRAW, dtype=F64)


def run(process: Process, steps: int, eta: float = 1.0) -> tuple[float, float]:
    made = TrainedRestorer(BridgeSampler(eta))(BridgeDenoiser(Best(process), process), Y, Impulses(steps), steps=steps)
    return off(made, Y)


# what is left at 200 steps is that of a first-order method: it falls with the steps, by half where they are even in
# log-SNR; ResShift's fixed speed and I2SB's free ends make it fall more slowly
LAWS = [
    (IRSDE(), 1.0, 0.04, 1.8),
    (IRSDE(1.0), 1.0, 0.07, 1.7),
    (IRSDE(1.0), 0.0, 0.03, 1.8),
    (ResShift(), 1.0, 0.09, 1.4),
    (ResShift(0.5), 1.0, 0.03, 1.6),
    (ResShift(0.5), 0.0, 0.02, 1.7),
    (InDI(0.5), 1.0, 0.015, 1.9),
    (I2SB(), 1.0, 0.03, 1.6),
    (I2SB(0.0, 1.0), 1.0, 0.04, 1.8),
]


@pytest.mark.parametrize(("process", "eta", "bound", "falls"), LAWS, ids=lambda q: str(q))
def test_samples_are_of_x_given_y(process, eta, bound, falls):
    (mean, coarse), (_, fine) = run(process, 100, eta), run(process, 200, eta)
    assert mean < 0.01 and fine < bound and coarse / fine > falls


def test_what_is_left_of_x_at_the_start_is_all_that_the_mean_is_off_by():
    """a(1) > 0: a run starts from y and not from y + a(1) (x - y). With less left the mean is nearer."""
    most, least = (run(IRSDE(0.2, left), 100, 0.0)[0] for left in (0.04, 0.0005))
    assert most > 0.1 and least < 0.01
    assert run(I2SB(), 20)[0] < 1e-12 and run(InDI(0.5), 20)[0] < 1e-12  # a(1) = 0


@pytest.mark.parametrize("steps", [1, 2, 15])
def test_what_draws_no_noise_gives_the_mean(steps):
    for process, eta in ((InDI(), 1.0), (I2SB(), 0.0)):
        mean, cov = law(TrainedRestorer(BridgeSampler(eta))(
            BridgeDenoiser(Best(process), process), Y, Impulses(steps), steps=steps))  # fmt: skip
        torch.testing.assert_close(mean, mean_of(Y)[0], rtol=0, atol=1e-12)
        assert float(cov.norm()) < 1e-24


def test_a_network_that_is_not_told_y_moves_the_law_of_y_to_that_of_x():
    """InDI as published: F(x_t, t) = E[x | x_t] over all y. The results have the law of x; one measurement has one."""
    mild = 0.6 * torch.eye(N, dtype=F64) + 0.1 * MAP  # the flow to y folds nowhere
    to_y = torch.linalg.cholesky(mild @ PRIOR @ mild.T + NOISE)

    def blind(x: Tensor, time: Tensor, c: Condition | None) -> Tensor:
        t = float(time[0]) / 1000
        cross = (1 - t) * PRIOR + t * PRIOR @ mild.T
        mixed = (1 - t) * torch.eye(N, dtype=F64) + t * mild
        cov = mixed @ PRIOR @ mixed.T + t**2 * NOISE
        return MEAN + (x - MEAN @ mixed.T) @ torch.linalg.solve(cov, cross.T)

    y = torch.cat([to_y.T, torch.zeros(1, N, dtype=F64)]) + MEAN @ mild.T
    d = BlindBridgeDenoiser(blind, InDI())
    mean, cov = law(TrainedRestorer()(d, y, Noise(range(len(y))), steps=400))
    torch.testing.assert_close(mean, MEAN, rtol=0, atol=1e-9)
    assert float((cov - PRIOR).norm() / PRIOR.norm()) < 0.02
    again = TrainedRestorer()(d, Y, Noise([1, 2]), steps=4)
    assert torch.equal(again[0], again[1])


@pytest.mark.parametrize("process", [IRSDE(), ResShift(), I2SB(), InDI(0.3)], ids=lambda p: type(p).__name__)
def test_a_step_is_the_papers(process):
    """p(x_s | x_t, x = F, y), written out from each paper."""
    s, t = torch.tensor(0.4, dtype=F64), torch.tensor(0.7, dtype=F64)
    x_t, f, y = torch.randn(3, N, generator=DRAW, dtype=F64)
    if isinstance(process, ResShift):  # equation 7
        q = process.shift(s) / process.shift(t)
        mean, var = q * x_t + (1 - q) * f, process.kappa**2 * q * (process.shift(t) - process.shift(s))
    elif isinstance(process, I2SB):  # equation 4
        q = process.past(s) / process.past(t)
        mean, var = q * x_t + (1 - q) * f, process.past(s) * (process.past(t) - process.past(s)) / process.past(t)
    elif isinstance(process, InDI):  # equation 10
        mean, var = s / t * x_t + (1 - s / t) * f, torch.zeros((), dtype=F64)
    else:  # the optimal reverse state of IR-SDE, by the decay e^-h
        e_s, e_t = process.alpha(s), process.alpha(t)
        e = e_t / e_s
        mean = (1 - e_s**2) / (1 - e_t**2) * e * (x_t - y) + (1 - e**2) / (1 - e_t**2) * e_s * (f - y) + y
        var = process.level**2 * (1 - e_s**2) * (1 - e**2) / (1 - e_t**2)
    plan = BridgeSampler().plan(process, torch.stack([t, s]))
    (keep, noise, weight), shift = plan.rows[0], (process.shift(s), process.shift(t))
    torch.testing.assert_close(keep * (x_t - shift[1] * y) + weight * f + shift[0] * y, mean, rtol=0, atol=1e-12)
    assert noise**2 == pytest.approx(float(var), abs=1e-12)


def test_samplers_of_schedules_run_a_process():
    """With y known the rest is an ordinary diffusion: DDIM's ancestral step is IR-SDE's, and 0 is one flow for all."""
    d, noise = BridgeDenoiser(Best(IRSDE()), IRSDE()), Noise([3, 4])
    ours, ddim = (TrainedRestorer(sampler)(d, Y, noise, steps=9) for sampler in (BridgeSampler(), DDIM(1.0)))
    torch.testing.assert_close(ours, ddim, rtol=0, atol=1e-10)
    d = BridgeDenoiser(Best(ResShift()), ResShift())
    ours, ddim = (TrainedRestorer(sampler)(d, Y, noise, steps=9) for sampler in (BridgeSampler(0.0), DDIM()))
    torch.testing.assert_close(ours, ddim, rtol=0, atol=1e-10)
