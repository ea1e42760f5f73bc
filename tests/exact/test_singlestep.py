"""Single-step solvers, in data and in noise form: orders, budgets, formulas of the papers, identities."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor

from mezzotint.core import (
    VE,
    VP,
    Condition,
    Cosine,
    Denoiser,
    Discrete,
    Flow,
    GaussianMixture,
    Noise,
    Prediction,
    Shifted,
    karras,
    uniform_lambda,
    uniform_t,
)
from mezzotint.core.schedule import Schedule
from mezzotint.sample import DDIM, DPMSolverPPSingle, DPMSolverSingle, Sampler, nodes_of
from mezzotint.sample.singlestep import orders_of

F64 = torch.float64
SCHEDULES: dict[str, Schedule] = {
    "vp": VP(),
    "cosine": Cosine(),
    "ve": VE(),
    "flow": Flow(),
    "discrete": Discrete.linear(),
}
FORMS = ("midpoint", "taylor")
SOLVERS: dict[str, DPMSolverPPSingle | DPMSolverSingle] = {
    f"{kind.__name__} {order} {form}": kind(order, form)
    for kind in (DPMSolverPPSingle, DPMSolverSingle)
    for order in (2, 3)
    for form in FORMS
}
DAILY = ("DPMSolverPPSingle 3 midpoint", "DPMSolverSingle 2 midpoint")
# The sheet of arXiv 2211.01095, section 6: root mean square errors at 80, 160 and 320 whole steps.
SHEET = {2: (5.1e-4, 1.3e-4, 3.2e-5), 3: (2.1e-6, 2.6e-7, 3.3e-8)}
MIXTURE = GaussianMixture(torch.tensor([[-0.8, 0.3, 0.1], [0.6, -0.2, 0.5]]), torch.tensor([0.2, 0.3]))


class Known(Denoiser):
    """D = a + b lambda + c lambda^2, whatever x."""

    def __init__(self, schedule: Schedule, a: float, b: float = 0.0, c: float = 0.0) -> None:
        super().__init__(schedule)
        self.parts = a, b, c

    def forward(self, x_t: Tensor, t: Tensor, c: Condition | None = None) -> Prediction:
        a, b, q = self.parts
        lam = self.schedule.half_log_snr(t)[:, None] if b or q else torch.zeros(())
        return Prediction.from_x0(torch.zeros_like(x_t) + a + b * lam + q * lam**2, x_t, t, self.schedule)


def at(schedule: Schedule, t: float) -> tuple[float, float]:
    node = nodes_of(schedule, torch.tensor([t], dtype=F64))[0]
    return node.alpha, node.sigma


def start(schedule: Schedule, batch: int, size: int = 3) -> Tensor:
    return at(schedule, 1.0)[1] * Noise(range(batch))("x_T", 0, (size,), dtype=F64)


@pytest.mark.parametrize(
    ("name", "on"),
    [(name, "mixture") for name in SOLVERS]
    # the Gaussian multiplies by its matrices row by row: two solvers on it in every run
    + [pytest.param(n, "gaussian", marks=() if n in DAILY else pytest.mark.slow) for n in SOLVERS],
)
def test_order_on_vp(name: str, on: str, rmse) -> None:
    p = SOLVERS[name].order
    coarse, fine = (rmse(SOLVERS[name], on, VP(), n * p) for n in (60, 120))
    assert abs(math.log2(coarse / fine) - p) < 0.15, (coarse, fine)


@pytest.mark.parametrize("kind", [DPMSolverPPSingle, DPMSolverSingle])
@pytest.mark.parametrize(
    ("order", "schedule"),
    [(3, VE(0.02, 20.0)), (2, Discrete.linear()), pytest.param(3, Discrete.linear(), marks=pytest.mark.slow)],
    ids=["3 on ve", "2 on discrete", "3 on discrete"],
)
def test_order_on_other_schedules(kind: Any, order: int, schedule: Schedule, rmse) -> None:
    """Also where little noise at the start does not hide a first-order step."""
    coarse, fine = (rmse(kind(order), "mixture", schedule, n * order) for n in (60, 120))
    assert abs(math.log2(coarse / fine) - order) < 0.15, (coarse, fine)


@pytest.mark.parametrize("kind", [DPMSolverPPSingle, DPMSolverSingle])
@pytest.mark.parametrize("schedule", [Flow(), Shifted(Cosine(), 2.0)], ids=["flow", "shifted cosine"])
def test_order_two_from_alpha_zero(kind: Any, schedule: Schedule, rmse) -> None:
    """Uniform t from alpha = 0: the infinite first step of one evaluation does not cost order 2."""
    coarse, fine = (rmse(kind(2), "mixture", schedule, n, uniform="t") for n in (160, 320))
    assert abs(math.log2(coarse / fine) - 2) < 0.15, (coarse, fine)


@pytest.mark.parametrize("rest", [0, 1, 2])
def test_every_budget_keeps_the_order(rest: int, rmse) -> None:
    """By the default's cut, with a remainder of 0, 1 or 2."""
    few, many = 90 + rest, 180 + rest
    coarse, fine = (rmse(DPMSolverPPSingle(3), "mixture", VP(), n) for n in (few, many))
    assert abs(math.log(coarse / fine) / math.log(many / few) - 3) < 0.15


