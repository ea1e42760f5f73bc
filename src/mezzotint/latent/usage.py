"""How well a codebook is used."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

__all__ = ["Usage"]


@dataclass(frozen=True)
class Usage:
    """How often each code occurred; add two to count over more batches.

    perplexity = exp(-sum p log p): the number of codes that a uniform use of the same entropy would have, from 1
    (one code only) to the codebook's size.

    Args:
        counts: occurrences of each code.

    >>> usage = Usage.of(torch.tensor([[[0, 1], [1, 0]]]), codes=4)
    >>> round(float(usage.perplexity), 6), usage.dead.tolist()
    (2.0, [False, False, True, True])
    """

    counts: Int[Tensor, " codes"]

    @classmethod
    def of(cls, index: Int[Tensor, "*n"], codes: int) -> Usage:
        """Count the codes in some indices, each in [0, codes)."""
        return cls(torch.bincount(index.flatten(), minlength=codes))

    def __add__(self, other: Usage) -> Usage:
        return Usage(self.counts + other.counts)

    @property
    def perplexity(self) -> Float[Tensor, ""]:
        """exp of the entropy in nats, float64; 0 for no code at all has no meaning and gives NaN."""
        p = self.counts.double() / self.counts.sum()
        return torch.special.entr(p).sum().exp()

    @property
    def dead(self) -> Bool[Tensor, " codes"]:
        """Codes that never occurred."""
        return self.counts == 0
