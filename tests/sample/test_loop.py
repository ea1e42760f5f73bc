"""The loop: what it refuses, what it hands out, and that it neither reads back nor wastes kernels."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from mezzotint.core import (
    VP,
    Condition,
    Denoiser,
    EpsDenoiser,
    Flow,
    FlowDenoiser,
    Gaussian,
    Noise,
    Prediction,
    karras,
    uniform_lambda,
    uniform_t,
)
from mezzotint.guide import StaticThreshold
from mezzotint.sample import DDIM, DDPM, NAMED, Churn, DPMSolverPP, Euler, Heun, State, sampler_named
from mezzotint.sample.loop import _check_start

F64 = torch.float64
EXACT = Gaussian(torch.zeros(3, dtype=F64), std=0.5).denoiser(VP())
X = Noise([0, 1])("x_T", 0, (3,), dtype=F64)


class Null(Denoiser):
    """Predicts a tensor made beforehand: all that is counted beside it is the sampler's own work."""

    def __init__(self, x0: Tensor) -> None:
        super().__init__(VP())
        self.x0 = x0

    def forward(self, x_t: Tensor, t: Tensor, c: Condition | None = None) -> Prediction:
        return Prediction.from_x0(self.x0, x_t, t, self.schedule)


class Broken(Denoiser):
    """Finite except at one call."""

    def __init__(self, call: int, value: float) -> None:
        super().__init__(VP())
        self.left, self.value = call, value

    def forward(self, x_t: Tensor, t: Tensor, c: Condition | None = None) -> Prediction:
        p = EXACT(x_t, t)
        self.left -= 1
        if self.left == -1:
            bad = p.x0.clone()
            bad[1, 2] = self.value
            return p.with_x0(bad)
        return p


