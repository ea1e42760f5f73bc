"""The cascade sampler: refusals, seeds of the levels, guidance on the condition, solvers of any kind."""

from __future__ import annotations

import pytest
import torch

from mezzotint.core import (
    VE,
    VP,
    Condition,
    EDMDenoiser,
    Flow,
    Gaussian,
    MultiResDenoiser,
    Noise,
    ResolutionPyramid,
    uniform_t,
)
from mezzotint.core.exact import PooledGaussian
from mezzotint.guide import CFG
from mezzotint.nn import MultiResNetwork, UNet
from mezzotint.sample import DDPM, CascadeSampler, DPMSolverPP, Heun
from mezzotint.sample.cascade import level_noise

D = torch.float64
PYRAMID = ResolutionPyramid((2, 4), scales=(0.8, 1.1), dims=1)
COV = 0.2 * torch.eye(4, dtype=D) + 0.1
EXACT = PooledGaussian(COV, VE(), PYRAMID, (1, 4))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"steps": ()}, "whole number >= 1"),
        ({"steps": (4, 0)}, "whole number >= 1"),
        ({"steps": (4, 2), "smax": (80.0,)}, "1 values of smax"),
        ({"steps": (4, 2), "solver": (Heun(),)}, "1 solvers"),
        ({"steps": (4, 2), "solver": "huen"}, "unknown sampler"),
        ({"steps": (4, 2), "start": "tepid"}, "cold or warm"),
        ({"steps": (4, 2), "start": "warm"}, "needs smax"),
        ({"steps": (4, 2), "smax": (80.0, 0.0), "start": "warm"}, "> 0"),
        ({"steps": (4, 2), "aug": 0.7}, r"aug in \[0, 0.5\]"),
        ({"steps": (4, 2), "guidance": -1.0}, "guidance >= 0"),
    ],
)
def test_settings_are_checked_at_once(settings, words, unchecked):
    with pytest.raises(ValueError, match=words):
        CascadeSampler(**{"solver": "heun", **settings})


@pytest.mark.parametrize(
    ("sampler", "words"),
    [
        (CascadeSampler("heun", (4,)), r"trained for levels \[2, 4\]; the cascade has steps=\[4\]"),
        (CascadeSampler("heun", (4, 2), smax=(80.0, 80.0), start="warm"), "starts warm: lower it"),
        (CascadeSampler("heun", (4, 2), smax=(80.0, 3.0)), "pure noise, .* use start='warm'"),
        (CascadeSampler("heun", (4, 2), smax=(40.0, 3.0), start="warm"), "the lowest level has nothing"),
        (CascadeSampler("heun", (4, 2), smax=(200.0, 3.0), start="warm"), "nothing can start beyond"),
    ],
)
def test_combinations_that_bias_are_refused(sampler, words):
    with pytest.raises(ValueError, match=words):
        sampler(EXACT, (1, 4), Noise([0]))


def test_other_models_and_shapes_are_refused(unchecked):
    sampler = CascadeSampler("heun", (4, 2))
    with pytest.raises(ValueError, match="trained for one resolution"):
        sampler(Gaussian(torch.zeros(1, 4), std=1.0).denoiser(VP()), (1, 4), Noise([0]))
    for shape in ((1, 8), (4,), (1, 4, 4)):
        with pytest.raises(ValueError, match=r"no sample of levels \[2, 4\]"):
            sampler(EXACT, shape, Noise([0]))


@pytest.mark.parametrize("schedule", [VE(), Flow(), VP()])
def test_a_warm_start_is_the_enlarged_level_below_with_noise(schedule):
    d, seen = PooledGaussian(COV, schedule, PYRAMID, (1, 4)), []
    plain = d.forward
    d.forward = lambda x, t, c=None: (seen.append((x, t, c)), plain(x, t, c))[1]  # type: ignore[method-assign]
    noise = Noise([1, 2])
    made = CascadeSampler("euler", (3, 2), smax=(80.0, 2.0), start="warm", aug=0.3)
    if isinstance(schedule, VP):  # which ends at another level than 80
        made = CascadeSampler("euler", (3, 2), smax=(float(schedule.half_log_snr(torch.ones(())).neg().exp()), 2.0),
                              start="warm", aug=0.3)  # fmt: skip
    out = made(d, (1, 4), noise, dtype=D)
    x, t, c = seen[3]
    alpha, sigma = schedule.alpha(t[0]), schedule.sigma(t[0])
    assert float(sigma / alpha) == pytest.approx(2.0, rel=1e-6)
    low = out.previews[0] / PYRAMID.scales[0]
    drawn = level_noise(noise, 1)
    told = low + 0.3 * drawn("aug", 0, (1, 2), dtype=D)
    assert torch.allclose(c["low"], told) and c["low_aug"].tolist() == [0.3, 0.3]
    assert torch.allclose(x, alpha * PYRAMID.lift(told, 1) + sigma * drawn("x_T", 0, (1, 4), dtype=D))
    assert torch.equal(out.x, out.previews[-1])


