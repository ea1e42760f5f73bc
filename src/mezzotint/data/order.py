"""Which images a training step sees: a pure function of (seed, step), so that a resumed run needs no saved order."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from mezzotint.core.noise import fold

__all__ = ["Order", "Shuffled", "indices", "permutation"]


@runtime_checkable
class Order(Protocol):
    """Which images each step sees: a pure function of (seed, step), always `batch` of them.

    Attributes:
        batch: images a step.
    """

    @property
    def batch(self) -> int: ...

    def __call__(self, seed: int, step: int) -> tuple[Int[Tensor, "b"], tuple[int, int] | None]:
        """The indices of a step's images, and the frame (height, width) they share, None for the framing's own."""
        ...


@dataclass(frozen=True)
class Shuffled:
    """The order of `indices`: an endless list of shuffled epochs, cut into batches.

    Args:
        total: images of the source.
        batch: images a step.

    >>> Shuffled(6, 4)(0, 1)[0].tolist() == indices(0, 1, 4, 6).tolist()
    True
    """

    total: int
    batch: int

    def __post_init__(self) -> None:
        indices(0, 0, self.batch, self.total)  # its checks

    def __call__(self, seed: int, step: int) -> tuple[Int[Tensor, "b"], None]:
        """The indices of a step's images; no frame."""
        return indices(seed, step, self.batch, self.total), None


def indices(seed: int, step: int, batch: int, n: int) -> Int[Tensor, "b"]:
    """The rows of step `step`: places step*batch ... step*batch + batch - 1 of an endless list of shuffled epochs.

        row(p) = permutation_{seed, p // n}[p mod n]

    Every epoch is a permutation of its own, keyed by (seed, epoch); a batch may straddle two (or more) epochs.

    Args:
        seed: of the order, an integer >= 0.
        step: of training, from 0.
        batch: images a step, >= 1.
        n: length of the source, >= 1.

    Returns:
        (batch,) int64 on the CPU.

    Raises:
        ValueError: for a negative step or seed, a batch or a length below 1.

    >>> torch.cat([indices(0, step, 4, 6) for step in range(3)]).tolist() == indices(0, 0, 12, 6).tolist()
    True
    """
    if step < 0 or seed < 0:
        raise ValueError(f"the data order got seed={seed}, step={step}; both must be 0 or more")
    if batch < 1 or n < 1:
        raise ValueError(f"the data order got batch={batch} of n={n} images; both must be 1 or more")
    places = range(step * batch, (step + 1) * batch)
    rows = [_epoch(seed, epoch, n) for epoch in range(places[0] // n, places[-1] // n + 1)]
    start = places[0] % n
    return torch.from_numpy(np.concatenate(rows)[start : start + batch])


def permutation(seed: int, epoch: int, n: int) -> np.ndarray:
    """The shuffled list (n,) of one epoch, read-only: a pure function of (seed, epoch, n)."""
    # raw Philox bits and a stable sort: unlike Generator.permutation these never change with the version of numpy
    bits = np.random.Philox(key=fold(seed, "epoch", epoch)).random_raw(n)
    order = np.argsort(bits, kind="stable").astype(np.int64)
    order.flags.writeable = False
    return order


_epoch = lru_cache(maxsize=4)(permutation)
