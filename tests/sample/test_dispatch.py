"""The loop never waits for the device and wastes no kernels: shown for every named sampler by watching its operators.

Read-backs are looked for twice. A dispatch mode refuses the operators that hand a number to Python, in the loop as it
is; and each step runs on the meta device, where there are no numbers, so that whatever asks for one fails.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from mezzotint.core import (
    VE,
    VP,
    Condition,
    Cosine,
    Denoiser,
    Discrete,
    EDMDenoiser,
    EpsDenoiser,
    Flow,
    FlowDenoiser,
    NetworkDenoiser,
    Noise,
    Prediction,
    Schedule,
    VDenoiser,
    X0Denoiser,
)
from mezzotint.core.known import known_levels, known_time, mark_time
from mezzotint.guide import CFG, Interval, Rescale, StaticThreshold, compose
from mezzotint.sample import DDIM, NAMED, DPMSolverPP, Euler, Sampler, State, nodes_of, sampler_named
from mezzotint.sample.combine import combine

# Chooses its steps by what it measures, so it must look at numbers: the only one.
ADAPTIVE = {"dpm-adaptive", "ode-adaptive"}
PLANNED = sorted(set(NAMED) - ADAPTIVE)
DETERMINISTIC = [name for name in PLANNED if not NAMED[name].stochastic]

F64 = torch.float64
X = Noise([0, 1])("x_T", 0, (3, 4, 4))
GRID = torch.linspace(0.9, 0.1, 13, dtype=F64)

READS = ("_local_scalar_dense", "item", "is_nonzero", "equal", "nonzero", "masked_select", "unique")
VIEWS = ("select", "expand", "detach", "alias", "view", "slice", "unsqueeze", "split", "unbind", "promote_types")


class Watch(TorchDispatchMode):
    """Lists the operators that run a kernel; one that hands a number to Python fails at once."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func._schema.name.split("::")[-1]
        masks = [i for a in args if isinstance(a, (list, tuple)) for i in a if isinstance(i, Tensor)]
        if name in READS or (name == "index" and any(i.dtype == torch.bool for i in masks)):
            raise AssertionError(f"{name} inside the loop waits for the device")
        if name not in VIEWS:
            self.seen.append(name)
        return func(*args, **(kwargs or {}))


class Given(Denoiser):
    """Predicts a tensor made beforehand: what is counted beside it is the sampler's own work."""

    def __init__(self, x0: Tensor, schedule: Schedule | None = None) -> None:
        super().__init__(schedule or VP())
        self.x0 = x0

    def forward(self, x_t: Tensor, t: Tensor, c: Condition | None = None) -> Prediction:
        return Prediction.from_x0(self.x0, x_t, t, self.schedule)


def between(
    sampler: Sampler, d: Denoiser, x: Tensor, grid: Tensor, warm: int, c: Condition | None = None
) -> tuple[list[str], int]:
    """The operators, and the number of steps, between step `warm` and the last but one."""
    noise = Noise(range(len(x))) if sampler.stochastic else None
    with torch.no_grad():
        steps = sampler.plan(d.schedule, grid).steps
        states = sampler.trajectory(d, x, grid=grid, c=c, noise=noise)
        for _ in range(warm):
            next(states)
        with Watch() as watch:
            for _ in range(warm, steps - 1):
                next(states)
    assert steps - 1 > warm
    return watch.seen, steps - 1 - warm


def test_the_watch_sees_what_it_must() -> None:
    x = torch.ones(2)
    for read in (lambda: float(x.sum()), lambda: bool((x > 0).all()), lambda: x.sum().item(), lambda: x[x > 0]):
        with pytest.raises(AssertionError, match="waits for the device"), Watch():
            read()
    with pytest.raises((NotImplementedError, RuntimeError)):
        torch.ones(2, device="meta").tolist()


@pytest.mark.parametrize("name", PLANNED)
def test_no_read_back(name: str) -> None:
    """From the second step to the end, and the first step in the run of one more than one sampler starts."""
    sampler = sampler_named(name)
    between(sampler, Given(torch.zeros_like(X)), X, GRID, 1)


