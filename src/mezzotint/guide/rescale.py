"""Rescaled guidance: the contrast of the conditional prediction, against over-exposure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from mezzotint.core import Condition, Denoiser, Prediction
from mezzotint.guide.guided import GuidedDenoiser

__all__ = ["Rescale"]


@dataclass(frozen=True)
class Rescale:
    """g <- phi g std(p) / std(g) + (1 - phi) g, with g the guided and p the conditional output, std per sample.

    Goes around a guide that keeps both: compose(CFG(7.5), Rescale(0.7)). Leaves w = 1 as it is, bit for bit.

    Args:
        phi: in [0, 1]; the paper uses 0.7.
        of: which output is rescaled: "v" as in the paper, "eps" as for eps models in diffusers, or "x0".

    Raises:
        ValueError: for phi outside [0, 1] or another output; when applied to a denoiser that is not guided.

    Source: arXiv 2305.08891, equations 15 and 16.
    """

    phi: float = 0.7
    of: Literal["v", "eps", "x0"] = "v"

    def __post_init__(self) -> None:
        if not 0 <= self.phi <= 1:
            raise ValueError(f"Rescale got phi={self.phi}; expected a number in [0, 1] (0 does nothing)")
        if self.of not in ("v", "eps", "x0"):
            raise ValueError(f"Rescale got of={self.of!r}; expected 'v', 'eps' or 'x0'")

    def __call__(self, denoiser: Denoiser) -> GuidedDenoiser:
        """The rescaled denoiser."""
        if not isinstance(denoiser, GuidedDenoiser):
            raise ValueError(
                f"Rescale compares a guided prediction with the conditional one, which {type(denoiser).__name__} does "
                "not keep; write compose(CFG(w), Rescale(phi)), and thresholds after it"
            )
        return _RescaledDenoiser(denoiser, self.phi, self.of)


class _RescaledDenoiser(GuidedDenoiser):
    def __init__(self, denoiser: GuidedDenoiser, phi: float, of: str) -> None:
        super().__init__(denoiser)
        self.phi, self.of = phi, of

    def pair(
        self, x_t: Float[Tensor, "b *s"], t: Float[Tensor, " b"], c: Condition | None = None
    ) -> tuple[Prediction, Prediction]:
        """See GuidedDenoiser.pair."""
        assert isinstance(self.denoiser, GuidedDenoiser)
        guided, plain = self.denoiser.pair(x_t, t, c)
        if self.phi == 0 or guided is plain:
            return guided, plain
        value = getattr(guided, self.of)
        wanted, own = _spread(getattr(plain, self.of)), _spread(value)
        # a constant output has no contrast to correct
        ratio = torch.where(own > 0, wanted / torch.where(own > 0, own, 1.0), 1.0)
        return Prediction(self.of, value * (self.phi * ratio + (1 - self.phi)), x_t, t, self.schedule), plain


def _spread(x: Tensor) -> Tensor:
    """sqrt(n) times the standard deviation of each sample, (b, 1, ...).

    Not torch.std: its last bit depends on the size of the batch.
    """
    rows = x.flatten(1)
    return torch.linalg.vector_norm(rows - rows.mean(1, keepdim=True), dim=1).view(-1, *[1] * (x.ndim - 1))
