"""Time travel: every few steps back up to more noise and down again, so that what was changed and the rest agree."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from jaxtyping import Float
from torch import Tensor

from mezzotint.core import Condition, Denoiser, Noise, Schedule
from mezzotint.sample.combine import combine
from mezzotint.sample.loop import Sampler, State
from mezzotint.sample.plan import Node, Plan, nodes_of

__all__ = ["TimeTravel"]


@dataclass(frozen=True)
class TimeTravel(Sampler):
    """The base from noise to data; each `jump` steps are gone through `times` times.

    With n steps the places are the nodes n - 1, n - 1 - jump, ... from which there are `jump` nodes above: from each
    one `times - 1` times up by `jump` nodes, x_up = (alpha_up / alpha) x + spread z, which is the forward process
    itself, and down again by the base, which starts anew (a multistep solver without history). times = 1 is the base,
    bit for bit. Every visit of a step has noise of its own.

    Args:
        base: any sampler, deterministic or not.
        jump: steps of a turn, >= 1.
        times: how often each stretch is gone through, >= 1.

    Raises:
        ValueError: for values outside these ranges, or a base that travels itself.

    Source: arXiv 2201.09865, section 4.2 and appendix B (its schedule of jumps); arXiv 2212.00490, section 3.3.

    >>> from mezzotint.sample import DDIM
    >>> TimeTravel(DDIM(), jump=10, times=10).nfe(250)
    2410
    """

    base: Sampler
    jump: int = 10
    times: int = 10

    def __post_init__(self) -> None:
        for name in ("jump", "times"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ValueError(f"TimeTravel got {name}={value!r}; expected a whole number >= 1")
        if isinstance(self.base, TimeTravel):
            raise ValueError("TimeTravel got a base that travels itself; give jump and times once")

    @property
    def order(self) -> int:  # type: ignore[override]  # the base's, not the class's
        """As the base."""
        return self.base.order

    @property
    def stochastic(self) -> bool:
        """True where it travels; else as the base."""
        return self.times > 1 or self.base.stochastic

    def nfe(self, steps: int) -> int:
        """n + (times - 1) jump ceil((n - jump) / jump) for a base of one evaluation a step."""
        turn = self.base.nfe(self.jump + 1) - self.base.nfe(1)
        return self.base.nfe(steps) + (self.times - 1) * turn * len(self._places(steps))

    def first_order(self, nodes: Sequence[Node], k: int) -> float:
        """As the base."""
        return self.base.first_order(nodes, k)

    def _places(self, steps: int) -> range:
        """The nodes from which it goes up, from noise to data."""
        last = steps - 1
        if last < self.jump:
            return range(0)
        return range(last - self.jump * ((last - self.jump) // self.jump), steps, self.jump)

    def plan(self, schedule: Schedule, grid: Float[Tensor, " n"]) -> Plan:
        """See Sampler.plan; the base's plans of the parts, and the weights of x and z before each of them."""
        nodes = nodes_of(schedule, grid)
        ends: list[tuple[int, int, tuple[float, float]]] = []  # from which node to which, and how x came there
        start, way = 0, (1.0, 0.0)
        for at in self._places(len(nodes) - 1) if self.times > 1 else ():
            for _ in range(self.times - 1):
                ends.append((start, at, way))
                start, way = at - self.jump, _up(nodes[at], nodes[at - self.jump])
        ends.append((start, len(nodes) - 1, way))
        parts = [self.base.plan(schedule, grid[first : last + 1]) for first, last, _ in ends]
        rows, calls, places, path = [], [], [], [nodes[0]]
        for i, (part, (_, _, way)) in enumerate(zip(parts, ends)):
            rows += [way, *[(1.0, 0.0)] * (part.steps - 1)]
            calls += part.calls
            places += [(i, k) for k in range(part.steps)]
            path += part.nodes[1:]
        return _TravelPlan(
            tuple(path), ("x", "noise"), tuple(rows), tuple(calls), parts=tuple(parts), places=tuple(places)
        )

    def step(
        self, d: Denoiser, state: State, k: int, plan: Plan, c: Condition | None = None, noise: Noise | None = None
    ) -> State:
        """See Sampler.step."""
        assert isinstance(plan, _TravelPlan)
        part, local = plan.places[k]
        if k and local == 0:
            (keep, spread), x = plan.rows[k], state.x
            assert noise is not None
            z = noise("travel", k, tuple(x.shape[1:]), dtype=x.dtype, device=x.device)
            state = State(combine((keep, x), (spread, z)), x0=state.x0)
        own = noise if noise is None or k == local else _Later(noise, k - local)
        return replace(self.base.step(d, state, local, plan.parts[part], c, own), k=k + 1)


@dataclass(frozen=True)
class _TravelPlan(Plan):
    """Of all steps; for each its part and its number therein."""

    parts: tuple[Plan, ...] = field(kw_only=True)
    places: tuple[tuple[int, int], ...] = field(kw_only=True)

    def on(self, x: Tensor, schedule: Schedule | None = None) -> Plan:
        """See Plan.on."""
        return replace(self, parts=tuple(part.on(x, schedule) for part in self.parts))


class _Later(Noise):
    """The same streams, `ahead` draws on: what a part's step k is given as its noise."""

    def __init__(self, noise: Noise, ahead: int) -> None:
        super().__init__(noise.seeds)
        self._noise, self._ahead = noise, ahead

    def __call__(self, purpose: str, k: int, shape: Sequence[int], **options: Any) -> Tensor:
        return self._noise(purpose, k + self._ahead, shape, **options)

    def uniform(self, purpose: str, k: int, shape: Sequence[int] = (), **options: Any) -> Tensor:
        return self._noise.uniform(purpose, k + self._ahead, shape, **options)


def _up(low: Node, high: Node) -> tuple[float, float]:
    """The weights of x and z that lead from one level to a noisier one; alpha may be 0 there."""
    return high.alpha / low.alpha, high.sigma * math.sqrt(-math.expm1(-2 * (low.lam - high.lam)))
