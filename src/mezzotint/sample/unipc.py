"""UniPC: a multistep predictor, and a corrector that reuses the evaluation at the new node."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from mezzotint.sample.expint import psi0
from mezzotint.sample.lagrange import exponential_weights
from mezzotint.sample.lower_order import LowerFinal, check_lower_final, lowers
from mezzotint.sample.multistep import Multistep, Row
from mezzotint.sample.plan import Node

__all__ = ["UniPC"]


@dataclass(frozen=True, init=False)
class UniPC(Multistep):
    """x_t = (sigma_t/sigma_s) x_s + alpha_t sum_i w_i m_i, w_i = int_0^h e^(u-h) L_i(u) du, h = lambda_t - lambda_s.

    L_i are Lagrange's polynomials in lambda. UniP-p, the predictor, puts them through the last p data predictions m.
    UniC-p, the corrector, takes the same step again through the new node's prediction as well, which the next step
    evaluates anyway: one evaluation a step. The last step is not corrected, and one to sigma = 0 gives x = m.

    Both are linear in the same predictions, so what the corrector adds is sum_i c_i m_i, c = w(UniC) - w(UniP), and
    corrector and next predictor are one row: x' = a x + sum_i (a c_i + b_i) m_i. The states of a run are the
    predicted ones; a step of UniPC-p is p + 2 kernels.

    With few points the paper has simpler weights: B/2 for the difference of predictions at p = 2 (UniP) and p = 1
    (UniC), B = h ("bh1") or 1 - e^-h ("bh2"); for more points B cancels and both variants are the exact integrals.

    UniP-p is of order p, UniPC-p of order p + 1, which is what `order` says; measured 1.0, 2.0, 3.0 and 2.0, 3.0, 4.0.
    The steps of lower order with which a run begins are corrected as well, so that their error is of third order: small
    enough that UniPC-3 measures as 4 even on a grid that starts at little noise (VE with sigma_max = 20, to 320 steps).
    From alpha = 0 the first step is corrected by the trapezoidal rule in sigma/(alpha + sigma), as in `Heun` (our
    choice).

    Args:
        order: p of UniPC-p: 1, 2 or 3, as in the paper and other libraries (so `UniPC(order=2).order` is 3).
        variant: "bh1" or "bh2".
        corrector: False for UniP-p alone.
        lower_order_final: whether the last steps fall back to orders 2 and 1: True (diffusers, official code), False,
            a number of steps below which they do, or "auto" for below 10.

    Raises:
        ValueError: for values other than these.

    Source: arXiv 2302.04867, algorithms 5 to 8 and section 3.4; diffusers for the simpler weights.

    >>> import torch; from mezzotint.core import Gaussian, VP
    >>> d = Gaussian(torch.zeros(2), std=1.0).denoiser(VP())
    >>> UniPC(order=2)(d, torch.ones(1, 2), steps=8).shape
    torch.Size([1, 2])
    """

    p: int
    variant: Literal["bh1", "bh2"]
    corrector: bool
    lower_order_final: LowerFinal

    # written out, because `order` is given as p and read as the order that is reached
    def __init__(
        self,
        order: int = 2,
        variant: Literal["bh1", "bh2"] = "bh2",
        corrector: bool = True,
        lower_order_final: LowerFinal = "auto",
        *,
        p: int | None = None,  # the field's own name, so that dataclasses.replace works
    ) -> None:
        order = order if p is None else p
        if isinstance(order, bool) or order not in (1, 2, 3):
            raise ValueError(f"UniPC got order={order!r}; expected 1, 2 or 3, the p of UniPC-p")
        if variant not in ("bh1", "bh2"):
            raise ValueError(f"UniPC got variant={variant!r}; expected 'bh1' or 'bh2'")
        if not isinstance(corrector, bool):
            raise ValueError(f"UniPC got corrector={corrector!r}; expected True or False")
        check_lower_final("UniPC", lower_order_final)
        values = {"p": order, "variant": variant, "corrector": corrector, "lower_order_final": lower_order_final}
        for name, value in values.items():
            object.__setattr__(self, name, value)

    @property
    def order(self) -> int:  # type: ignore[override]  # the instance's, not the class's
        """p + 1 with the corrector, p without."""
        return self.p + self.corrector

    def row(self, nodes: Sequence[Node], k: int) -> Row:
        """See Multistep.row."""
        s, t = nodes[k], nodes[k + 1]
        weights = [t.alpha * w for w in self._predictor(nodes, k)]
        scale = t.sigma / s.sigma
        if self.corrector and k:
            before = self._correction(nodes, k)
            weights += [0.0] * (len(before) - len(weights))
            for i, c in enumerate(before):
                weights[i] += scale * s.alpha * c
        return Row(scale, tuple(weights))

    def _predictor(self, nodes: Sequence[Node], k: int) -> tuple[float, ...]:
        """The weights of m at nodes k, k - 1, ... in the step from node k, in units of alpha."""
        h, past = self._offsets(nodes, k)
        if len(past) == 1:
            b = 0.5 * self._b(h) / past[0]
            return psi0(h) - b, b
        return exponential_weights(h, (0.0, *past)) if past else (psi0(h),)

    def _correction(self, nodes: Sequence[Node], k: int) -> tuple[float, ...]:
        """What UniC adds at node k: weights of m at nodes k, k - 1, ..., in units of alpha there."""
        h, past = self._offsets(nodes, k - 1)
        if not math.isfinite(h):
            here = nodes[k]
            slope = 0.5 * (1 + here.alpha / here.sigma)
            return slope, -slope
        if past:
            new, *old = exponential_weights(h, (1.0, 0.0, *past))
        else:
            new = 0.5 * self._b(h)
            old = [psi0(h) - new]
        return new, *(c - b for c, b in zip(old, self._predictor(nodes, k - 1)))

    def _b(self, h: float) -> float:
        return h if self.variant == "bh1" else psi0(h)

    def _offsets(self, nodes: Sequence[Node], k: int) -> tuple[float, tuple[float, ...]]:
        """h of step k, and where the earlier predictions lie that it uses, in units of h."""
        steps, s = len(nodes) - 1, nodes[k]
        h = nodes[k + 1].lam - s.lam
        order = min(self.p, k + 1, steps - k if lowers(self.lower_order_final, steps) else self.p)
        earlier = [nodes[k - i].lam for i in range(1, order)]
        if not math.isfinite(h):
            earlier = []
        elif not all(map(math.isfinite, earlier)):
            earlier = earlier[: next(i for i, lam in enumerate(earlier) if not math.isfinite(lam))]
        return h, tuple((lam - s.lam) / h for lam in earlier)
