"""The eight exact checks of arXiv 2509.15342's sheet, on a Gaussian signal of 16 pixels with spectrum 1 / (1 + k)^2.

With the exact linear denoiser a deterministic solver is a linear map of the normal numbers it starts from, so the
covariance of what a cascade makes is known without sampling: cov = M M^T, M the cascade of the identity. The sheet's
figures come from 20,000 samples, whose covariance has an error of its own, E|S - C|^2 = (tr(C)^2 + |C|^2) / 20000:
`seen` adds it to the exact figures before they are compared.
"""

from __future__ import annotations

import copy
import math
from functools import cache

import pytest
import torch
from torch import nn

from mezzotint.core import (
    VE,
    AveragePool,
    EDMDenoiser,
    Flow,
    LevelDenoisers,
    MultiResDenoiser,
    Noise,
    ResolutionPyramid,
    VDenoiser,
    karras,
    with_low,
)
from mezzotint.core.exact import PooledGaussian
from mezzotint.nn import DiT, MultiResNetwork, UNet
from mezzotint.objective import Batch, CascadeObjective
from mezzotint.sample import DDPM, CascadeSampler, Euler, Heun
from mezzotint.sample.cascade import level_noise
from mezzotint.train import DenoisingTask

D, N = torch.float64, 16
PYRAMID = ResolutionPyramid((8, 16), up="nearest", dims=1)


def eye(n: int) -> torch.Tensor:
    return torch.eye(n, dtype=D)[:, None]


def zeros(rows: int, n: int) -> torch.Tensor:
    return torch.zeros(rows, 1, n, dtype=D)


def circulant() -> torch.Tensor:
    k = torch.arange(N)
    power = 1 / (1 + torch.minimum(k, N - k).to(D)) ** 2
    row = torch.fft.ifft(power / power.mean() * 0.25).real
    return torch.stack([row.roll(i) for i in range(N)])


COV, VARIANCE = circulant(), VE()
FLOOR = float((COV.trace() ** 2 + COV.square().sum()).sqrt() / 20000**0.5 / COV.norm())
BED = PooledGaussian(COV, VARIANCE, PYRAMID, (1, N))


@cache
def level_0(steps: int, schedule: VE | Flow = VARIANCE) -> torch.Tensor:
    """The linear map of level 0, from its 8 normal numbers to the low signal (rows are images of the basis)."""
    return (
        CascadeSampler("heun", (steps, 1)).level(PooledGaussian(COV, schedule, PYRAMID, (1, N)), 0, eye(8)).flatten(1)
    )


@cache
def level_1(sampler: CascadeSampler, schedule: VE | Flow = VARIANCE) -> tuple[torch.Tensor, ...]:
    """The linear maps of level 1: of its own normal numbers, of the low signal, of the noise on it."""
    d = PooledGaussian(COV, schedule, PYRAMID, (1, N))
    eps = torch.cat([eye(N), zeros(16, N)])
    low, extra = torch.cat([zeros(N, 8), eye(8), zeros(8, 8)]), torch.cat([zeros(N + 8, 8), eye(8)])
    return sampler.level(d, 1, eps, low=low, extra=extra).flatten(1).split([N, 8, 8])


def cascade(low: int, high: int, smax: float | None = None, aug: float = 0.0) -> CascadeSampler:
    warm = {} if smax is None else {"smax": (80.0, smax), "start": "warm"}
    return CascadeSampler("heun", (low, high), aug=aug, **warm)


def error(cov: torch.Tensor) -> float:
    return float((cov - COV).norm() / COV.norm())


def seen(exact: float) -> float:
    """The relative error that 20,000 samples show."""
    return math.hypot(exact, FLOOR)


def cascade_error(
    low: int, high: int, smax: float | None = None, aug: float = 0.0, schedule: VE | Flow = VARIANCE
) -> float:
    first, (own, told, extra) = level_0(low, schedule), level_1(cascade(low, high, smax, aug), schedule)
    through = first @ told
    return error(own.T @ own + through.T @ through + extra.T @ extra)


@cache
def single_error(steps: int) -> float:
    one = PooledGaussian(COV, VE(), ResolutionPyramid((N,), dims=1), (1, N))
    made = CascadeSampler("heun", (steps,)).level(one, 0, eye(N)).flatten(1)
    return error(made.T @ made)