@pytest.mark.slow
def test_the_paper_s_cut_costs_an_order(rmse) -> None:
    """It ends with a step of order 1 (unless K = 3 n + 2): fine for few steps, of second order for many."""
    coarse, fine = (rmse(DPMSolverPPSingle(3, lower_order_final=True), "mixture", VP(), n) for n in (480, 960))
    assert abs(math.log2(coarse / fine) - 2) < 0.15


@pytest.mark.parametrize("steps", [80, 160, pytest.param(320, marks=pytest.mark.slow)])
@pytest.mark.parametrize("order", SHEET)
def test_errors_of_the_sheet(order: int, steps: int, rmse) -> None:
    """Other draws than the sheet's, hence a factor of 1.5 either way."""
    expected = SHEET[order][(80, 160, 320).index(steps)]
    assert expected / 1.5 < rmse(DPMSolverPPSingle(order), "mixture", VP(), steps * order) < expected * 1.5


def test_the_cut_of_the_papers() -> None:
    """arXiv 2206.00927, section 3.4; what the default does from 10 evaluations on; a last step to zero."""
    for k in range(1, 31):
        whole, rest = divmod(k, 3)
        paper = {0: (3,) * (whole - 1) + (2, 1), 1: (3,) * whole + (1,), 2: (3,) * whole + (2,)}[rest]
        assert orders_of(k, 3, True) == paper
        assert orders_of(k, 2, True) == orders_of(k, 2, False) == (2,) * (k // 2) + (1,) * (k % 2)
        assert orders_of(k, 3) == orders_of(k, 3, k < 10)
        for order in (1, 2, 3):
            for first in (True, False):
                for last in (True, False):
                    cut = orders_of(k, order, False, first, last)
                    assert sum(cut) == k and max(cut) <= order and (last or cut[-1] == 1)
        # ending at zero the paper's cut ends with 1 already where it can
        if rest != 2:
            assert orders_of(k, 3, last=False) == paper
    assert orders_of(12, 3, False) == (3, 3, 3, 3) and orders_of(13, 3, False) == (3, 3, 3, 2, 2)
    assert orders_of(11, 3, 12) == (3, 3, 3, 2) and orders_of(12, 3, 13) == (3, 3, 3, 2, 1)
    assert orders_of(9, 3, last=False, first=False) == (2, 3, 3, 1) and orders_of(2, 3, last=False) == (1, 1)


class Counting(Denoiser):
    def __init__(self, inner: Denoiser) -> None:
        super().__init__(inner.schedule)
        self.inner, self.times = inner, []

    def forward(self, x_t: Tensor, t: Tensor, c: Condition | None = None) -> Prediction:
        self.times.append(float(t[0]))
        return self.inner(x_t, t, c)


@pytest.mark.parametrize("schedule", [VP(), Flow()], ids=["vp", "flow"])
@pytest.mark.parametrize("order", [1, 2, 3])
@pytest.mark.parametrize("kind", [DPMSolverPPSingle, DPMSolverSingle])
def test_steps_are_evaluations(kind: Any, order: int, schedule: Schedule) -> None:
    x, sampler = start(schedule, 1, 1), kind(order)
    for steps in range(1, 31):
        grid = uniform_t(schedule, steps)
        d = Counting(Known(schedule, 0.3))
        sampler(d, x, grid=grid)
        plan = sampler.plan(schedule, grid)
        assert len(d.times) == plan.nfe == sampler.nfe(steps) == steps
        assert d.times == [t for call in plan.calls for t in call]
        # from alpha = 0 order 3 looks at the end of its first step, and the second starts there
        again = int(isinstance(schedule, Flow) and order == 3 and steps >= 3)
        assert sum(after >= t for t, after in pairwise(d.times)) == again
        assert sampler.plan(schedule, torch.linspace(1, 0.1, steps + 1, dtype=F64)).nfe == steps


def test_inner_nodes_are_parts_of_the_step_in_lambda() -> None:
    schedule = VP()
    plan = DPMSolverPPSingle(3).plan(schedule, uniform_t(schedule, 20))
    for s, t, call in zip(plan.nodes, plan.nodes[1:], plan.calls):
        lam = schedule.half_log_snr(torch.tensor(call, dtype=F64))
        expected = [s.lam + i / len(call) * (t.lam - s.lam) if i else s.lam for i in range(len(call))]
        torch.testing.assert_close(lam, torch.tensor(expected, dtype=F64), rtol=1e-10, atol=1e-10)
    grid = uniform_t(schedule, 20).tolist()
    ends = torch.tensor([0, *(len(c) for c in plan.calls)]).cumsum(0).tolist()
    assert [n.t for n in plan.nodes] == [grid[i] for i in ends]


def by_hand(name: str, s: float, t: float, d: Denoiser, x: Tensor) -> Tensor:
    """One step as the papers write it, 2S and 3S, with no common code."""
    schedule, (_, order, form) = d.schedule, name.split()
    lam_s, lam_t = (float(schedule.half_log_snr(torch.tensor(v, dtype=F64))) for v in (s, t))
    h = lam_t - lam_s
    r = [0.5] if order == "2" else [1 / 3, 2 / 3]
    times = [s, *(float(schedule.t_of(torch.tensor(lam_s + q * h, dtype=F64))) for q in r), t]
    al, sg = zip(*(at(schedule, v) for v in times))
    data = name.startswith("DPMSolverPP")

    def f(x: Tensor, v: float) -> Tensor:
        p = d(x, torch.full((len(x),), v, dtype=F64))
        return p.x0 if data else p.eps

    def base(i: int) -> tuple[float, float, float]:
        """Weight of x, of the prediction, and phi_1 up to node i, which lies q h away."""
        q = (*r, 1.0)[i - 1]
        if data:
            return sg[i] / sg[0], al[i] * (1 - math.exp(-q * h)), al[i] * (1 - (1 - math.exp(-q * h)) / (q * h))
        return al[i] / al[0], -sg[i] * (math.exp(q * h) - 1), -sg[i] * ((math.exp(q * h) - 1) / (q * h) - 1)

    m0 = f(x, times[0])
    a, b, _ = base(1)
    m1 = f(a * x + b * m0, times[1])
    if order == "2":
        a, b, phi = base(2)
        slope = b / (2 * r[0]) if form == "midpoint" else phi / r[0]
        return a * x + b * m0 + slope * (m1 - m0)
    a, b, phi = base(2)
    m2 = f(a * x + b * m0 + r[1] / r[0] * phi * (m1 - m0), times[2])
    a, b, phi = base(3)
    if form == "midpoint":
        return a * x + b * m0 + phi / r[1] * (m2 - m0)
    e1, e2 = (m1 - m0) / r[0], (m2 - m0) / r[1]
    d1, d2 = (r[1] * e1 - r[0] * e2) / (r[1] - r[0]), 2 * (e2 - e1) / (r[1] - r[0])
    phi3 = al[3] * (0.5 - (phi / al[3]) / h) if data else -sg[3] * ((-phi / sg[3]) / h - 0.5)
    return a * x + b * m0 + phi * d1 + phi3 * d2


@pytest.mark.parametrize("schedule", [VP(), VE(), Flow()], ids=["vp", "ve", "flow"])
@pytest.mark.parametrize("name", SOLVERS)
def test_one_step_is_the_formula(name: str, schedule: Schedule) -> None:
    d, x = MIXTURE.denoiser(schedule), start(schedule, 4)
    sampler = replace(SOLVERS[name], lower_order_final=False)
    grid = torch.linspace(0.8, 0.3, sampler.order + 1, dtype=F64)
    expected = by_hand(name, 0.8, 0.3, d, x)
    torch.testing.assert_close(sampler(d, x, grid=grid), expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("grid", [uniform_t, uniform_lambda, karras])
@pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)
@pytest.mark.parametrize("name", SOLVERS)
def test_constant_denoiser(name: str, schedule: Schedule, grid: Any) -> None:
    """x_t = alpha_t c + (sigma_t / sigma_T)(x_T - alpha_T c), for every budget, at every node."""
    if grid is karras and isinstance(schedule, Discrete):
        grid = uniform_t
    x_T, const = start(schedule, 2), 0.37
    for steps in (1, 2, 7):
        times = grid(schedule, steps)
        nodes = SOLVERS[name].plan(schedule, times).nodes
        for state in SOLVERS[name].trajectory(Known(schedule, const), x_T, grid=times):
            node = nodes[state.k]
            expected = node.alpha * const + node.sigma / nodes[0].sigma * (x_T - nodes[0].alpha * const)
            torch.testing.assert_close(state.x, expected, rtol=1e-12, atol=1e-12)


def _antiderivative(lam: float, p: float, q: float, w: float) -> float:
    """Of e^l (p + q l + w l^2)."""
    return math.exp(lam) * (p + q * (lam - 1) + w * (lam**2 - 2 * lam + 2))


def test_taylor_is_exact_for_polynomial_predictions() -> None:
    """D = p + q lambda: 2S and 3S in Taylor form; D of second degree: 3S in Taylor form. From the first step."""
    schedule, x = VP(), torch.tensor([[0.3, -1.1]], dtype=F64)
    for order, parts in ((2, (0.4, -0.15, 0.0)), (3, (0.4, -0.15, 0.0)), (3, (0.4, -0.15, 0.05))):
        errors = []
        for form in ("taylor", "midpoint"):
            sampler = DPMSolverPPSingle(order, form, False)
            grid = torch.linspace(0.9, 0.05, order + 1, dtype=F64)
            s, t = sampler.plan(schedule, grid).nodes
            expected = t.sigma / s.sigma * x + t.sigma * (
                _antiderivative(t.lam, *parts) - _antiderivative(s.lam, *parts)
            )
            errors.append(float((sampler(Known(schedule, *parts), x, grid=grid) - expected).abs().max()))
        assert errors[0] < 1e-12
        if parts[2] or order == 2:  # at third order the midpoint form has degree 1 too
            assert errors[1] > 1e-4  # the test can fail


@pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)
def test_order_one_is_ddim(schedule: Schedule) -> None:
    d, x_T = MIXTURE.denoiser(schedule), start(schedule, 4)
    for sampler in (DPMSolverPPSingle(1), DPMSolverSingle(1), DPMSolverPPSingle(1, "taylor")):
        torch.testing.assert_close(sampler(d, x_T, steps=9), DDIM()(d, x_T, steps=9), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", SOLVERS)
def test_vp_and_ve_describe_one_process(name: str) -> None:
    """x / alpha on VP equals VE's run at the same sigma / alpha, node by node."""
    vp, ve = VP(), VE(0.002, 160.0)
    times = torch.linspace(0.98, 0.02, 12, dtype=F64)
    same, x = ve.t_of(vp.half_log_snr(times)), start(vp, 4)
    nodes = SOLVERS[name].plan(vp, times).nodes
    on_vp = SOLVERS[name].trajectory(MIXTURE.denoiser(vp), x, grid=times)
    on_ve = SOLVERS[name].trajectory(MIXTURE.denoiser(ve), x / nodes[0].alpha, grid=same)
    for left, right in zip(on_vp, on_ve, strict=True):
        torch.testing.assert_close(left.x / nodes[left.k].alpha, right.x, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)
@pytest.mark.parametrize("name", SOLVERS)
def test_last_step_to_sigma_zero_is_the_prediction(name: str, schedule: Schedule) -> None:
    for steps in (1, 2, 12):
        *_, last = SOLVERS[name].trajectory(MIXTURE.denoiser(schedule), start(schedule, 4), steps=steps)
        assert last.x0 is not None and bool(torch.isfinite(last.x).all())
        assert torch.equal(last.x, last.x0)


@pytest.mark.parametrize("name", SOLVERS)
@pytest.mark.parametrize("dtype", [torch.float32, F64], ids=["float32", "float64"])
def test_a_sample_is_the_same_alone_and_in_a_batch(name: str, dtype: torch.dtype) -> None:
    d, x_T = MIXTURE.denoiser(VP()), start(VP(), 64).to(dtype)
    together = SOLVERS[name](d, x_T, steps=7)
    for i in (0, 1, 17, 62, 63):
        assert torch.equal(SOLVERS[name](d, x_T[i : i + 1].clone(), steps=7), together[i : i + 1])


@pytest.mark.parametrize("schedule", [VP(), Flow()], ids=["vp", "flow"])
@pytest.mark.parametrize("name", SOLVERS)
def test_gradients_flow(name: str, schedule: Schedule) -> None:
    d, x_T = MIXTURE.denoiser(schedule), start(schedule, 2).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: SOLVERS[name](d, x, steps=6), x_T, atol=1e-6)


@pytest.mark.parametrize("kind", [DPMSolverPPSingle, DPMSolverSingle])
@pytest.mark.parametrize(
    ("options", "message"),
    [({"order": 4}, "order=4"), ({"order": True}, "order=True"), ({"form": "heun"}, "form='heun'")]
    + [({"lower_order_final": v}, "lower_order_final") for v in (-1, "never", 2.5, None)],
)
def test_wrong_options(kind: type[Sampler], options: dict[str, Any], message: str, unchecked) -> None:
    with pytest.raises(ValueError, match=message):
        kind(**options)
