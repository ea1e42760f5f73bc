"""Explicit Runge-Kutta methods in the flow's variable, where every schedule is a straight line."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import torch

from mezzotint.core import Schedule
from mezzotint.sample.plan import Node, nodes_of
from mezzotint.sample.staged import Move, Stage, Staged

__all__ = ["RungeKutta"]

# rows of A below the diagonal, the last row is b; c is the sum of a row
_TABLEAUX: dict[str, tuple[tuple[float, ...], ...]] = {
    "midpoint": ((1 / 2,), (0.0, 1.0)),
    "heun3": ((1 / 3,), (0.0, 2 / 3), (1 / 4, 0.0, 3 / 4)),
    "rk4": ((1 / 2,), (0.0, 1 / 2), (0.0, 0.0, 1.0), (1 / 6, 1 / 3, 1 / 3, 1 / 6)),
}
_ORDERS = {"midpoint": 2, "heun3": 3, "rk4": 4}


@dataclass(frozen=True)
class RungeKutta(Staged):
    """du/dtau = (u - D) / tau with u = x / (alpha + sigma), tau = sigma / (alpha + sigma), by a Runge-Kutta method.

    tau runs from 1 (noise) to 0 (data) whatever the schedule, so nothing is infinite at alpha = 0. Stage i lies at
    tau + c_i h: u_i = u + h sum_j a_ij k_j, k_j = (u_j - D_j) / tau_j, and u' = u + h sum_j b_j k_j. As D enters
    linearly, a stage is a weighted sum of x and of the data predictions so far. A step to sigma = 0, where k has no
    limit, is Euler's, x' = D: one evaluation.

    Args:
        method: "midpoint" (order 2, 2 evaluations a step), "heun3" (order 3, 3) or "rk4" (order 4, 4).

    Raises:
        ValueError: for another method.

    Source: the velocity form of arXiv 2210.02747 and 2209.03003; the tableaux are the classical ones of Heun and
    Kutta. The change of variable for other schedules is our choice.

    >>> from mezzotint.core import Gaussian, VP
    >>> d = Gaussian(torch.zeros(2), std=1.0).denoiser(VP())
    >>> RungeKutta("rk4")(d, torch.ones(1, 2), steps=3).shape
    torch.Size([1, 2])
    """

    method: Literal["midpoint", "heun3", "rk4"] = "midpoint"

    def __post_init__(self) -> None:
        if self.method not in _TABLEAUX:
            raise ValueError(f"RungeKutta got method={self.method!r}; expected one of {', '.join(_TABLEAUX)}")

    @property
    def order(self) -> int:  # type: ignore[override]  # the method's
        """2, 3 or 4."""
        return _ORDERS[self.method]

    def nfe(self, steps: int) -> int:
        """As many a step as the method has stages, one for the last."""
        return len(_TABLEAUX[self.method]) * (steps - 1) + 1

    def moves(self, schedule: Schedule, nodes: Sequence[Node]) -> Sequence[Move]:
        """See Staged.moves."""
        return [self._move(schedule, s, t) for s, t in pairwise(nodes)]

    def _move(self, schedule: Schedule, s: Node, t: Node) -> Move:
        if t.sigma == 0:
            return Move(t, (s.t,), (Stage(0.0, (t.alpha,)),))
        tableau, start, h = _TABLEAUX[self.method], _tau(s), _tau(t) - _tau(s)
        between = [start + h * sum(row) for row in tableau[:-1]]
        # the last stage of rk4 lies at the step's end, a node that is known exactly
        inner = [t if tau == start + h else _node_at(schedule, tau) for tau in between]
        slopes: list[tuple[float, list[float]]] = []  # weights of u and of each D in k_0, k_1, ...
        stages: list[Stage] = []
        here: tuple[float, list[float]] = (1.0, [])
        for node, row in zip([s, *inner], tableau):
            of_u, of_m = here
            tau = _tau(node)
            slopes.append((of_u / tau, [*(m / tau for m in of_m), *[0.0] * (len(slopes) - len(of_m)), -1 / tau]))
            of_u = 1.0 + h * sum(a * k for a, (k, _) in zip(row, slopes))
            of_m = [h * sum(a * k[j] for a, (_, k) in zip(row, slopes) if j < len(k)) for j in range(len(slopes))]
            here = (of_u, of_m)
            end = inner[len(stages)] if len(stages) < len(inner) else t
            scale = end.alpha + end.sigma
            stages.append(Stage(scale * of_u / (s.alpha + s.sigma), tuple(scale * m for m in of_m)))
        return Move(t, (s.t, *(n.t for n in inner)), tuple(stages))


def _tau(node: Node) -> float:
    return node.sigma / (node.alpha + node.sigma)


def _node_at(schedule: Schedule, tau: float) -> Node:
    """The node of the schedule at this tau, in (0, 1)."""
    ratio = torch.tensor([(1 - tau) / tau], dtype=torch.float64)
    return nodes_of(schedule, schedule.t_of(ratio.log()))[0]
