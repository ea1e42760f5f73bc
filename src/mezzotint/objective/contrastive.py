"""Contrastive loss: a query is to be nearer to its own key than to the keys of the other samples."""

from __future__ import annotations

import warnings
from typing import Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

__all__ = ["FEW", "Gather", "all_ranks", "nce", "own_rank", "warn_if_few"]

FEW = 64  # keys; with fewer a negative is easily told apart (our reading of the paper's batch of 1024)


@runtime_checkable
class Gather(Protocol):
    """Where the keys of the other samples come from."""

    def __call__(self, keys: Float[Tensor, "b d"]) -> tuple[Float[Tensor, "n d"], int]:
        """All keys, and the place among them of this process's (or part's) first; without a gradient."""
        ...


def own_rank(keys: Float[Tensor, "b d"]) -> tuple[Float[Tensor, "n d"], int]:
    """This process's keys alone."""
    return keys, 0


def all_ranks(keys: Float[Tensor, "b d"]) -> tuple[Float[Tensor, "n d"], int]:
    """The keys of every process of `torch.distributed`, in the order of ranks; alone, this process's.

    Every process must bring the same number.
    """
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return own_rank(keys)
    world, rank = torch.distributed.get_world_size(), torch.distributed.get_rank()
    found = [torch.empty_like(keys) for _ in range(world)]
    torch.distributed.all_gather(found, keys.contiguous())
    return torch.cat(found), rank * len(keys)


def nce(
    queries: Float[Tensor, "b d"], keys: Float[Tensor, "b d"], tau: float, *, gather: Gather = own_rank
) -> Float[Tensor, ""]:
    """InfoNCE, one-directional: mean_i -log( exp(q_i.k_i / tau) / sum_j exp(q_i.k_j / tau) ), with |q_i| = |k_j| = 1.

    The positive is in the denominator; the negatives are the other samples' keys. No gradient goes through the keys.
    Products and logarithms are taken in float32 or wider, whatever the networks run in: half precision overflows at a
    small tau. The mean over processes (or over equal parts of a batch) is the loss of the whole batch where `gather`
    brings all of its keys.

    Args:
        queries: (b, d), normalised here.
        keys: (b, d), normalised here; row i is the positive of query i.
        tau: temperature, > 0.
        gather: brings the keys of the other processes.

    Raises:
        ValueError: for shapes that differ, or a tau that is not positive.

    Source: arXiv 1807.03748, equation 4; as used in 2510.12586 (code).

    >>> one = torch.ones(4, 3)
    >>> round(nce(one, one, 0.1).item(), 5)  # ln 4
    1.38629
    """
    if queries.shape != keys.shape:
        raise ValueError(f"nce got queries {tuple(queries.shape)} and keys {tuple(keys.shape)}; expected equal shapes")
    if not tau > 0:
        raise ValueError(f"nce got tau={tau}; expected a temperature > 0")
    dtype = torch.promote_types(torch.promote_types(queries.dtype, keys.dtype), torch.float32)
    with torch.autocast(queries.device.type, enabled=False):
        q = F.normalize(queries.to(dtype), dim=1)
        k, first = gather(F.normalize(keys.detach().to(dtype), dim=1))
        logits = q @ k.detach().T / tau
        own = logits.diagonal(first)
        return (logits.logsumexp(1) - own).mean()


def warn_if_few(samples: int) -> None:
    """Warn where a batch has too few samples for contrast."""
    if samples < FEW:
        warnings.warn(
            f"a contrastive loss over {samples} samples has weak negatives; use a batch of {FEW} or more",
            stacklevel=2,
        )
