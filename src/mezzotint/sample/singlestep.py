"""DPM-Solver++, single-step: several evaluations inside each step, nothing kept between steps."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch

from mezzotint.core import Schedule
from mezzotint.sample.dpmpp import data_moments
from mezzotint.sample.expint import psi0
from mezzotint.sample.interpolate import through
from mezzotint.sample.lower_order import LowerFinal, check_lower_final, lowers
from mezzotint.sample.plan import Node, nodes_of
from mezzotint.sample.staged import Move, Stage, Staged

__all__ = ["DPMSolverPPSingle", "SingleStep", "orders_of"]

# Where the inner evaluations lie, as parts of the step in lambda. Third order needs r2 = 2/3 (measured, both forms).
_INNER: dict[int, tuple[float, ...]] = {1: (), 2: (1 / 2,), 3: (1 / 3, 2 / 3)}


@dataclass(frozen=True)
class SingleStep(Staged):
    """What DPM-Solver and DPM-Solver++ share as single-step methods: the budget, the nodes, the quadrature.

    `steps` is the number of network evaluations. A grid of K steps is cut into pieces of 1 to `order` intervals
    (`orders_of`); a step of order p spans one piece, with its evaluations at lambda_s + r h for fixed r: the grid's
    own inner times are not used, as only fixed r (2/3 for the last of order 3) keep the order. An infinite step needs
    care: to sigma = 0 it is one evaluation, x = m; from alpha = 0 it is one evaluation for order 2, and for order 3
    two, Heun's step in the flow's variable sigma / (alpha + sigma), where it is of second order.

    Args:
        order: 2 or 3 (1 is DDIM).
        form: "midpoint" (the official "dpmsolver") or "taylor".
        lower_order_final: how the budget is cut; see `orders_of`.
    """

    order: int = 2  # type: ignore[misc]  # an instance's choice here, a constant of the class elsewhere
    form: Literal["midpoint", "taylor"] = "midpoint"
    lower_order_final: LowerFinal = "auto"

    def __post_init__(self) -> None:
        name = type(self).__name__
        if isinstance(self.order, bool) or self.order not in _INNER:
            raise ValueError(f"{name} got order={self.order!r}; expected 1, 2 or 3")
        if self.form not in ("midpoint", "taylor"):
            raise ValueError(f"{name} got form={self.form!r}; expected 'midpoint' or 'taylor'")
        check_lower_final(name, self.lower_order_final)

    @staticmethod
    @abstractmethod
    def moments(h: float) -> tuple[float, float, float]:
        """The integrals that weigh f, h f' and h^2 f'' in a step of length h."""

    @abstractmethod
    def stage(self, nodes: Sequence[Node], before: Sequence[Stage], b: tuple[float, ...]) -> Stage:
        """The stage that leads from nodes[0] to nodes[len(b)].

        Args:
            nodes: the step's start, its inner nodes, its end.
            before: the stages that led to nodes[1], nodes[2], ....
            b: weights of the predictions at nodes[0], nodes[1], ... in the integral.
        """

    def moves(self, schedule: Schedule, nodes: Sequence[Node]) -> Sequence[Move]:
        """See Staged.moves."""
        first = math.isfinite(nodes[1].lam - nodes[0].lam)
        last = math.isfinite(nodes[-1].lam - nodes[-2].lam)
        made, at = [], 0
        for p in orders_of(len(nodes) - 1, self.order, self.lower_order_final, first, last):
            made.append(self._move(schedule, nodes[at], nodes[at + p], p)[0])
            at += p
        return made

    def embedded(self, schedule: Schedule, s: Node, t: Node) -> tuple[Move, Stage]:
        """One step between nodes a finite distance apart, and the stage that takes it with the next lower order.

        That stage uses the same predictions but the last, so the difference of the two results is an estimate of
        the error that costs no evaluation. For order >= 2.
        """
        move, nodes = self._move(schedule, s, t, self.order)
        fewer = (*nodes[:-2], t)
        return move, self.stage(fewer, move.stages[:-2], self._quadrature(fewer, final=True))

    def _move(self, schedule: Schedule, s: Node, t: Node, order: int) -> tuple[Move, tuple[Node, ...]]:
        h = t.lam - s.lam
        if not math.isfinite(h):
            return _infinite(s, t, order), (s, t)
        nodes = (s, *_inner_nodes(schedule, s, h, _INNER[order]), t)
        stages: list[Stage] = []
        for upto in range(1, order + 1):
            stages.append(self.stage(nodes, stages, self._quadrature(nodes[: upto + 1], final=upto == order)))
        return Move(t, tuple(n.t for n in nodes[:-1]), tuple(stages)), nodes

    def _quadrature(self, nodes: Sequence[Node], *, final: bool) -> tuple[float, ...]:
        """Weights of the predictions at all nodes but the last, in the integral up to the last."""
        s, *inner, t = nodes
        h = t.lam - s.lam
        moments = self.moments(h)
        u = [(n.lam - s.lam) / h for n in inner]
        if len(u) == 1 and final and self.form == "midpoint":
            moments = (moments[0], 0.5 * moments[0], 0.0)
        if len(u) == 2 and self.form == "midpoint":
            w0, w2 = through(moments, u[1])
            return w0, 0.0, w2
        return through(moments, *u)


