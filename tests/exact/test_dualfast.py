"""DualFast against identities: what it leaves alone, what it equals, what it tends to, and what it refuses."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from mezzotint.core import VP, Empirical, Flow, Gaussian, Noise, uniform_lambda
from mezzotint.core.denoiser import Denoiser
from mezzotint.core.schedule import Schedule
from mezzotint.sample import DDIM, DDPM, DPMSolverPP, DualFast, Heun, Node, Sampler
from mezzotint.sample.brownian import Brownian
from mezzotint.sample.dpm import DPMSolver
from mezzotint.sample.restart import Restart
from mezzotint.sample.rungekutta import RungeKutta
from mezzotint.sample.sde import SDEDPMSolverPP
from mezzotint.sample.singlestep import DPMSolverPPSingle
from mezzotint.sample.unipc import UniPC

BASES: dict[str, Sampler] = {
    "ddim": DDIM(),
    "2m": DPMSolverPP(order=2),
    "3m": DPMSolverPP(order=3),
    "2s": DPMSolverPPSingle(order=2),
    "3s": DPMSolverPPSingle(order=3),
    "noise 2m": DPMSolver(order=2),
    "heun": Heun(),
    "rk4": RungeKutta("rk4"),
    "unipc": UniPC(order=2),
    "2m sde": SDEDPMSolverPP(order=2),
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


@pytest.mark.parametrize("order", [1, 2])
def test_a_corrector_never_sees_it(order, beds):
    """UniPC, predictor and corrector apart: the corrected estimate enters the predictor's first-order term alone."""
    d, x_T = beds["mixture"].denoiser(VP()), start()
    grid = torch.linspace(1, 0.1, 8, dtype=torch.float64)
    got = DualFast(UniPC(order), c_max=0.5, shape="constant")(d, x_T, grid=grid)
    plain, unip = UniPC(order), UniPC(order, corrector=False)
    nodes = plain.plan(VP(), grid).nodes
    x, m, raw, predicted = x_T, [], [], x_T  # x: corrected
    for k in range(7):
        s, t = nodes[k], nodes[k + 1]
        m.insert(0, d(predicted, grid[k].expand(8)).x0)
        raw.append((predicted - s.alpha * m[0]) / s.sigma)
        if k:  # UniC: the step again, with the new prediction
            scale = s.sigma / nodes[k - 1].sigma
            x = scale * x + s.alpha * sum(w * v for w, v in zip(unip._predictor(nodes, k - 1), m[1:]))
            x = x + s.alpha * sum(w * v for w, v in zip(plain._correction(nodes, k), m))
        step = sum(w * v for w, v in zip(unip._predictor(nodes, k), m))
        first = 0.5 * plain.first_order(nodes, k) * s.ratio * (raw[-1] - raw[0])
        predicted = t.sigma / s.sigma * x + t.alpha * step - first
    assert (got - predicted).abs().max() < 1e-12
    assert torch.equal(DualFast(UniPC(order), c_max=0.0)(d, x_T, grid=grid), UniPC(order)(d, x_T, grid=grid))


def test_inside_restart_and_on_a_path(beds):
    d, x_T = beds["mixture"].denoiser(VP()), start()
    turns = Restart(DualFast(DDIM(), c_max=0.3))
    assert not torch.equal(turns(d, x_T, steps=6, noise=SEEDS), Restart(DDIM())(d, x_T, steps=6, noise=SEEDS))
    assert torch.equal(
        Restart(DualFast(DDIM(), c_max=0.0))(d, x_T, steps=6, noise=SEEDS),
        Restart(DDIM())(d, x_T, steps=6, noise=SEEDS),
    )
    with_it, inside = Brownian(DualFast(DDPM(), c_max=0.3)), DualFast(Brownian(DDPM()), c_max=0.3)
    assert torch.equal(with_it(d, x_T, steps=6, noise=SEEDS), inside(d, x_T, steps=6, noise=SEEDS))


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
