"""Restart: a deterministic solver that goes back up to more noise, and down again, within an interval."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
from jaxtyping import Float
from torch import Tensor

from mezzotint.core import Condition, Denoiser, Noise, Schedule
from mezzotint.sample.combine import combine
from mezzotint.sample.heun import Heun
from mezzotint.sample.loop import Sampler, State
from mezzotint.sample.plan import Node, Plan, nodes_of

__all__ = ["Restart", "RestartInterval"]

_RHO = 7.0  # of the times inside an interval, as in EDM's grid


@dataclass(frozen=True)
class RestartInterval:
    """Where to restart: from noise level `low` back up to `high` and down again in `steps` steps, `times` times.

    Args:
        low, high: noise levels sigma / alpha, 0 < low <= high; an interval of no length does nothing.
        steps: >= 1 (the paper counts the nodes, one more).
        times: >= 0.

    Raises:
        ValueError: for values outside these ranges.
    """

    low: float
    high: float
    steps: int = 2
    times: int = 2

    def __post_init__(self) -> None:
        if not 0 < self.low <= self.high < math.inf:
            raise ValueError(
                f"RestartInterval got low={self.low}, high={self.high}; expected 0 < low <= high, sigma/alpha"
            )
        for name, value, least in (("steps", self.steps, 1), ("times", self.times, 0)):
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise ValueError(f"RestartInterval got {name}={value!r}; expected a whole number >= {least}")

    @property
    def idle(self) -> bool:
        """Whether it does nothing."""
        return self.high == self.low or self.times == 0


@dataclass(frozen=True)
class Restart(Sampler):
    """The base from noise to data; at the node nearest to an interval's low, `times` times: up to high, and down.

    Up is x_high = (alpha_high/alpha_low) x_low + alpha_high sqrt(high^2 - low^2) z, the exact forward process, so with
    an exact solver and denoiser the law at low is what it was; where it was not, each turn brings it nearer, as two
    states that differ come closer under the same noise. Down is the base over EDM's grid (rho = 7) from high to low.

    The base starts anew after each jump: a multistep solver without history, `lower_order_final` counting the steps
    of each part. The node nearest to low (in the logarithm) is taken among those inside the grid, and high moves with
    it by the same factor, but never above the grid's start: both our choice, the paper's high stays. With one step
    there is no such node, and Restart is its base.

    Args:
        base: a deterministic solver.
        intervals: any number of RestartInterval; of those at one node the first given is first.

    Raises:
        ValueError: for a base that draws noise, is itself a Restart, or something else than a RestartInterval.

    Source: arXiv 2306.14878, section 3.1 and algorithm 1. The default is its smallest setting for CIFAR-10 (EDM,
    table 3: three nodes from 0.30 to 0.06, twice).

    >>> from mezzotint.core import Gaussian, VP
    >>> d = Gaussian(torch.zeros(2), std=1.0).denoiser(VP())
    >>> Restart()(d, torch.ones(1, 2), steps=4, noise=Noise([0])).shape
    torch.Size([1, 2])
    """

    base: Sampler = field(default_factory=Heun)
    intervals: tuple[RestartInterval, ...] = (RestartInterval(0.06, 0.30),)

    def __post_init__(self) -> None:
        if self.base.stochastic or isinstance(self.base, Restart):
            raise ValueError(
                f"Restart got base {self.base!r}; expected a deterministic solver, as Heun() or DPMSolverPP(): the "
                "noise is added between its runs"
            )
        for item in self.intervals:
            if not isinstance(item, RestartInterval):
                raise ValueError(f"Restart got {item!r} among its intervals; expected RestartInterval(low, high)")

    @property
    def _active(self) -> tuple[RestartInterval, ...]:
        return tuple(i for i in self.intervals if not i.idle)

    @property
    def order(self) -> int:  # type: ignore[override]  # the base's, not the class's
        """As the base, as the steps of the intervals grow too."""
        return self.base.order

    @property
    def stochastic(self) -> bool:
        """True unless all intervals do nothing."""
        return bool(self._active)

    def nfe(self, steps: int) -> int:
        """The base's, and for each time in each interval those of as many of its steps as do not end at 0."""
        if steps < 2:
            return self.base.nfe(steps)
        return self.base.nfe(steps) + sum(
            i.times * (self.base.nfe(i.steps + 1) - self.base.nfe(1)) for i in self._active
        )

    def plan(self, schedule: Schedule, grid: Float[Tensor, " n"]) -> Plan:
        """See Sampler.plan; the parts' plans one after the other, and the weights of x and z before each step."""
        nodes = nodes_of(schedule, grid)
        turns: dict[int, list[RestartInterval]] = {}
        for interval in self._active if len(grid) > 2 else ():
            turns.setdefault(_nearest(nodes, interval.low), []).append(interval)
        parts: list[tuple[Plan, tuple[float, float]]] = []
        start = 0
        for at in sorted(turns):
            parts.append((self.base.plan(schedule, grid[start : at + 1]), (1.0, 0.0)))
            for interval in turns[at]:
                times, jump = _turn(schedule, nodes[at], interval, nodes[0])
                parts += [(self.base.plan(schedule, times), jump)] * interval.times
            start = at
        parts.append((self.base.plan(schedule, grid[start:]), (1.0, 0.0)))
        return _joined(parts)

    def step(
        self, d: Denoiser, state: State, k: int, plan: Plan, c: Condition | None = None, noise: Noise | None = None
    ) -> State:
        """See Sampler.step."""
        assert isinstance(plan, _RestartPlan)
        part, local = plan.places[k]
        if local == 0:
            (keep, spread), x = plan.rows[k], state.x
            if spread and noise is not None:
                x = combine((keep, x), (spread, noise("step", k, x.shape[1:], dtype=x.dtype, device=x.device)))
            state = State(x, x0=state.x0)
        return replace(self.base.step(d, state, local, plan.parts[part], c), k=k + 1)


