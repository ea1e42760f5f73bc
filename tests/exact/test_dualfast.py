"""DualFast against identities: what it leaves alone, what it equals, what it tends to, and what it refuses."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from mezzotint.core import VP, Condition, Empirical, Flow, Gaussian, GaussianMixture, Noise, uniform_lambda
from mezzotint.core.denoiser import Denoiser
from mezzotint.core.schedule import Schedule
from mezzotint.guide import CFG, DynamicThreshold, Interval
from mezzotint.sample import DDIM, DDPM, Churn, DPMSolverPP, DualFast, Heun, Node, Sampler, State, calibrate_c
from mezzotint.sample.dpm import DPMSolver
from mezzotint.sample.singlestep import DPMSolverPPSingle

BASES: dict[str, Sampler] = {
    "ddim": DDIM(),
    "2m": DPMSolverPP(order=2),
    "3m": DPMSolverPP(order=3),
    "2s": DPMSolverPPSingle(order=2),
    "3s": DPMSolverPPSingle(order=3),
    "noise 2m": DPMSolver(order=2),
    "heun": Heun(),
    "sde": DDIM(eta=0.7),
    "ddpm": DDPM(),
}
SEEDS = Noise(range(8))
VP_ = VP()
TAUS = ("first", "prev", 2)


def start(shape: Sequence[int] = (1,), schedule: Schedule = VP_) -> Tensor:
    return float(schedule.sigma(torch.ones(()))) * SEEDS("x_T", 0, shape, dtype=torch.float64)


def halved(nodes: Sequence[Node], k: int) -> float:
    """h / (2 h_prev): the weight of a second-order extrapolation."""
    return (nodes[k + 1].lam - nodes[k].lam) / (2 * (nodes[k].lam - nodes[k - 1].lam))


class Spy(Denoiser):
    def __init__(self, denoiser: Denoiser) -> None:
        super().__init__(denoiser.schedule)
        self.denoiser, self.said = denoiser, []

    def forward(self, x_t, t, c=None):
        p = self.denoiser(x_t, t, c)
        self.said.append(p)
        return p


@pytest.mark.parametrize("name", BASES)
def test_no_correction_is_the_base_bit_for_bit(name, beds):
    d, x_T = beds["mixture"].denoiser(VP()), start()
    plain = BASES[name](d, x_T, steps=6, noise=SEEDS)
    for tau in TAUS:
        assert torch.equal(DualFast(BASES[name], c_max=0.0, tau=tau)(d, x_T, steps=6, noise=SEEDS), plain)
    assert not torch.equal(DualFast(BASES[name], c_max=0.3)(d, x_T, steps=6, noise=SEEDS), plain)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_step_before_as_reference_is_the_second_order_solver_of_noise_form(seed, beds):
    lam = torch.cumsum(1 + Noise([seed]).uniform("lengths", 0, (15,), dtype=torch.float64)[0], 0)  # ratios below 2
    lam = -4.5 + 8 * (lam - lam[0]) / (lam[-1] - lam[0])
    grid, d, x_T = VP().t_of(lam), beds["mixture"].denoiser(VP()), start()
    second = DPMSolver(order=2, lower_order_final=False)(d, x_T, grid=grid)
    extrapolated = DualFast(DDIM(), c_max=1.0, tau="prev", shape=halved)(d, x_T, grid=grid)
    assert (extrapolated - second).abs().max() < 1e-12
    assert (DDIM()(d, x_T, grid=grid) - second).abs().max() > 1e-3


@pytest.mark.parametrize("name", [name for name, base in BASES.items() if not base.stochastic])
def test_one_point_needs_no_correction(name):
    """eps is constant along the exact solution, so eps - eps_tau is zero (with noise drawn it is not)."""
    point = torch.tensor([[0.7, -0.2]], dtype=torch.float64)
    d, x_T, grid = Empirical(point).denoiser(VP()), start((2,)), torch.linspace(1, 0.05, 8, dtype=torch.float64)
    one, t = torch.ones((), dtype=torch.float64), torch.tensor(0.05, dtype=torch.float64)
    eps = (x_T - VP().alpha(one) * point) / VP().sigma(one)
    exact = VP().alpha(t) * point + VP().sigma(t) * eps
    for tau in TAUS:
        got = DualFast(BASES[name], c_max=0.5, tau=tau, shape="constant")(d, x_T, grid=grid)
        assert (got - exact).abs().max() < 1e-12


@pytest.mark.parametrize("tau", TAUS)
@pytest.mark.parametrize("schedule", [VP(), Flow()], ids=["vp", "flow from alpha = 0"])
def test_data_form_is_noise_form(tau, schedule, beds):
    """DDIM written in eps, with eps_new in place of eps; the wrapper works on data predictions."""
    d, x = beds["mixture"].denoiser(schedule), start(schedule=schedule)
    grid = torch.linspace(1, 0.02, 9, dtype=torch.float64)
    got = DualFast(DDIM(), c_max=0.4, tau=tau, power=2.0)(d, x, grid=grid)
    alpha, sigma = schedule.alpha(grid), schedule.sigma(grid)
    raw: list[Tensor] = []
    for k in range(8):
        eps = (x - alpha[k] * d(x, grid[k].expand(len(x))).x0) / sigma[k]
        back = {"first": 0, "prev": k - 1, 2: max(k - 2, 0)}[tau]
        new = eps + 0.4 * (k / 7) ** 2 * (eps - (raw[back] if raw else eps))
        raw.append(eps)
        if alpha[k] == 0:
            x0 = d(x, grid[k].expand(len(x))).x0
        else:
            x0 = (x - sigma[k] * new) / alpha[k]
        x = alpha[k + 1] * x0 + sigma[k + 1] * new
    assert (got - x).abs().max() < 1e-12


@pytest.mark.parametrize("steps", [200, pytest.param(400, marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    ("tau", "sheet", "ratio", "within"),
    [("prev", {200: 1.36e-3, 400: 6.8e-4}, 2.0, 0.1), ("first", {200: 0.0508, 400: 0.0509}, 1.0, 0.01)],
)
def test_what_is_left_of_it_with_many_steps(tau, sheet, ratio, within, steps, beds):
    """The sheet of arXiv 2506.13058, section 6, check 5; other draws than the sheet's, hence 15 % on its figures."""
    d = beds["mixture"].denoiser(VP())
    x_T = float(VP().sigma(torch.ones(()))) * Noise(range(256))("x_T", 0, (1,), dtype=torch.float64)

    def apart(steps: int) -> float:
        grid = torch.linspace(1, 0.01, steps + 1, dtype=torch.float64)
        with_it, without = (DualFast(DDIM(), c_max=c, tau=tau, shape="constant")(d, x_T, grid=grid) for c in (0.1, 0.0))
        return float((with_it - without).square().mean().sqrt())

    coarse, fine = apart(steps), apart(2 * steps)
    assert abs(coarse / sheet[steps] - 1) < 0.15
    assert abs(coarse / fine - ratio) < within


