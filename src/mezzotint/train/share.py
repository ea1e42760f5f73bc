"""Which rows of a step's batch a process, or a part of a step, works on."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

from torch import Tensor

from mezzotint.core.condition import Condition

__all__ = ["Sharded", "own_rows", "rows_of", "samples_in"]


@runtime_checkable
class Sharded(Protocol):
    """Batches that can be had in part, so that a process makes only the rows it works on.

    Attributes:
        batch: samples a step, of all processes together.
    """

    @property
    def batch(self) -> int: ...

    def __call__(self, step: int) -> Any:
        """The whole batch of a step."""
        ...

    def rows(self, step: int, rows: range) -> Any:
        """Those rows of the batch of a step, equal to the same rows of the whole one."""
        ...


def own_rows(batches: Callable[[int], Any], step: int, rank: int, world: int) -> tuple[Any, range]:
    """The part of a step's batch that belongs to process `rank` of `world`, and its places in the whole.

    Args:
        batches: step -> batch; a `Sharded` one is asked for the rows alone.
        step: the step.
        rank, world: this process, and how many there are.

    Raises:
        ValueError: where the batch cannot be shared evenly.

    >>> import torch
    >>> own_rows(lambda step: torch.arange(6), 0, 1, 2)
    (tensor([3, 4, 5]), range(3, 6))
    """
    if isinstance(batches, Sharded):
        rows = _share(batches.batch, rank, world)
        return batches.rows(step, rows), rows
    whole = batches(step)
    rows = _share(samples_in(whole), rank, world)
    return (whole if world == 1 else rows_of(whole, rows)), rows


def samples_in(batch: Any) -> int:
    """How many samples a batch holds: a tensor's rows, or those of its `x`."""
    return len(getattr(batch, "x", batch))


def rows_of(batch: Any, rows: range) -> Any:
    """Some neighbouring rows of a batch: of a tensor, a Condition, or of every such field of a dataclass or mapping.

    >>> import torch
    >>> from mezzotint.objective import Batch
    >>> rows_of(Batch(torch.arange(8.0).view(4, 2)), range(1, 3)).x.tolist()
    [[2.0, 3.0], [4.0, 5.0]]
    """
    part = slice(rows.start, rows.stop)
    if isinstance(batch, Condition):
        return batch.rows(part)
    if isinstance(batch, Tensor):
        return batch[part] if batch.ndim else batch
    if dataclasses.is_dataclass(batch) and not isinstance(batch, type):
        fields = {f.name: getattr(batch, f.name) for f in dataclasses.fields(batch) if f.init}
        return dataclasses.replace(batch, **{name: rows_of(value, rows) for name, value in fields.items()})
    if isinstance(batch, dict):
        return {key: rows_of(value, rows) for key, value in batch.items()}
    if isinstance(batch, (list, tuple)):
        return type(batch)(rows_of(value, rows) for value in batch)
    return batch


def _share(batch: int, rank: int, world: int) -> range:
    if batch % world:
        raise ValueError(
            f"a batch of {batch} samples cannot be shared evenly among {world} processes; "
            f"choose a multiple of {world}, such as {max(batch // world, 1) * world}"
        )
    own = batch // world
    return range(rank * own, (rank + 1) * own)