def test_levels_draw_from_seeds_of_their_own():
    noise = Noise([5])
    assert level_noise(noise, 0) is noise
    a, b = level_noise(noise, 1)("x_T", 0, (9,)), level_noise(noise, 2)("x_T", 0, (9,))
    assert not torch.equal(a, noise("x_T", 0, (9,))) and not torch.equal(a, b)
    assert torch.equal(level_noise(Noise([3, 5]), 1)("x_T", 0, (9,))[1], a[0])


@pytest.mark.parametrize("solver", [Heun(), DPMSolverPP(), ("heun", "dpmpp-2m"), "unipc-2"])
def test_any_solver_serves_a_level(solver):
    """Fine grids give the law: the covariance of 2,000 samples within its own error of about 0.045."""
    sampler = CascadeSampler(solver, (50, 30), smax=(80.0, 4.0), start="warm", aug=0.1)
    x = sampler(EXACT, (1, 4), Noise(range(2000)), dtype=D).x.flatten(1) / PYRAMID.scales[1]
    want = EXACT.covs[1]
    assert float((x.T @ x / 2000 - want).norm() / want.norm()) < 0.09


def test_a_stochastic_solver_draws_from_its_levels_seeds():
    noise, sampler = Noise([3, 4]), CascadeSampler(DDPM(), (5, 3), aug=0.0)
    made = sampler(EXACT, (1, 4), noise, dtype=D)
    low = sampler.level(EXACT, 0, noise("x_T", 0, (1, 2), dtype=D), noise=noise)
    drawn = level_noise(noise, 1)
    assert torch.equal(1.1 * sampler.level(EXACT, 1, drawn("x_T", 0, (1, 4), dtype=D), low=low, noise=drawn), made.x)
    other = sampler.level(EXACT, 1, drawn("x_T", 0, (1, 4), dtype=D), low=low, noise=noise)
    assert not torch.allclose(other, made.x / 1.1)


def test_a_grid_of_ones_own_is_scaled_by_a_warm_start():
    times, schedule = [], Flow()
    d = PooledGaussian(COV, schedule, PYRAMID, (1, 4))
    plain = d.forward
    d.forward = lambda x, t, c=None: (times.append(float(t[0])), plain(x, t, c))[1]  # type: ignore[method-assign]
    CascadeSampler("euler", (2, 4), smax=(80.0, 1.0), start="warm", grid=uniform_t)(d, (1, 4), Noise([0]), dtype=D)
    assert times == pytest.approx([1.0, 0.5, 0.5, 0.375, 0.25, 0.125])


def test_guidance_on_the_condition_is_the_extrapolation():
    noise, base = Noise([1, 2, 3]), CascadeSampler("euler", (3, 1), aug=0.0)
    low = base.level(EXACT, 0, noise("x_T", 0, (1, 2), dtype=D))
    eps = noise("y", 0, (1, 4), dtype=D)

    def one_step(g: float) -> torch.Tensor:  # Euler's one step to 0 is the prediction itself
        return CascadeSampler("euler", (3, 1), aug=0.0, guidance=g).level(EXACT, 1, eps, low=low)

    without = base.level(EXACT, 1, eps)
    assert torch.allclose(one_step(1.7), without + 1.7 * (one_step(1.0) - without), atol=1e-10)
    assert torch.allclose(one_step(0.0), without, atol=1e-12) and not torch.allclose(one_step(1.0), without)


def test_guidance_on_the_label_and_on_the_condition_compose():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        net = MultiResNetwork(UNet(1, channels=8, blocks=1, classes=2), (4, 8))
        for p in net.parameters():
            torch.nn.init.normal_(p, std=0.1)
    d = MultiResDenoiser(EDMDenoiser(net, VE()), ResolutionPyramid((4, 8)))
    c = Condition({"label": torch.tensor([0, 1])}, {"label": torch.tensor([2])})
    heard = []
    with torch.no_grad():
        both, label, low = (
            CascadeSampler("euler", (2, 2), guidance=g)(
                CFG(w)(d), (1, 8, 8), Noise([0, 1]), c, on_step=lambda level, k, state: heard.append((level, k))
            ).x
            for g, w in ((1.4, 2.0), (1.0, 2.0), (1.4, 1.0))
        )
    assert heard[:4] == [(0, 0), (0, 1), (1, 0), (1, 1)]
    assert not torch.allclose(both, label) and not torch.allclose(both, low)
