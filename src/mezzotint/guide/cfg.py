"""Classifier-free guidance, in one batched call."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from mezzotint.core import Condition, Denoiser, Prediction, handles_guidance
from mezzotint.guide.guided import GuidedDenoiser, spread_time

__all__ = ["CFG"]


@dataclass(frozen=True)
class CFG:
    """eps_w = eps_null + w (eps_c - eps_null).

    Written for the data predictions, x0_w = x0_null + w (x0_c - x0_null): the same thing, as x0 is affine in eps at
    a given x_t, and finite at alpha = 0 too. The two predictions come from one call on the batch [null, c].
    w = 1 is the plain conditional call and w = 0 the plain null call, bit for bit and at half the cost.

    Args:
        w: guidance weight, finite and >= 0; 1 means no guidance. A negative weight would push away from the
            condition: exchange it with its null instead (a negative prompt), so that the sign cannot be a slip.

    Raises:
        ValueError: for such a w; when called, for w != 1 without a condition, or one that has no null.

    Source: arXiv 2207.12598, equation 6, in the convention w = 1 + its w.

    >>> from mezzotint.core import GaussianMixture, VP
    >>> exact = GaussianMixture(torch.eye(2), torch.ones(2), torch.ones(2)).denoiser(VP())
    >>> guided = CFG(3.0)(exact)
    >>> label = Condition({"label": torch.tensor([1])}, null={"label": torch.tensor([2])})
    >>> guided(torch.zeros(1, 2), torch.tensor([0.5]), label).x0.shape
    torch.Size([1, 2])
    """

    w: float

    def __post_init__(self) -> None:
        if not 0 <= self.w < math.inf:
            raise ValueError(
                f"guidance weight w={self.w}; expected a finite number >= 0 (1 means no guidance). To move away from "
                "a condition exchange it with its null, as a negative prompt does"
            )

    def __call__(self, denoiser: Denoiser) -> GuidedDenoiser:
        """The guided denoiser.

        Raises:
            ValueError: for a denoiser that has its guidance inside: it would be guided twice.
        """
        if handles_guidance(denoiser):
            raise ValueError(
                f"this denoiser has its guidance inside and would be guided twice by CFG({self.w:g}); leave CFG out, "
                f"and tell it the weight: c=denoiser.told(c, {self.w:g})"
            )
        return _CFGDenoiser(denoiser, float(self.w))


class _CFGDenoiser(GuidedDenoiser):
    def __init__(self, denoiser: Denoiser, w: float) -> None:
        super().__init__(denoiser)
        self.w = w

    def pair(
        self, x_t: Float[Tensor, "b *s"], t: Float[Tensor, " b"], c: Condition | None = None
    ) -> tuple[Prediction, Prediction]:
        """See GuidedDenoiser.pair; two evaluations in one call."""
        if self.w == 1:
            plain = self.denoiser(x_t, t, c)
            return plain, plain
        both = Condition.cat([self._null(c), _given(c)])
        null, cond = self.denoiser(torch.cat([x_t, x_t]), spread_time(t, torch.cat([t, t])), both).x0.chunk(2)
        guided = Prediction.from_x0(torch.lerp(null, cond, self.w), x_t, t, self.schedule)
        return guided, guided.with_x0(cond)

    def forward(self, x_t: Float[Tensor, "b *s"], t: Float[Tensor, " b"], c: Condition | None = None) -> Prediction:
        """See Denoiser.forward."""
        return self.denoiser(x_t, t, self._null(c)) if self.w == 0 else self.pair(x_t, t, c)[0]

    def _null(self, c: Condition | None) -> Condition:
        c = _given(c)
        if not c.null_rows:
            raise ValueError(
                f"guidance w={self.w} needs the null of the condition, but none of {sorted(c)} has one; "
                "make it with Condition(values, null=...) or use w=1"
            )
        return c.null()


def _given(c: Condition | None) -> Condition:
    if c is None:
        raise ValueError("guidance needs a condition; pass c=Condition(...) to the sampler, or use w=1")
    return c