@pytest.mark.parametrize("base", [DDIM(), DPMSolverPP(order=2)], ids=["ddim", "2m"])
def test_the_limit_of_a_fixed_reference_solves_the_modified_equation(base):
    """dy/ds = (1 + c) s y / (S^2 + s^2) - c eps_0 in y = x / alpha, s = sigma / alpha: linear, so by quadrature."""
    c, spread = 0.2, 0.6
    d, x_T = Gaussian(torch.zeros(1), std=spread).denoiser(VP()), start()
    w = DualFast(base, c_max=c, shape="constant")
    coarse, fine = (w(d, x_T, grid=uniform_lambda(VP(), n, t_end=0.01, to_zero=False)) for n in (250, 500))
    grid = uniform_lambda(VP(), 500, t_end=0.01, to_zero=False)
    got = 2 * fine - coarse  # the error of first order extrapolated away
    ends = grid[[0, -1]]
    alpha, s = VP().alpha(ends), VP().sigma(ends) / VP().alpha(ends)
    y = x_T / alpha[0]
    eps_0 = s[0] * y / (spread**2 + s[0] ** 2)
    power = (1 + c) / 2
    level = torch.linspace(float(s[0].log()), float(s[1].log()), 20001, dtype=torch.float64).exp()
    area = torch.trapezoid((spread**2 + level**2) ** -power, level)
    y_end = (spread**2 + s[1] ** 2) ** power * (y * (spread**2 + s[0] ** 2) ** -power - c * eps_0 * area)
    assert ((got - alpha[1] * y_end).norm() / got.norm()) < 1e-3
    assert ((base(d, x_T, grid=grid) - alpha[1] * y_end).norm() / got.norm()) > 0.02


