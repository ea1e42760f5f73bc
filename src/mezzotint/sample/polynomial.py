"""Multistep solvers that integrate the polynomial through the last predictions, whichever prediction that is."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from mezzotint.sample.interpolate import through
from mezzotint.sample.lower_order import LowerFinal, check_lower_final, lowers
from mezzotint.sample.multistep import Multistep
from mezzotint.sample.plan import Node

__all__ = ["PolynomialMultistep"]


@dataclass(frozen=True)
class PolynomialMultistep(Multistep):
    """What DPM-Solver and DPM-Solver++ share as multistep methods: orders, histories, ends.

    A step of length h integrates f(lambda_s + u) ~ f0 + f' u + f'' u^2/2 against an exponential; `moments` are the
    three integrals, f', f'' come from the polynomial through f0 and the predictions of one or two earlier nodes.

    Args:
        order: 1, 2 or 3.
        lower_order_final: whether the last steps fall back to orders 2 and 1: True, False, a number of steps below
            which they do, or "auto" for below 10.
        form: the weight of f' at order 2: the exact integral ("taylor"), or h/2 times that of f0 ("midpoint").
        third: "exact", or "published" with half the weight of f'': second order, as in the official code, diffusers
            and k-diffusion, to match their pictures.
        start: "plain" takes the first step with order 1 and leaves it there. "corrected" makes up for it in the second
            step, which knows one more prediction: it adds the first step's missing term, so that orders 2 and 3 see
            errors of third order alone. It costs no evaluation. "auto" corrects where the order needs it, which is
            order 3 in its exact form; all else starts as in the papers and in other libraries.

    Raises:
        ValueError: for values other than these.
    """

    order: int = 2  # type: ignore[misc]  # an instance's choice here, a constant of the class elsewhere
    lower_order_final: LowerFinal = "auto"
    form: Literal["midpoint", "taylor"] = "midpoint"
    third: Literal["exact", "published"] = "exact"
    start: Literal["auto", "plain", "corrected"] = "auto"

    def __post_init__(self) -> None:
        name = type(self).__name__
        if isinstance(self.order, bool) or self.order not in (1, 2, 3):
            raise ValueError(f"{name} got order={self.order!r}; expected 1, 2 or 3")
        check_lower_final(name, self.lower_order_final)
        if self.form not in ("midpoint", "taylor"):
            raise ValueError(f"{name} got form={self.form!r}; expected 'midpoint' or 'taylor'")
        if self.third not in ("exact", "published"):
            raise ValueError(f"{name} got third={self.third!r}; expected 'exact' or 'published'")
        if self.start not in ("auto", "plain", "corrected"):
            raise ValueError(f"{name} got start={self.start!r}; expected 'auto', 'plain' or 'corrected'")

    @staticmethod
    @abstractmethod
    def moments(h: float) -> tuple[float, float, float]:
        """The integrals that weigh f0, h f' and h^2 f'' in a step of length h."""

    @staticmethod
    @abstractmethod
    def carry(h: float) -> float:
        """What a step of length h makes of an integral of the step before it."""

    def integral(self, nodes: Sequence[Node], k: int) -> tuple[float, ...]:
        """The weights of f at nodes k, k - 1, k - 2 in the integral of step k, `order` numbers."""
        s, order = nodes[k], self._order_at(nodes, k)
        h = nodes[k + 1].lam - s.lam
        w0, w1, w2 = self.moments(h)
        if order == 2 and self.form == "midpoint":
            w1 = 0.5 * w0
        if self.third == "published":
            w2 = 0.5 * w2
        weights = list(through((w0, w1, w2), *((nodes[k - i].lam - s.lam) / h for i in range(1, order))))
        if k == 1 and order == 2 and self._corrects:
            # the first step lacked w1 (f(lambda_1) - f(lambda_0)) of its own moments
            missing = self.carry(h) * self.moments(s.lam - nodes[0].lam)[1]
            weights = [weights[0] + missing, weights[1] - missing]
        return (*weights, *(0.0,) * (self.order - len(weights)))

    @property
    def _corrects(self) -> bool:
        """Whether the second step makes up for the first."""
        return self.start == "corrected" or (self.start == "auto" and self.order == 3 and self.third == "exact")

    def _order_at(self, nodes: Sequence[Node], k: int) -> int:
        """The order of step k: what was asked for, less where history, the end or an infinite step forbids."""
        steps = len(nodes) - 1
        order = min(self.order, k + 1, steps - k if lowers(self.lower_order_final, steps) else self.order)
        for back in range(order):
            if not math.isfinite(nodes[k + 1 - back].lam - nodes[k - back].lam):
                return max(back, 1)
        return order
