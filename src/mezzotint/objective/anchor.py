"""A denoising loss at the low-noise end of consistency training."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from mezzotint.objective.levels import Pairs

__all__ = ["DiffusionAnchor"]


@dataclass(frozen=True)
class DiffusionAnchor:
    """weight * mean_{i >= floor((1 - fraction) N)} (sigma_i^-2 + d^-2) mean |f(x_sigma_i) - x|^2, d = sigma_data.

    Near the data the consistency function and the posterior mean are nearly one, and errors made there are handed on
    to every higher level. Reads the output that the consistency loss has made: no evaluation more. The mean is over
    those samples of the batch (of a part, where it is divided) that drew a low level; over none of them it is 0.

    Args:
        fraction: of the levels, from the least noisy, in (0, 1].
        weight: of the term.
        sigma_data: standard deviation of the data.

    Raises:
        ValueError: for settings out of range.

    Source: arXiv 2502.01441, diffusion loss at early timesteps; numbers of its code.

    >>> pairs = Pairs(torch.tensor([80.0]).double(), torch.tensor([60.0]).double(), torch.tensor([0]), 11)
    >>> DiffusionAnchor()(torch.zeros(1, 2), torch.ones(1, 2), pairs).item()
    0.0
    """

    fraction: float = 0.25
    weight: float = 5.0
    sigma_data: float = 0.5

    def __post_init__(self) -> None:
        if not (0 < self.fraction <= 1 and self.weight >= 0 and self.sigma_data > 0):
            raise ValueError(
                f"DiffusionAnchor got fraction={self.fraction}, weight={self.weight}, sigma_data={self.sigma_data}; "
                "expected a fraction in (0, 1], a weight >= 0 and sigma_data > 0"
            )

    @property
    def name(self) -> str:
        """ "anchor"."""
        return "anchor"

    def first(self, count: int) -> int:
        """The first of N = `count` levels that belongs."""
        return int((1 - self.fraction) * count + 1e-9)  # what is whole but for rounding stays whole

    def __call__(self, x: Float[Tensor, "b *s"], out: Float[Tensor, "b *s"], pairs: Pairs) -> Float[Tensor, ""]:
        """The term, for the outputs at pairs.high."""
        belongs = pairs.place >= self.first(pairs.count)
        each = torch.where(belongs, pairs.high**-2 + self.sigma_data**-2, 0) / belongs.sum().clamp(min=1)
        error = (out - x).square().flatten(1).mean(1)
        return self.weight * (each.to(error.device, error.dtype) * error).sum()
