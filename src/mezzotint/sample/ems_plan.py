"""The plan of DPM-Solver-v3: updates whose coefficients are tensors, one number a coordinate."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from mezzotint.core import Schedule
from mezzotint.sample.ems import EMS
from mezzotint.sample.ems_weights import Transition, relative
from mezzotint.sample.plan import Node, Plan

__all__ = ["EMSPlan", "Update", "as_data", "to_data"]


@dataclass(frozen=True)
class Update:
    """x' = a x + sum_j w_j F_j + const; every tensor has the shape of a sample; F newest first."""

    a: Tensor
    w: tuple[Tensor, ...]
    const: Tensor

    @classmethod
    def of(cls, made: Transition, before: Node, after: Node) -> Update:
        """A transition of y = x / alpha as one of x."""
        return cls(
            made.a * (after.alpha / before.alpha), tuple(after.alpha * w for w in made.w), after.alpha * made.const
        )

    def __call__(self, x: Tensor, F: Sequence[Tensor]) -> Tensor:
        """One kernel for the state and one for each F."""
        total = torch.addcmul(self.const, x, self.a)
        for w, value in zip(self.w, F):
            total = torch.addcmul(total, value, w)
        return total

    def to(self, x: Tensor) -> Update:
        """On x's device, in its dtype."""
        a, const, *w = (value.to(x.device, x.dtype) for value in (self.a, self.const, *self.w))
        return Update(a, tuple(w), const)


@dataclass(frozen=True)
class EMSPlan(Plan):
    """A plan whose rows tell the orders used, while its coefficients are tensors, moved to the device once.

    Args:
        keep: for each step the tensor q of F = x0 + q x, q = -(1 - l) / alpha.
        predict: for each step the update to the next node.
        correct: for each step the update from the node before to the present one; None leaves it as it is.
        start: factor on x before the first step.
    """

    keep: tuple[Tensor, ...] = ()
    predict: tuple[Update, ...] = ()
    correct: tuple[Update | None, ...] = ()
    start: float = 1.0

    @property
    def depth(self) -> int:
        """How many F the updates need at most."""
        return max(len(update.w) for update in (*self.predict, *self.correct) if update is not None)

    def on(self, x: Tensor, schedule: Schedule | None = None) -> EMSPlan:
        """See Plan.on; the coefficients move too."""
        moved = super().on(x, schedule)
        assert isinstance(moved, EMSPlan)
        return replace(
            moved,
            keep=tuple(q.to(x.device, x.dtype) for q in self.keep),
            predict=tuple(update.to(x) for update in self.predict),
            correct=tuple(None if update is None else update.to(x) for update in self.correct),
        )


def as_data(ems: EMS, place: int, node: Node) -> Update:
    """x' = x0, the data prediction at x itself: F + (1 - l) x / alpha."""
    l = _at(ems, place)
    return Update((1 - l) / node.alpha, (torch.ones_like(l),), torch.zeros_like(l))


def to_data(ems: EMS, made: Transition, source: int, node: Node) -> Update:
    """From a node to t = 0 without a further evaluation: by the transition `made` to the last calibrated node e, then
    to the data prediction that is foretold there.

    With g constant over the step, F_e = exp(int_s^e s) (F_s - B_e), and x0 = (1 - l_e) y_e + F_e. With l = 1, s = b = 0
    that is the data prediction of the source, with l = 0, s = -1, b = 0 the one of its noise prediction at e.
    """
    last = ems.levels
    rest = 1 - _at(ems, last)
    shrink, bias = relative(ems, source, last)
    first, *others = (rest * w for w in made.w)
    return Update(rest * made.a / node.alpha, (first + 1 / shrink, *others), rest * made.const - bias / shrink)


def _at(ems: EMS, place: int) -> Tensor:
    return ems.l[place].to("cpu", torch.float64)