@dataclass(frozen=True)
class DPMSolverPPSingle(SingleStep):
    """DPM-Solver++ 2S and 3S: data predictions at inner nodes lambda_s + r h; `steps` is the number of evaluations.

    x_t = (sigma_t/sigma_s) x_s + alpha_t [psi0 m_s + ...], m_i the prediction at node i, psi as in `expint`.
        order 2 (r = 1/2): + psi0/(2 r) (m_u - m_s) ("midpoint") or psi1/(r h) (m_u - m_s) ("taylor").
        order 3 (r = 1/3, 2/3): m_2 from a stage of second order (r2/r1 psi1(r2 h)/(r2 h) (m_1 - m_s));
            + psi1/(r2 h) (m_2 - m_s) ("midpoint", the official "dpmsolver"), or with the parabola through m_s, m_1,
            m_2 ("taylor"): + psi1/h D1 + psi2/h^2 D2.
    K evaluations are cut into steps by `orders_of`; of a grid of K steps only the ends of these steps are used, the
    inner nodes lie between them in lambda, with r fixed.

    Args:
        order: 1, 2 or 3.
        form: "midpoint" or "taylor".
        lower_order_final: whether a budget that is no multiple of 3 is cut as in the paper, ending with order 1; True,
            False, a number of evaluations below which it is, or "auto" for below 10.

    Raises:
        ValueError: for other values than those.

    Source: arXiv 2211.01095, algorithm 1, and its official code (3S); the budget is that of arXiv 2206.00927.

    >>> from mezzotint.core import Gaussian, VP
    >>> d = Gaussian(torch.zeros(2), std=1.0).denoiser(VP())
    >>> DPMSolverPPSingle(order=3).plan(VP(), torch.linspace(1, 0, 9)).calls[-1]
    (0.125,)
    """

    @staticmethod
    def moments(h: float) -> tuple[float, float, float]:
        """See DPMSolverPP.moments."""
        return data_moments(h)

    def stage(self, nodes: Sequence[Node], before: Sequence[Stage], b: tuple[float, ...]) -> Stage:
        """See SingleStep.stage."""
        s, t = nodes[0], nodes[len(b)]
        return Stage(t.sigma / s.sigma, tuple(t.alpha * w for w in b))


def orders_of(
    evaluations: int, order: int, lower: LowerFinal = "auto", first: bool = True, last: bool = True
) -> tuple[int, ...]:
    """How a budget of evaluations is cut into steps of 1 to `order` evaluations.

    With `lower` as in the paper: K = 3 n is [3] * (n - 1) + [2, 1], 3 n + 1 is [3] * n + [1], 3 n + 2 is
    [3] * n + [2]. The step of order 1 costs an order of accuracy, so without `lower` 3 n is [3] * n and 3 n + 1 is
    [3] * (n - 1) + [2, 2]. Order 2 is [2] * (K // 2), and [1] if K is odd, either way.

    Args:
        evaluations: K, >= 1.
        order: 1, 2 or 3.
        lower: True, False, a number of evaluations below which it is done, or "auto" (10).
        first: whether the first step is finite; if not, it is of order - 1 (at least 1).
        last: whether the last step is finite; if not, it is of order 1, and the others lose no order to it.

    >>> orders_of(9, 3), orders_of(10, 3), orders_of(10, 3, last=False)
    ((3, 3, 2, 1), (3, 3, 2, 2), (3, 3, 3, 1))
    """
    if not last:
        return (*(orders_of(evaluations - 1, order, False, first) if evaluations > 1 else ()), 1)
    if not first:
        opening = min(max(order - 1, 1), evaluations)
        rest = evaluations - opening
        return (opening, *(orders_of(rest, order, lower) if rest else ()))
    full, rest = divmod(evaluations, order)
    if order == 3 and rest == 0 and lowers(lower, evaluations):
        return (*(3,) * (full - 1), 2, 1)
    if order == 3 and rest == 1 and full > 0 and not lowers(lower, evaluations):
        return (*(3,) * (full - 1), 2, 2)
    return (*(order,) * full, *((rest,) if rest else ()))


def _inner_nodes(schedule: Schedule, s: Node, h: float, r: tuple[float, ...]) -> tuple[Node, ...]:
    if not r:
        return ()
    return nodes_of(schedule, schedule.t_of(torch.tensor([s.lam + x * h for x in r], dtype=torch.float64)))


def _infinite(s: Node, t: Node, evaluations: int) -> Move:
    """A step from alpha = 0 or to sigma = 0, of one evaluation; or of two from alpha = 0."""
    base = Stage(t.sigma / s.sigma, (t.alpha * psi0(t.lam - s.lam),))
    if evaluations == 1:
        return Move(t, (s.t,), (base,))
    # the trapezoidal rule for u = x / (alpha + sigma), du/dtau = eps - x0, tau = sigma / (alpha + sigma); see Heun
    slope = 0.5 * t.alpha * (1 + t.alpha / t.sigma)
    return Move(t, (s.t, t.t), (base, Stage(base.x, (base.m[0] - slope, slope))))
