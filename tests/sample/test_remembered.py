"""Plans are remembered where equal arguments mean an equal plan, and only there."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pytest
import torch

from mezzotint.core import VP, Discrete, Flow, Schedule, Shifted, uniform_t
from mezzotint.sample import Churn, DPMSolverPP, Heun, Node
from mezzotint.sample.multistep import Multistep, Row
from mezzotint.sample.remembered import _MOST, _plans, forget_plans, planned

TIMES = torch.linspace(1, 0.1, 7, dtype=torch.float64)


@pytest.fixture(autouse=True)
def _clean() -> Iterator[None]:
    forget_plans()
    yield
    forget_plans()


def test_equal_arguments_share_a_plan() -> None:
    for schedule in (VP, Flow, Discrete.linear, lambda: Shifted(Flow(), 3.0)):
        first = planned(DPMSolverPP(order=2), schedule(), TIMES)
        assert planned(DPMSolverPP(order=2), schedule(), TIMES.clone()) is first
        assert first == DPMSolverPP(order=2).plan(schedule(), TIMES)


def test_whatever_differs_is_planned_anew() -> None:
    """Other parameters, True where there was 1, another schedule, other times."""
    plans = [
        planned(sampler, schedule, times)
        for sampler, schedule, times in (
            (DPMSolverPP(order=2, lower_order_final=True), VP(), TIMES),
            (DPMSolverPP(order=2, lower_order_final=1), VP(), TIMES),
            (DPMSolverPP(order=3), VP(), TIMES),
            (DPMSolverPP(order=2), VP(0.2), TIMES),
            (DPMSolverPP(order=2), VP(), uniform_t(VP(), 7)),
        )
    ]
    assert len({id(plan) for plan in plans}) == len(_plans) == 5
    assert plans[0].rows != plans[1].rows


class Moody:
    """A schedule that is compared by identity and may change."""

    curve = "straight"
    inner: Schedule = Flow()

    def __getattr__(self, name: str) -> object:
        return getattr(self.inner, name)


@dataclass(frozen=True)
class Halving(Multistep):
    """A sampler with a part that is no plain value."""

    order = 1
    weights: list[float]

    def row(self, nodes: Sequence[Node], k: int) -> Row:
        return Row(0.5, tuple(self.weights))


def test_what_may_change_is_not_remembered() -> None:
    schedule = Moody()
    before = planned(DPMSolverPP(order=1), schedule, TIMES)  # type: ignore[arg-type]
    schedule.inner = VP()
    assert planned(DPMSolverPP(order=1), schedule, TIMES).rows != before.rows  # type: ignore[arg-type]
    sampler = Halving([0.5])
    before = planned(sampler, VP(), TIMES)
    sampler.weights[0] = 0.25
    assert planned(sampler, VP(), TIMES).rows != before.rows
    planned(Heun(Churn(3.0)), VP(), TIMES)
    assert not _plans


def test_few_are_kept() -> None:
    for steps in range(1, _MOST + 5):
        planned(DPMSolverPP(order=1), VP(), uniform_t(VP(), steps))
    assert len(_plans) == _MOST
    assert torch.tensor([len(plan.rows) for plan in _plans.values()]).min() == 5
