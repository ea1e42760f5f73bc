"""DualFast and its surroundings: guidance, thresholds, intervals, and what it says of itself and refuses."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from mezzotint.core import VP, Condition, GaussianMixture, Noise
from mezzotint.guide import CFG, DynamicThreshold, Interval
from mezzotint.sample import DDIM, Churn, DPMSolverPP, DualFast, Heun, Sampler, State, calibrate_c
from mezzotint.sample.adaptive import Adaptive
from mezzotint.sample.consistency import Consistency
from mezzotint.sample.dpmv3 import DPMSolverV3
from mezzotint.sample.ems import EMS
from mezzotint.sample.restart import Restart

SEEDS = Noise(range(8))


def start(shape: Sequence[int] = (1,)) -> Tensor:
    return float(VP().sigma(torch.ones(()))) * SEEDS("x_T", 0, shape, dtype=torch.float64)


def clusters() -> tuple[GaussianMixture, Condition]:
    means = torch.tensor([[-0.8, 0.1], [0.3, 0.7], [0.6, -0.6]])
    label = torch.tensor([0, 1, 2, 0, 1, 2, 0, 1])
    return GaussianMixture(means, torch.full((3,), 0.15)), Condition(
        {"label": label}, null={"label": torch.tensor([3])}
    )


def test_a_threshold_comes_after_the_correction():
    mixture, c = clusters()
    guided = CFG(4.0)(mixture.denoiser(VP()))
    limit, x_T = DynamicThreshold(q=0.9, limit=0.5), start((2,))
    got = DualFast(DDIM(), c_max=0.1)(limit(guided), x_T, steps=1 + 4, c=c)
    assert got.abs().max() <= 0.5
    # by hand: raw estimates are the reference, the threshold sees the corrected one
    grid, x, raw = torch.linspace(1, 0, 6, dtype=torch.float64), x_T, []
    plan = DDIM().plan(VP(), grid)
    for k in range(5):
        p = guided(x, grid[k].expand(8), c)
        raw.append(p.eps)
        new = p.x0 - 0.1 * k / 4 * plan.nodes[k].ratio * (raw[-1] - raw[0])
        x = plan.rows[k][0] * x + plan.rows[k][2] * limit._apply(new)
    assert (got - x).abs().max() < 1e-12
    unchanged = DualFast(DPMSolverPP(order=2), c_max=0.0)(limit(guided), x_T, steps=5, c=c)
    assert torch.equal(unchanged, DPMSolverPP(order=2)(limit(guided), x_T, steps=5, c=c))


def test_the_conditional_branch_alone():
    mixture, c = clusters()
    d, x_T, w = mixture.denoiser(VP()), start((2,)), 3.0
    got = DualFast(DDIM(), c_max=0.1, branch="condition")(CFG(w)(d), x_T, steps=5, c=c)
    grid, x, raw = torch.linspace(1, 0, 6, dtype=torch.float64), x_T, []
    plan = DDIM().plan(VP(), grid)
    for k in range(5):
        own, null = d(x, grid[k].expand(8), c), d(x, grid[k].expand(8), c.null())
        raw.append(own.eps)
        new = own.x0 - 0.1 * k / 4 * plan.nodes[k].ratio * (raw[-1] - raw[0])
        x = plan.rows[k][0] * x + plan.rows[k][2] * (null.x0 + w * (new - null.x0))
    assert (got - x).abs().max() < 1e-12
    one = [DualFast(DDIM(), branch=b)(CFG(1.0)(d), x_T, steps=5, c=c) for b in ("condition", "guided")]
    assert torch.equal(*one)
    with pytest.raises(ValueError, match="guided by CFG"):
        DualFast(DDIM(), branch="condition")(d, x_T, steps=5, c=c)


def test_the_reference_starts_anew_where_the_guidance_changes():
    mixture, c = clusters()
    guided = Interval(CFG(3.0), t_low=0.3, t_high=0.7)(mixture.denoiser(VP()))
    changes = []
    for state in DualFast(DDIM(), tau=3, c_max=0.3).trajectory(guided, start((2,)), steps=10, c=c):
        changes.append(len(state.raw))  # type: ignore[attr-defined]
    # evaluated at 1, .9, .8 | .7, ..., .3 | .2, .1
    assert changes == [1, 2, 3, 1, 2, 3, 3, 3, 1, 2]


def test_a_plain_state_starts_anew(beds):
    """As after adding noise: no earlier estimate is used."""
    d, w = beds["mixture"].denoiser(VP()), DualFast(DDIM(), c_max=0.5, shape="constant")
    plan = w.plan(VP(), torch.linspace(1, 0.1, 5, dtype=torch.float64))
    state = w.step(d, State(start()), 0, plan)
    base = DDIM().plan(VP(), torch.linspace(1, 0.1, 5, dtype=torch.float64))
    expected = DDIM().step(d, State(state.x), 1, base).x
    assert torch.equal(w.step(d, State(state.x, 1), 1, plan).x, expected)
    assert not torch.equal(w.step(d, state, 1, plan).x, expected)


def test_strong_guidance_and_a_large_c_are_warned_of():
    mixture, c = clusters()
    d, x_T = mixture.denoiser(VP()), start((2,))
    with pytest.warns(UserWarning, match="both raise contrast"):
        DualFast(DDIM(), c_max=0.3)(DynamicThreshold()(CFG(7.5)(d)), x_T, steps=2, c=c)
    with pytest.warns(UserWarning, match="w=7.5"):
        DualFast(DDIM(), c_max=0.3)(Interval(CFG(7.5), 0.2, 0.8)(d), x_T, steps=2, c=c)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(("w", "c_max"), [(3.0, 0.3), (7.5, 0.1)])
def test_neither_alone_is(w, c_max):
    mixture, c = clusters()
    DualFast(DDIM(), c_max=c_max)(CFG(w)(mixture.denoiser(VP())), start((2,)), steps=2, c=c)


def test_order_is_true():
    assert DualFast(DPMSolverPP(order=3), c_max=0.0).order == 3
    assert DualFast(DPMSolverPP(order=3), tau="prev").order == 1
    assert DualFast(DPMSolverPP(order=3)).order == 0
    assert (DualFast(DDIM()).c_max, DualFast(DDIM(), tau="prev").c_max, DualFast(DDIM(), tau=2).c_max) == (
        0.1,
        0.25,
        0.25,
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"c_max": -0.1}, "outside \\[0, 1\\].*typical 0.05"),
        ({"c_max": 1.5}, "outside \\[0, 1\\]"),
        ({"c_max": math.nan}, "outside \\[0, 1\\]"),
        ({"tau": 0}, "tau=0"),
        ({"tau": "last"}, "tau='last'"),
        ({"power": 0.0}, "power"),
        ({"shape": "sine"}, "shape='sine'"),
        ({"branch": "null"}, "branch='null'"),
        ({"base": DualFast(DDIM())}, "twice"),
        ({"base": Adaptive()}, "drives its runs"),
        ({"base": DPMSolverV3(EMS.fixed(VP(), (1,)))}, "prepares"),
        ({"base": Consistency()}, "no meaning"),
    ],
)
def test_refusals(options, message, unchecked):
    with pytest.raises(ValueError, match=message):
        DualFast(**{"base": DDIM(), **options})


def test_a_consistency_sampler_can_be_forced(beds):
    d, x_T = beds["mixture"].denoiser(VP()), start()
    forced = DualFast(Consistency(), c_max=0.0, force=True)(d, x_T, steps=3, noise=SEEDS)
    assert torch.equal(forced, Consistency()(d, x_T, steps=3, noise=SEEDS))


def test_refusals_of_a_run(beds):
    d, x_T = beds["mixture"].denoiser(VP()), start()
    d.forward = None  # type: ignore[assignment]  # nothing is evaluated
    with pytest.raises(ValueError, match="outside \\[0, 1\\]"):
        DualFast(DDIM(), shape=lambda nodes, k: 20.0)(d, x_T, steps=4)
    with pytest.raises(ValueError, match="without churn"):
        DualFast(Heun(churn=Churn(20.0)))(d, x_T, steps=4, noise=SEEDS)
    with pytest.raises(ValueError, match="must be noisier.*restart"):
        DualFast(Restart(DDIM()))(d, x_T, steps=6, noise=SEEDS)
    with pytest.raises(ValueError, match="must be noisier"):
        DualFast(DDIM()).plan(VP(), torch.linspace(0.01, 1, 5, dtype=torch.float64))


def test_shapes_of_c():
    grid = torch.linspace(1, 0, 6, dtype=torch.float64)

    def mixing(**options) -> list[float]:
        return [row[-1] for row in DualFast(DDIM(), c_max=0.5, **options).plan(VP(), grid).rows]

    assert mixing() == pytest.approx([0, 0.125, 0.25, 0.375, 0.5])
    assert mixing(power=2.0) == pytest.approx([0, 0.03125, 0.125, 0.28125, 0.5])
    assert mixing(shape="constant") == [0, 0.5, 0.5, 0.5, 0.5]
    clean = mixing(shape="clean")
    assert clean == pytest.approx([0, *(0.5 * (1 - VP().sigma(grid[1:5]))).tolist()]) and clean == sorted(clean)
    assert [row[-1] for row in DualFast(DDIM()).plan(VP(), grid[[0, -1]]).rows] == [0]


def test_calibration_takes_the_best_on_the_grid():
    asked: list[float] = []

    def score(sampler: Sampler) -> float:
        assert isinstance(sampler, DualFast)
        asked.append(sampler.c_max)
        return (sampler.c_max - 0.17) ** 2

    found = calibrate_c(DualFast(DPMSolverPP(order=2), tau="prev"), score)
    assert asked == [0.0, 0.05, 0.1, 0.15, 0.2, 0.3, 0.5]
    assert found.best == DualFast(DPMSolverPP(order=2), c_max=0.15, tau="prev")
    assert [c for c, _ in found.curve] == asked and "0.15" in str(found) and "best" in str(found)
    assert calibrate_c(DualFast(DDIM()), score, values=(0.3, 0.2)).best.c_max == 0.2
    with pytest.raises(ValueError, match="not finite"):
        calibrate_c(DualFast(DDIM()), lambda sampler: math.nan)
    with pytest.raises(ValueError, match="no value"):
        calibrate_c(DualFast(DDIM()), score, values=())