def test_1_the_level_below_tells_nine_tenths_of_the_variance():
    g, v = BED.conditional(1, torch.zeros(1, dtype=D))
    assert float(COV.trace()) == pytest.approx(4.0, abs=1e-12)
    assert float(v[0].trace()) == pytest.approx(0.383, abs=5e-4)
    assert float(torch.linalg.eigvalsh(v[0])[-1].sqrt()) == pytest.approx(0.28, abs=2e-3)
    a = AveragePool(2, 1)(eye(N)).flatten(1).T
    assert torch.allclose(g[0], COV @ a.T @ torch.linalg.inv(a @ COV @ a.T), atol=1e-12)
    assert torch.allclose(a @ g[0], torch.eye(8, dtype=D), atol=1e-10), "the mean given y must pool to y"


@pytest.mark.parametrize("smax", [None, 5.0])
def test_2_a_cascade_on_fine_grids_has_the_law_of_the_data(smax):
    assert cascade_error(200, 200, smax) < 0.006  # the sheet allows 0.03, for sampling noise that is not here


def test_2_noise_on_the_condition_changes_nothing_where_it_is_told():
    assert cascade_error(200, 60, aug=0.3) < 0.01
    d = PooledGaussian(COV, VE(), PYRAMID, (1, N))
    untold = d(zeros(1, N), torch.ones(1, dtype=D), with_low(None, eye(8)[:1]))
    told = d(zeros(1, N), torch.ones(1, dtype=D), with_low(None, eye(8)[:1], 0.3))
    assert float((untold.x0 - told.x0).norm()) > 0.05 * float(untold.x0.norm())


@pytest.mark.parametrize("smax", [None, 5.0])
def test_2_the_same_for_a_flow(smax):
    assert cascade_error(200, 60, smax, schedule=Flow()) < 0.01


def test_2_samples_are_those_maps_of_the_drawn_numbers():
    sampler, noise = cascade(6, 4, 3.0, aug=0.2), Noise(range(5))
    made = sampler(BED, (1, N), noise, dtype=D)
    first = noise("x_T", 0, (8,), dtype=D) @ level_0(6)  # level 0 draws from the plain seeds
    assert torch.allclose(made.previews[0].flatten(1), first, atol=1e-10)
    own, told, extra = level_1(sampler)
    drawn = level_noise(noise, 1)
    high = drawn("x_T", 0, (N,), dtype=D) @ own + first @ told + drawn("aug", 0, (8,), dtype=D) @ extra
    assert torch.allclose(made.x.flatten(1), high, atol=1e-10)


@pytest.mark.parametrize(
    ("low", "high", "smax", "sheet"),
    [(18, 9, None, 0.103), (18, 9, 5.0, 0.098), (18, 6, 2.0, 0.095), (10, 5, 2.0, 0.41)],
)
def test_3_step_economy_of_the_cascade(low, high, smax, sheet):
    """Within the fluctuation of the sheet's samples, about 0.01 along the few large eigenvalues."""
    assert seen(cascade_error(low, high, smax)) == pytest.approx(sheet, abs=0.015)


def test_3_step_economy_of_a_single_model():
    for steps, sheet in ((18, 0.078), (12, 0.24), (10, 0.36)):
        assert seen(single_error(steps)) == pytest.approx(sheet, abs=0.015)
    # 18 steps at half the side and 6 above cost 12 full ones in one dimension, and 10.5 in two
    assert cascade(18, 6).cost(PYRAMID) == 15.0 and cascade(18, 6).cost(ResolutionPyramid((8, 16))) == 10.5
    assert cascade_error(18, 6, 2.0) < 0.5 * single_error(12)


@pytest.mark.parametrize(
    ("smax", "fine", "coarse"),
    [(None, 0.014, 0.244), (5.0, 0.015, 0.050), (3.0, 0.017, 0.039), (2.0, 0.018, 0.031), (1.0, 0.026, 0.028),
     (0.5, 0.046, 0.046), (0.3, 0.071, 0.071)],
)  # fmt: skip
def test_4_warm_starts(smax, fine, coarse):
    """The sheet's 80 is a start from t = 1, cold."""
    assert seen(cascade_error(200, 200, smax)) == pytest.approx(fine, abs=0.003)
    assert seen(cascade_error(200, 6, smax)) == pytest.approx(coarse, abs=0.003)