@pytest.mark.parametrize("name", PLANNED)
def test_steps_need_no_numbers(name: str) -> None:
    """Each step of the plan on the meta device, which has shapes and nothing else."""
    sampler = sampler_named(name)
    x = torch.empty(2, 3, 4, 4, device="meta")
    plan = sampler.plan(VP(), GRID).on(x, VP())
    noise = Noise([0, 1]) if sampler.stochastic else None
    state = State(x)
    for k in range(plan.steps):
        state = sampler.step(Given(x), state, k, plan, None, noise)
    assert state.x.shape == x.shape and state.x.device.type == "meta"


# What a family may use beyond order + 2 a call, and why.
BEYOND = {
    "dpm": 1,  # the noise form keeps x - alpha m of each node
    "deis": 1,  # as does this one
    "dualfast": 3,  # its correction, around a base that is counted as ever
}


@pytest.mark.parametrize("name", DETERMINISTIC)
def test_kernels_of_a_step(name: str) -> None:
    """Order + 1 weighted terms and one sum for the check of finiteness; so four for a second-order multistep solver."""
    sampler = sampler_named(name)
    plan = sampler.plan(VP(), GRID)
    seen, steps = between(sampler, Given(torch.zeros_like(X)), X, GRID, min(4, plan.steps - 2))
    order = getattr(sampler, "base", sampler).order
    most = (order + 2) * max(map(len, plan.calls)) + BEYOND.get(name.split("-")[0], 0)
    assert len(seen) <= most * steps, seen[: 2 * most]


@pytest.mark.parametrize("schedule", [Flow(), VE()], ids=["flow", "ve"])
def test_weights_that_sum_to_one_save_a_kernel(schedule: Schedule) -> None:
    """There a step is an interpolation: two kernels for DPM-Solver++ 2M, one for DDIM, and the sum."""
    grid = torch.linspace(0.9, 0.1, 13, dtype=F64)
    for sampler, most in ((DPMSolverPP(order=2), 3), (DPMSolverPP(order=3), 4), (DDIM(), 2), (Euler(), 2)):
        d = Given(torch.zeros_like(X), schedule)
        seen, steps = between(sampler, d, X, grid, 2)
        assert len(seen) == most * steps, seen[: 2 * most]


@pytest.mark.parametrize("count", [2, 3, 4])
@pytest.mark.parametrize("size", [1, 7, 33, 1031])
def test_an_interpolation_is_the_sum(count: int, size: int, draw: Any) -> None:
    """The chain equals the plain sum, part by part bit for bit, and is not used where it would lose digits."""
    weights = [0.3, 1.5, -0.9, 0.2][: count - 1]
    weights.append(1.0 - sum(weights))
    xs = [draw(size).float() for _ in weights]
    plain = sum(w * x.double() for w, x in zip(weights, xs))
    whole = combine(*zip(weights, xs))
    torch.testing.assert_close(whole.double(), plain, rtol=1e-6, atol=1e-6)
    for at in range(0, size, 5):
        assert torch.equal(combine(*((w, x[at : at + 5]) for w, x in zip(weights, xs))), whole[at : at + 5])
    far = (1e6, xs[0]), (-1e6 + 1.0, xs[1]), (1e6, xs[0]), (-1e6, xs[1])
    plain = sum(w * x.double() for w, x in far)
    torch.testing.assert_close(combine(*far).double(), plain, rtol=1e-5, atol=1.0)


CONVERSIONS: dict[str, tuple[type[NetworkDenoiser], Schedule, int]] = {
    # one kernel for 1000 t, then the conversion to x0
    "x0": (X0Denoiser, VP(), 1),
    "eps": (EpsDenoiser, VP(), 3),
    "eps discrete": (EpsDenoiser, Discrete.scaled_linear(), 3),
    "v": (VDenoiser, Cosine(), 3),
    "flow": (FlowDenoiser, Flow(), 1),  # one here, and one less in the update
    "flow on a curve": (FlowDenoiser, VP(), 3),
    "edm": (EDMDenoiser, VP(), 4),  # the time is a fill; c_in x, then c_skip x + c_out out
}


