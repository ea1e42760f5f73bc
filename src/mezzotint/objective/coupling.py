"""Which noise is mixed into which sample: independent, or the nearest within the batch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

__all__ = ["Coupling", "Independent", "OptimalTransport"]


@runtime_checkable
class Coupling(Protocol):
    """A rearrangement of a batch's noise. The samples, and with them their conditions, stay where they are."""

    def __call__(self, x: Float[Tensor, "b *s"], eps: Float[Tensor, "b *s"]) -> Float[Tensor, "b *s"]:
        """The rows of eps, each once, in another order."""
        ...


@dataclass(frozen=True)
class Independent:
    """Noise as it was drawn."""

    def __call__(self, x: Float[Tensor, "b *s"], eps: Float[Tensor, "b *s"]) -> Float[Tensor, "b *s"]:
        """eps."""
        return eps


@dataclass(frozen=True)
class OptimalTransport:
    """The permutation pi of the batch that minimises sum_i |x_i - eps_pi(i)|^2, exactly.

    Paths from noise to data cross less often, so that what a network must average over is less. Each row of eps is
    used once, so its distribution is untouched. The order is found on the CPU (the device is waited for), at a cost of
    O(size^3): larger batches are coupled in blocks. Batches that are divided (micro-batches, processes) are coupled
    part by part.

    Args:
        size: rows of a block, >= 1 (256: our choice).

    Raises:
        ValueError: for a size below 1, or shapes that differ.
        ImportError: without scipy.

    Source: minibatch coupling: arXiv 2302.00482, 2304.14772; for consistency training: 2502.01441.

    >>> OptimalTransport()(torch.zeros(1, 2), torch.ones(1, 2))
    tensor([[1., 1.]])
    """

    size: int = 256

    def __post_init__(self) -> None:
        if self.size < 1:
            raise ValueError(f"OptimalTransport got size={self.size}; expected a number of rows of at least 1")

    @torch.no_grad()
    def __call__(self, x: Float[Tensor, "b *s"], eps: Float[Tensor, "b *s"]) -> Float[Tensor, "b *s"]:
        """See Coupling."""
        if x.shape != eps.shape:
            raise ValueError(f"x has shape {tuple(x.shape)} and eps {tuple(eps.shape)}; they are coupled row by row")
        order = [rows.start + self._order(x[rows], eps[rows]) for rows in self._blocks(len(x))]
        return eps[torch.cat(order).to(eps.device)]

    def _blocks(self, count: int) -> list[slice]:
        return [slice(start, min(start + self.size, count)) for start in range(0, count, self.size)]

    @staticmethod
    def _order(x: Tensor, eps: Tensor) -> Tensor:
        if len(x) == 1:
            return torch.zeros(1, dtype=torch.int64)
        solve = _solver()
        # |x|^2 and |eps|^2 add the same to every permutation
        gain = x.flatten(1).double() @ eps.flatten(1).double().T
        _, order = solve(gain.cpu().numpy(), maximize=True)  # rows come back in their order
        return torch.from_numpy(order).to(torch.int64)


def _solver():
    try:
        from scipy.optimize import linear_sum_assignment
    except ImportError as error:
        raise ImportError("OptimalTransport needs scipy: pip install 'mezzotint[metrics]'") from error
    return linear_sum_assignment