@pytest.mark.parametrize("dims", [1, 2, 3])
def test_5_pooling_undoes_repetition_and_composes(dims, draw):
    y, x = draw(2, 3, *[4] * dims), draw(2, 3, *[8] * dims)
    pool = AveragePool(2, dims)
    assert torch.allclose(pool(pool.pinv(y)), y, atol=1e-15)
    assert torch.allclose(pool(pool(x)), AveragePool(4, dims)(x), atol=1e-14)
    assert float((pool(x) * y).sum()) == pytest.approx(float((x * pool.adjoint(y)).sum()), rel=1e-12)
    pyramid = ResolutionPyramid((4, 8), scales=(0.8, 1.1), up="nearest", dims=dims)
    lifted = pyramid.lift(y, 1)
    assert torch.allclose(pyramid.data(lifted, 1), pool.pinv(0.8 * y), atol=1e-14)


def test_5_scales_and_the_snr_rule():
    smooth = nn.functional.interpolate(Noise(range(800))("x", 0, (3, 4, 4)), scale_factor=4, mode="bilinear")
    x = smooth + 0.3 * Noise(range(800))("grain", 0, (3, 16, 16)) + 0.4
    pyramid = ResolutionPyramid.measured(x.split(100), (4, 8, 16))
    for level in range(3):
        assert float(pyramid.down(x, level).std()) == pytest.approx(0.5, abs=1e-4)
    assert pyramid.scales == tuple(sorted(pyramid.scales)), "pooling must take variance"
    n = Noise(range(400))("n", 0, (1, 16, 16))
    for level, factor in ((0, 0.25), (1, 0.5), (2, 1.0)):
        assert pyramid.noise_factor(level) == factor
        assert float(AveragePool(pyramid.factor(level))(n).std()) == pytest.approx(factor, rel=0.01)


BASES = {
    "unet": lambda: UNet(3, channels=16, mult=(1, 2, 2), blocks=1),
    "dit": lambda: DiT(3, patch=2, width=32, depth=2, heads=2, classes=4),
    "latent": lambda: UNet(4, channels=16, blocks=1, pooled=5, concat=2),
}


def filled(name: str) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        net = BASES[name]()
        for p in net.parameters():
            nn.init.normal_(p, std=0.2 if p.ndim == 1 else p[0].numel() ** -0.5)
    return net


def condition(net: nn.Module, side: int) -> dict[str, torch.Tensor]:
    reads, noise = net.reads, Noise(range(4))
    c = {"label": torch.arange(4)} if reads.classes else {}
    c |= {"pooled": noise("pooled", 0, (reads.pooled,))} if reads.pooled else {}
    return c | ({"concat": noise("concat", 0, (reads.concat, side, side))} if reads.concat else {})


