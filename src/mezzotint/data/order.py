"""Which images a training step sees: a pure function of (seed, step), so that a resumed run needs no saved order."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from mezzotint.core.noise import fold

__all__ = ["indices"]


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


@lru_cache(maxsize=4)
def _epoch(seed: int, epoch: int, n: int) -> np.ndarray:
    # raw Philox bits and a stable sort: unlike Generator.permutation these never change with the version of numpy
    bits = np.random.Philox(key=fold(seed, "epoch", epoch)).random_raw(n)
    order = np.argsort(bits, kind="stable").astype(np.int64)
    order.flags.writeable = False
    return order