@pytest.mark.parametrize("name", BASES)
def test_evaluations_and_history_are_the_base_s(name, beds):
    sampler, spy = DualFast(BASES[name], c_max=0.3), Spy(beds["mixture"].denoiser(VP()))
    for state in sampler.trajectory(spy, start(), steps=7, noise=SEEDS):
        for age, kept in enumerate(state.history):
            raw = spy.said[-1 - age]  # one evaluation a step wherever there is a history
            noise_part = torch.sub(raw.x_t, raw.x0, alpha=float(raw.alpha[0]))
            assert torch.equal(kept, raw.x0) or torch.allclose(kept, noise_part, rtol=0, atol=1e-12)
    assert len(spy.said) == sampler.nfe(7) == BASES[name].nfe(7)
    assert sampler.stochastic == BASES[name].stochastic


@pytest.mark.parametrize("base", [DDIM(eta=0.7), DDPM(), DDIM(eta=1.0)], ids=["eta", "ddpm", "eta 1"])
def test_noise_is_unchanged_and_the_mean_moves_with_its_own_weight(base, beds):
    d, x, w = beds["mixture"].denoiser(VP()), start(), DualFast(base, c_max=0.5, shape="constant")
    grid = torch.linspace(1, 0.1, 4, dtype=torch.float64)
    got = w(d, x, grid=grid, noise=SEEDS)
    plan, raw = base.plan(VP(), grid), []
    for k in range(3):
        weight, spread, of_m = plan.rows[k]
        s = plan.nodes[k]
        m = d(x, grid[k].expand(len(x))).x0
        raw.append((x - s.alpha * m) / s.sigma)
        m = m - 0.5 * s.ratio * (raw[-1] - raw[0])
        x = weight * x + of_m * m + spread * SEEDS("step", k, (1,), dtype=torch.float64)
    assert (got - x).abs().max() < 1e-12


def test_ddim_of_eta_one_and_ddpm_state_one_weight(beds):
    nodes = DDPM().plan(VP(), torch.linspace(1, 0, 5, dtype=torch.float64)).nodes
    for k in range(4):
        assert math.isclose(DDPM().first_order(nodes, k), DDIM(eta=1.0).first_order(nodes, k), rel_tol=1e-12)
    assert DDIM().first_order(nodes, 3) == Heun().first_order(nodes, 3) == 1.0


def test_the_last_step_to_zero_returns_the_corrected_estimate(beds):
    spy, x_T = Spy(beds["mixture"].denoiser(VP())), start()
    got = DualFast(DPMSolverPP(order=2), c_max=0.3)(spy, x_T, steps=5)
    first, last = spy.said[0], spy.said[-1]
    corrected = last.x0 - 0.3 * last.sigma / last.alpha * (last.eps - first.eps)
    assert (got - corrected).abs().max() < 1e-12


@pytest.mark.parametrize("base", [DDIM(), DPMSolverPP(order=2), DPMSolverPPSingle(order=2)], ids=["ddim", "2m", "2s"])
def test_a_sample_alone_and_in_a_batch(base, beds):
    d, x_T = beds["gaussian"].denoiser(VP()), start((3,))
    together = DualFast(base, tau="prev")(d, x_T, steps=5)
    for i in range(3):
        assert torch.equal(DualFast(base, tau="prev")(d, x_T[i : i + 1], steps=5), together[i : i + 1])


def test_gradients_flow(beds):
    d, w = beds["mixture"].denoiser(VP()), DualFast(DPMSolverPP(order=2), c_max=0.3)
    x_T = start()[:2].requires_grad_()
    w(d, x_T, steps=5).sum().backward()
    step = 1e-6
    rises = [w(d, x_T.detach() + sign * step, steps=5) for sign in (1, -1)]
    assert torch.allclose(x_T.grad, (rises[0] - rises[1]) / (2 * step), rtol=1e-6)


# guidance


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


# what it says of itself, and refuses


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
    ],
)
def test_refusals(options, message, unchecked):
    with pytest.raises(ValueError, match=message):
        DualFast(**{"base": DDIM(), **options})


def test_refusals_of_a_run(beds):
    d, x_T = Spy(beds["mixture"].denoiser(VP())), start()
    with pytest.raises(ValueError, match="outside \\[0, 1\\]"):
        DualFast(DDIM(), shape=lambda nodes, k: 20.0)(d, x_T, steps=4)
    with pytest.raises(ValueError, match="without churn"):
        DualFast(Heun(churn=Churn(20.0)))(d, x_T, steps=4, noise=SEEDS)
    with pytest.raises(ValueError, match="must be noisier"):
        DualFast(DDIM()).plan(VP(), torch.linspace(0.01, 1, 5, dtype=torch.float64))
    assert not d.said


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