@pytest.mark.parametrize("memory", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("name", BASES)
def test_6_the_highest_level_starts_as_the_backbone_bit_for_bit(name, memory):
    base = filled(name).to(memory_format=memory)
    channels, noise = base.config["in_channels"], Noise(range(4))
    x, low = (noise(word, 0, (channels, 16, 16)) for word in ("x", "low"))
    time, c = noise("time", 0, ()), condition(base, 16)
    before = base(x, time, c)
    net = MultiResNetwork(copy.deepcopy(base), (8, 16)).to(memory_format=memory)
    assert torch.equal(net(x, time, {**c, "low": low, "low_aug": torch.full((4,), 0.3)}), before)
    assert torch.equal(net(x, time, c), before)


@pytest.mark.parametrize("name", BASES)
def test_6_what_is_not_told_has_no_influence(name, alive, draw):
    plain = filled(name)
    channels, c = plain.config["in_channels"], {k: v.double() if v.is_floating_point() else v
                                                for k, v in condition(plain, 8).items()}  # fmt: skip
    net = alive(MultiResNetwork(plain, (8, 16)))
    x, low, time = draw(4, channels, 8, 8), draw(4, channels, 8, 8).requires_grad_(), draw(4)
    given = torch.tensor([0.0, 1.0, 0.0, 1.0], dtype=D)
    out = net(x, time, {**c, "low": low, "low_given": given, "low_aug": torch.full((4,), 0.2, dtype=D)})
    (gradient,) = torch.autograd.grad(out.square().sum(), low)
    assert float(gradient[[0, 2]].abs().max()) == 0.0 and float(gradient[[1, 3]].abs().min(0).values.max()) > 0
    nothing = net(x, time, c)
    assert torch.equal(out[[0, 2]], nothing[[0, 2]]) and not torch.allclose(out[1], nothing[1])
    nan = {**c, "low": torch.full_like(low, torch.nan), "low_given": torch.zeros(4, dtype=D)}
    assert torch.equal(net(x, time, nan), nothing)


class Counted(nn.Module):
    """A network that counts the pixels of its evaluations."""

    def __init__(self) -> None:
        super().__init__()
        self.pixels: list[tuple[int, int]] = []

    def forward(self, x, time, c=None):
        self.pixels.append((len(x), x.shape[2] * x.shape[3]))
        return 0.1 * x


@pytest.mark.parametrize("solver", [Heun(), DDPM()])
def test_7_a_single_level_is_the_plain_sampler_bit_for_bit(solver):
    net = filled("unet")
    d = MultiResDenoiser(EDMDenoiser(MultiResNetwork(copy.deepcopy(net), (16,)), VE()), ResolutionPyramid((16,)))
    noise = Noise([4, 9])
    level = float(VE().sigma(torch.ones((), dtype=D)))
    with torch.no_grad():
        plain = solver(EDMDenoiser(net, VE()), level * noise("x_T", 0, (3, 16, 16)), steps=3, grid=karras, noise=noise)
        made = CascadeSampler(solver, (3,))(d, (3, 16, 16), noise)
    assert torch.equal(made.x, plain) and len(made.previews) == 1


@pytest.mark.parametrize("guidance", [1.0, 1.3])
@pytest.mark.parametrize(("solver", "evaluations"), [(Euler(), (7, 3, 2)), (Heun(), (13, 5, 3))])
def test_7_the_cost_counter_equals_the_formula(solver, evaluations, guidance):
    net, pyramid = Counted(), ResolutionPyramid((4, 8, 16))
    sampler = CascadeSampler(solver, (7, 3, 2), guidance=guidance)
    made = sampler(MultiResDenoiser(EDMDenoiser(net, VE()), pyramid), (3, 16, 16), Noise([0, 1]))
    twice = (1, 1 if guidance == 1 else 2, 1 if guidance == 1 else 2)
    assert made.nfe == tuple(n * k for n, k in zip(evaluations, twice))
    assert [[p for _, p in net.pixels].count(side**2) for side in pyramid.levels] == list(evaluations)
    assert made.cost == 7 / 16 + 3 / 4 + 2
    used = sum(rows * pixels for rows, pixels in net.pixels) / (2 * 16**2)
    assert used == pytest.approx(sum(n / 4**k for n, k in zip(made.nfe, (2, 1, 0))), abs=1e-12)


def test_8_the_level_is_heard_after_training():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = MultiResNetwork(DiT(1, patch=2, width=32, depth=1, heads=2), (4, 8))
    x = nn.functional.interpolate(Noise(range(16))("x", 0, (1, 2, 2)), scale_factor=4, mode="bilinear")
    pyramid = ResolutionPyramid.measured([x], (4, 8))
    d = MultiResDenoiser(EDMDenoiser(net, VE()), pyramid)
    y, time = Noise(range(16))("y", 0, (1, 8, 8)), torch.zeros(16)
    ids = [torch.full((16,), i) for i in (0, 1)]
    assert torch.equal(net(y, time, {"level": ids[0]}), net(y, time, {"level": ids[1]}))
    task = DenoisingTask(d, CascadeObjective((0.5, 0.5)), lr=3e-3, ema=None)
    for step in range(40):
        task.step(Batch(x), step, Noise(range(16 * step, 16 * step + 16)))
    with torch.no_grad():
        low, high = (net(y, time, {"level": i}) for i in ids)
        quiet, loud = (net(y, time, {"low": y, "low_aug": torch.full((16,), s)}) for s in (0.0, 0.4))
    assert float((low - high).norm()) > 0.02 * float(high.norm())
    assert float((quiet - loud).norm()) > 0.02 * float(loud.norm())


def test_two_networks_and_one_run_alike():
    pyramid = ResolutionPyramid((8, 16), scales=(0.8, 1.0))
    d = MultiResDenoiser(VDenoiser(MultiResNetwork(filled("unet"), (8, 16)), Flow()), pyramid)
    sampler = CascadeSampler("euler", (2, 2), smax=(80.0, 1.0), start="warm")
    with torch.no_grad():
        one = sampler(d, (3, 16, 16), Noise([7, 8]))
        two = sampler(LevelDenoisers([d, d]), (3, 16, 16), Noise([7, 8]))
        alone = sampler(d, (3, 16, 16), Noise([8]))
    assert torch.equal(one.x, two.x)
    assert torch.allclose(one.x[1:], alone.x, atol=1e-4), "a sample must not depend on its batch"