@dataclass(frozen=True)
class _RestartPlan(Plan):
    """Of all steps; for each its part and its number therein."""

    parts: tuple[Plan, ...] = field(kw_only=True)
    places: tuple[tuple[int, int], ...] = field(kw_only=True)

    def on(self, x: Tensor, schedule: Schedule | None = None) -> Plan:
        """See Plan.on."""
        return replace(self, parts=tuple(part.on(x, schedule) for part in self.parts))


def _joined(parts: Sequence[tuple[Plan, tuple[float, float]]]) -> Plan:
    nodes: list[Node] = [parts[0][0].nodes[0]]
    rows, calls, places = [], [], []
    for i, (part, jump) in enumerate(parts):
        nodes += part.nodes[1:]
        rows += [jump, *[(1.0, 0.0)] * (part.steps - 1)]
        calls += part.calls
        places += [(i, k) for k in range(part.steps)]
    return _RestartPlan(
        tuple(nodes),
        ("x", "noise"),
        tuple(rows),
        tuple(calls),
        parts=tuple(part for part, _ in parts),
        places=tuple(places),
    )


def _nearest(nodes: Sequence[Node], low: float) -> int:
    """The node inside the grid whose noise level is nearest to low, as a ratio."""
    return min(range(1, len(nodes) - 1), key=lambda k: abs(nodes[k].lam + math.log(low)))


def _turn(schedule: Schedule, low: Node, interval: RestartInterval, top: Node) -> tuple[Tensor, tuple[float, float]]:
    """The times from high down to a node, and the weights of x and z that lead from the node to high."""
    high = low.ratio * (interval.high / interval.low)
    ramp = torch.linspace(0, 1, interval.steps + 1, dtype=torch.float64)
    most, least = min(high, top.ratio) ** (1 / _RHO), low.ratio ** (1 / _RHO)
    times = schedule.t_of(-_RHO * (most + ramp * (least - most)).log())
    times[-1] = low.t
    if high >= top.ratio:
        times[0] = top.t
    up = nodes_of(schedule, times[:1])[0]
    spread = up.sigma * math.sqrt(-math.expm1(-2 * (low.lam - up.lam)))
    return times, (up.alpha / low.alpha, spread)