@pytest.mark.parametrize("which", CONVERSIONS)
def test_kernels_of_a_conversion(which: str) -> None:
    """Known coefficients make a conversion two kernels at most: no schedule is evaluated inside the loop."""
    make, schedule, extra = CONVERSIONS[which]
    out = torch.zeros_like(X)
    seen, steps = between(DPMSolverPP(order=2), make(lambda x, t, c: out, schedule), X, GRID, 2)
    assert len(seen) == (4 + extra) * steps, seen[: 2 * (4 + extra)]


@pytest.mark.parametrize("which", CONVERSIONS)
@pytest.mark.parametrize("time", [0.999, 0.5, 0.01])
def test_known_coefficients_change_nothing(which: str, time: float) -> None:
    """The same predictions with and without them, to rounding of float64."""
    make, schedule, _ = CONVERSIONS[which]
    x = X.to(F64)
    d = make(lambda x, t, c: torch.sin(3 * x) + 0.1, schedule)
    plan = DPMSolverPP(order=1).plan(schedule, torch.tensor([time, 0.0], dtype=F64))
    marked, plain = plan.on(x, schedule).time(0, x), torch.full((2,), time, dtype=F64)
    node = nodes_of(schedule, plain[:1])[0]
    assert known_levels(marked, schedule) == (node.alpha, node.sigma) and known_levels(plain, schedule) is None
    ours, theirs = d(x, marked), d(x, plain)
    for kind in Prediction.kinds:
        torch.testing.assert_close(getattr(ours, kind), getattr(theirs, kind), rtol=1e-12, atol=1e-12)


def test_coefficients_of_another_schedule_are_not_used() -> None:
    """A denoiser inside that has a schedule of its own evaluates it."""
    x = X.to(F64)
    t = DPMSolverPP(order=1).plan(VP(), GRID).on(x, VP()).time(0, x)
    inner = EpsDenoiser(lambda x, t, c: torch.zeros_like(x), Cosine())
    torch.testing.assert_close(inner(x, t).x0, inner(x, torch.full((2,), 0.9, dtype=F64)).x0)


@pytest.mark.parametrize("kind", [EpsDenoiser, VDenoiser])
def test_ends_where_nothing_is_known(kind: type[NetworkDenoiser]) -> None:
    """alpha = 0 and sigma = 0: zero where the network says nothing, as without known coefficients."""
    x, schedule = X.to(F64), Cosine()
    d = kind(lambda x, t, c: torch.ones_like(x), schedule)
    for time in (1.0, 0.0):
        plain = torch.full((2,), time, dtype=F64)
        node = nodes_of(schedule, plain[:1])[0]
        marked = mark_time(plain.clone(), time, (schedule, node.alpha, node.sigma))
        assert 0.0 in (node.alpha, node.sigma)
        for name in Prediction.kinds:
            torch.testing.assert_close(getattr(d(x, marked), name), getattr(d(x, plain), name))


def test_guides_hand_it_on() -> None:
    """Guidance in one call, an interval, a rescaling: no read-back, and the network gets what is known of its time."""
    c = Condition({"label": torch.tensor([0, 1])}, null={"label": torch.tensor([2])})
    times: list[Tensor] = []

    class Net(EpsDenoiser):
        def forward(self, x_t: Tensor, t: Tensor, c: Condition | None = None) -> Prediction:
            times.append(t)
            return super().forward(x_t, t, c)

    d = Net(lambda x, t, c: torch.zeros_like(x), VP())
    guide = compose(Interval(compose(CFG(3.0), Rescale(0.7)), 0.2, 0.7), StaticThreshold())
    between(DPMSolverPP(order=2), guide(d), X, GRID, 1, c)
    assert {len(t) for t in times} == {2, 4}
    assert all(known_time(t) is not None and known_levels(t, d.schedule) is not None for t in times)