WRONG: dict[str, tuple[Any, str]] = {
    "no steps": (lambda: DDIM()(EXACT, X), "steps"),
    "zero steps": (lambda: DDIM()(EXACT, X, steps=0), "steps=0"),
    "steps against grid": (lambda: DDIM()(EXACT, X, steps=3, grid=torch.tensor([1.0, 0.5, 0.0])), "steps=3"),
    "rising grid": (lambda: DDIM()(EXACT, X, grid=torch.tensor([1.0, 0.2, 0.5])), "index 2"),
    "nodes that coincide": (
        lambda: DPMSolverPP()(EXACT, X, grid=torch.tensor([1.0, 0.5, 0.5 - 1e-9, 0.0], dtype=F64)),
        "log-SNR at index 2.*drop nodes",
    ),
    "integer start": (lambda: _check_start(torch.zeros(2, 3, dtype=torch.int64)), "floating"),
    "NaN start": (lambda: DDIM()(EXACT, torch.full((2, 3), torch.nan), steps=2), "NaN"),
    "infinite start": (lambda: DDIM()(EXACT, torch.full((2, 3), torch.inf), steps=2), "infinity"),
    "empty batch": (lambda: DDIM()(EXACT, torch.zeros(0, 3), steps=2), "empty"),
    "no noise": (lambda: DDPM()(EXACT, X, steps=2), "noise=Noise"),
    "noise for eta": (lambda: DDIM(eta=0.2)(EXACT, X, steps=2), "noise=Noise"),
    "noise for churn": (lambda: Heun(Churn(5.0))(EXACT, X, steps=2), "noise=Noise"),
    "too few seeds": (lambda: DDPM()(EXACT, X, steps=2, noise=Noise([0])), "1 seeds"),
    "condition rows": (lambda: DDIM()(EXACT, X, steps=2, c=Condition({"label": torch.zeros(3).long()})), "3 rows"),
    "eta": (lambda: DDIM(eta=1.5), "eta=1.5"),
    "order": (lambda: DPMSolverPP(order=4), "order=4"),
    "churn": (lambda: Churn(-1.0), "amount=-1"),
    "churn range": (lambda: Churn(1.0, low=2.0, high=1.0), "low=2"),
    "churn noise": (lambda: Churn(1.0, noise_scale=0.0), "noise_scale"),
    "name": (lambda: sampler_named("dpm"), "ddim, ddpm, euler, .*dpmpp-2m, .*dpmpp-3m"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_calls(name: str) -> None:
    call, message = WRONG[name]
    with pytest.raises(ValueError, match=message):
        call()


def test_a_network_is_not_a_denoiser() -> None:
    with pytest.raises((ValueError, TypeError), match="Denoiser"):
        DDIM()(torch.nn.Linear(3, 3), X, steps=2)  # type: ignore[arg-type]


def test_trajectory_checks_at_once() -> None:
    with pytest.raises(ValueError, match="steps=0"):
        DDIM().trajectory(EXACT, X, steps=0)


@pytest.mark.parametrize("value", [torch.nan, torch.inf], ids=["nan", "inf"])
@pytest.mark.parametrize(
    ("sampler", "call", "step"),
    [(DPMSolverPP(2), 0, 0), (DPMSolverPP(2), 3, 3), (DPMSolverPP(3), 5, 5), (Heun(), 4, 2), (Heun(), 5, 2)],
)
def test_non_finite_names_its_step(sampler: Any, call: int, step: int, value: float) -> None:
    with pytest.raises(FloatingPointError, match=f"x0 at step {step} of 6"):
        sampler(Broken(call, value), X, steps=6)


def test_precision() -> None:
    """float64 stays, half precision is solved in float32 and handed back as it came."""
    seen = []

    def look(k: int, state: Any) -> None:
        seen.append(state.x.dtype)

    for dtype, inside in ((F64, F64), (torch.float32, torch.float32), (torch.bfloat16, torch.float32)):
        seen.clear()
        assert DPMSolverPP(2)(EXACT, X.to(dtype), steps=3, on_step=look).dtype == dtype
        assert set(seen) == {inside}
    low = DPMSolverPP(2)(EXACT, X.to(torch.bfloat16), steps=6)
    high = DPMSolverPP(2)(EXACT, X.to(torch.bfloat16).to(F64), steps=6)
    torch.testing.assert_close(low, high.to(torch.bfloat16))


def test_on_step_and_trajectory_agree() -> None:
    calls: list[tuple[int, Tensor]] = []
    out = DPMSolverPP(3)(EXACT, X, steps=5, on_step=lambda k, s: calls.append((k, s.x)))
    states = list(DPMSolverPP(3).trajectory(EXACT, X, steps=5))
    assert [k for k, _ in calls] == [0, 1, 2, 3, 4] and [s.k for s in states] == [1, 2, 3, 4, 5]
    assert all(torch.equal(x, s.x) for (_, x), s in zip(calls, states, strict=True))
    assert torch.equal(out, states[-1].x)
    assert [len(s.history) for s in states] == [1, 2, 2, 2, 2]


def test_the_caller_keeps_its_tensor() -> None:
    for name in NAMED:
        x = X.clone()
        first = sampler_named(name)(EXACT, x, steps=4, noise=Noise([3, 4]))
        assert torch.equal(x, X)
        assert torch.equal(first, sampler_named(name)(EXACT, x, steps=4, noise=Noise([3, 4])))


def test_steps_by_hand_equal_the_loop() -> None:
    """A plan that was never moved to a device works too; a history cut short is refused."""
    sampler = DPMSolverPP(3)
    plan, state = sampler.plan(VP(), uniform_t(VP(), 6)), State(X)
    for k in range(plan.steps):
        state = sampler.step(EXACT, state, k, plan)
    assert torch.equal(state.x, sampler(EXACT, X, steps=6))
    with pytest.raises(ValueError, match="history holds 0"):
        sampler.step(EXACT, State(X, 3), 3, plan)


class Watch(TorchDispatchMode):
    """Lists the operators that run a kernel (views do not)."""

    views = ("select", "expand", "detach", "alias", "view", "slice", "unsqueeze", "promote_types")

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = str(func)
        if not any(f"aten.{v}" in name for v in self.views):
            self.seen.append(name)
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize(
    ("sampler", "most"),
    [(DDIM(), 3), (Euler(), 3), (DPMSolverPP(1), 3), (DPMSolverPP(2), 4), (DPMSolverPP(3), 5), (Heun(), 5)],
)
def test_kernels_of_a_step(sampler: Any, most: int) -> None:
    """Besides the network: the update and one sum for the check of finiteness; nothing is read back."""
    x = X.float()
    states = sampler.trajectory(Null(torch.zeros_like(x)), x, grid=torch.linspace(1, 0.1, 12, dtype=F64))
    for _ in range(4):
        next(states)
    with Watch() as watch:
        next(states)
    assert 0 < len(watch.seen) <= most, watch.seen
    with Watch() as watch:
        for _ in range(6):
            next(states)
    assert not any("_local_scalar_dense" in name or "_to_copy" in name for name in watch.seen)


def test_churn_never_leaves_the_schedule() -> None:
    for schedule in (VP(), Flow()):
        times = karras(schedule, 5)
        plan = Euler(Churn(1e6)).plan(schedule, times)
        assert all(0 < t <= 1 for call in plan.calls for t in call)
        assert plan.calls[0] == (1.0,) and plan.rows[0][1] == 0.0
        assert all(call[0] > float(t) for call, t in zip(plan.calls[2:], times[2:-1]))


def test_rows_are_floats_and_a_table() -> None:
    plan = DPMSolverPP(3).plan(VP(), uniform_lambda(VP(), 12))
    assert plan.columns == ("x", "noise", "m0", "m1", "m2")
    assert all(type(v) is float for row in plan.rows for v in row)
    assert plan.table().shape == (12, 5) and tuple(plan.table()[4].tolist()) == plan.rows[4]
    assert plan.rows[-1] == (0.0, 0.0, 1.0, 0.0, 0.0)
    # fewer than ten steps end with orders 2 and 1, more do not
    short = DPMSolverPP(3).plan(VP(), torch.linspace(1, 0.1, 10, dtype=F64)).rows
    long = DPMSolverPP(3).plan(VP(), torch.linspace(1, 0.1, 11, dtype=F64)).rows
    assert [sum(v != 0 for v in row[2:]) for row in short] == [1, 2, 3, 3, 3, 3, 3, 2, 1]
    assert [sum(v != 0 for v in row[2:]) for row in long] == [1, 2, 3, 3, 3, 3, 3, 3, 3, 3]


def test_names_say_what_they_make() -> None:
    for name, entry in NAMED.items():
        sampler = sampler_named(name)
        assert entry.name == name and entry.stochastic == sampler.stochastic
        # the published third order lacks a factor 2: what it reaches is listed, not what it is called
        assert entry.order == (2 if name.endswith("-published") else sampler.order)
        if entry.nfe == "by tolerance":
            with pytest.raises(ValueError, match="nfe"):
                sampler.nfe(7)
            continue
        told = re.sub(r"(\d) steps", r"\1 * 7", entry.nfe).replace("steps", "7")  # "2 steps - 1" is 2 * 7 - 1
        assert sampler.nfe(7) == eval(told), entry


def test_a_noise_prediction_cannot_start_where_there_is_only_noise():
    """At alpha = 0 eps leaves x0 undetermined: refused before any call, through guides too; below t = 1 it is fine."""
    network = EpsDenoiser(lambda x, time, c: torch.zeros_like(x), Flow())
    x = torch.ones(1, 2)
    for d in (network, StaticThreshold(1.0)(network)):
        with pytest.raises(ValueError, match="says nothing of the data"):
            DDIM()(d, x, steps=2)
        assert bool(torch.isfinite(DDIM()(d, x, grid=torch.tensor([0.9, 0.5, 0.0]))).all())
    assert bool(torch.isfinite(DDIM()(FlowDenoiser(network.net, Flow()), x, steps=2)).all())
