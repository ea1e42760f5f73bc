"""The driver of steps with several evaluations: weights, times, draws, plans."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from mezzotint.core import VP, Condition, Denoiser, Noise, Prediction, Schedule
from mezzotint.sample import DDIM, DPMSolverPPSingle, Heun, Move, Node, Stage, Staged, State

F64 = torch.float64
GRID = torch.tensor([0.9, 0.6, 0.4, 0.0], dtype=F64)


class Affine(Denoiser):
    """D = t x + 1, and a list of the times asked for."""

    def __init__(self) -> None:
        super().__init__(VP())
        self.seen: list[float] = []

    def forward(self, x_t: Tensor, t: Tensor, c: Condition | None = None) -> Prediction:
        self.seen.append(float(t[0]))
        return Prediction.from_x0(t[:, None] * x_t + 1, x_t, t, self.schedule)


@dataclass(frozen=True)
class Given(Staged):
    """Two stages a step but the last, with weights that are nothing in particular; both draw."""

    order = 1
    spread: tuple[float, float] = (0.0, 0.0)

    @property
    def stochastic(self) -> bool:
        return any(self.spread)

    def moves(self, schedule: Schedule, nodes: Sequence[Node]) -> Sequence[Move]:
        first, second = self.spread
        two = (Stage(0.5, (2.0,), first), Stage(0.25, (-1.0, 3.0), second))
        made = [Move(t, (s.t, 0.5 * (s.t + t.t)), two) for s, t in pairwise(nodes[:-1])]
        return [*made, Move(nodes[-1], (nodes[-2].t,), (Stage(0.0, (1.0,)),))]


def test_a_step_is_its_stages() -> None:
    x, d = torch.tensor([[0.3, -1.0], [0.7, 2.0]], dtype=F64), Affine()
    states = list(Given().trajectory(d, x, grid=GRID))
    assert d.seen == pytest.approx([0.9, 0.75, 0.6, 0.5, 0.4], abs=1e-12)
    for state, (s, u) in zip(states, ((0.9, 0.75), (0.6, 0.5))):
        m = s * x + 1
        inner = u * (0.5 * x + 2 * m) + 1
        x = 0.25 * x - m + 3 * inner
        torch.testing.assert_close(state.x, x, rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(state.x0, inner, rtol=1e-12, atol=1e-12)
    assert states[-1].x0 is not None and torch.equal(states[-1].x, states[-1].x0)
    assert [s.k for s in states] == [1, 2, 3]


def test_the_plan_names_every_weight() -> None:
    plan = Given((0.1, 0.2)).plan(VP(), GRID)
    assert plan.columns == ("x@0", "noise@0", "m0@0", "x@1", "noise@1", "m0@1", "m1@1")
    assert plan.rows[0] == (0.5, 0.1, 2.0, 0.25, 0.2, -1.0, 3.0)
    assert plan.rows[2] == (0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0)
    assert plan.nfe == 5 and plan.steps == 3 and plan.table().shape == (3, 7)


def test_the_nodes_of_a_plan_are_those_where_steps_end() -> None:
    grid = torch.linspace(1, 0, 8, dtype=F64)
    plan = DPMSolverPPSingle(3).plan(VP(), grid)
    assert [len(call) for call in plan.calls] == [3, 3, 1]
    assert [n.t for n in plan.nodes] == [float(grid[i]) for i in (0, 3, 6, 7)]


def test_draws() -> None:
    """One a stage, each sample its own, none shared between stages or steps."""
    x, noise = torch.zeros(2, 3, dtype=F64), Noise([4, 9])

    class Zero(Affine):
        def forward(self, x_t: Tensor, t: Tensor, c: Condition | None = None) -> Prediction:
            return Prediction.from_x0(torch.zeros_like(x_t), x_t, t, self.schedule)

    state, *_ = Given((0.0, 2.0)).trajectory(Zero(), x, grid=GRID, noise=noise)
    torch.testing.assert_close(state.x, 2 * noise("step", 0, (3,), dtype=F64))
    sampler = Given((1.0, 2.0))
    plan = sampler.plan(VP(), GRID)
    drawn = [sampler.draw(noise, plan, k, j, x) for k in (0, 1) for j in (0, 1)]
    assert all(not torch.equal(a, b) for i, a in enumerate(drawn) for b in drawn[:i])
    assert torch.equal(drawn[1], noise("step", 0, (3,), dtype=F64))
    with pytest.raises(ValueError, match="pass noise"):
        sampler(Affine(), x, grid=GRID)
    alone = sampler(Affine(), x[1:], grid=GRID, noise=Noise([9]))
    assert torch.equal(alone, sampler(Affine(), x, grid=GRID, noise=noise)[1:])


@dataclass(frozen=True)
class HeunAsStages(Staged):
    """Heun's method, which has a driver of its own, written as stages."""

    order = 2

    def moves(self, schedule: Schedule, nodes: Sequence[Node]) -> Sequence[Move]:
        rows = Heun().plan(schedule, torch.tensor([n.t for n in nodes], dtype=F64))
        made = []
        for end, (_, _, weight, of_m, slope), call in zip(nodes[1:], rows.rows, rows.calls):
            stages = (Stage(weight, (of_m,)), Stage(weight, (of_m - slope, slope)))
            made.append(Move(end, call, stages[: len(call)]))
        return made


def test_heun_can_be_written_as_stages() -> None:
    x = torch.tensor([[0.3, -1.0], [0.7, 2.0]], dtype=F64)
    torch.testing.assert_close(
        HeunAsStages()(Affine(), x, steps=6), Heun()(Affine(), x, steps=6), rtol=1e-12, atol=1e-12
    )


def test_steps_by_hand_equal_the_loop() -> None:
    """A plan that was never moved to a device works too, and a run may start anywhere: nothing is kept."""
    sampler, x = DPMSolverPPSingle(2), torch.ones(2, 3, dtype=F64)
    plan, state = sampler.plan(VP(), GRID), State(torch.ones(2, 3, dtype=F64))
    for k in range(plan.steps):
        state = sampler.step(Affine(), state, k, plan)
        assert state.history == ()
    assert torch.equal(state.x, sampler(Affine(), x, grid=GRID))
    again = sampler.step(Affine(), State(x, 1), 1, plan)
    assert again.k == 2


def test_one_stage_is_a_step_of_one_evaluation() -> None:
    x = torch.ones(2, 3, dtype=F64)
    assert torch.equal(DPMSolverPPSingle(1)(Affine(), x, grid=GRID), DDIM()(Affine(), x, grid=GRID))
