"""Batches that can be had in part: what is common to those of images and those of cached latents."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

from mezzotint.data.order import Order, Shuffled

__all__ = ["Rows"]


class Rows(ABC):
    """`batches(step)` is all of `batches.rows(step, range(batches.batch))`; any other neighbouring rows do as well.

    Args:
        count: images of the source.
        order: which of them a step sees; an integer is the batch of `Shuffled(count, batch)`.
    """

    def __init__(self, count: int, order: Order | int) -> None:
        self.order: Order = Shuffled(count, order) if isinstance(order, int) else order

    @property
    def batch(self) -> int:
        """Images a step."""
        return self.order.batch

    def __call__(self, step: int) -> Any:
        """The whole batch of a step."""
        return self.rows(step, range(self.batch))

    @abstractmethod
    def rows(self, step: int, rows: range) -> Any:
        """Those rows of a step's batch, and no work for others.

        Raises:
            ValueError: for rows outside the batch.
        """

    def check(self, rows: range) -> None:
        """Refuse rows that are not neighbouring ones of the batch."""
        if rows.step != 1 or not 0 <= rows.start < rows.stop <= self.batch:
            raise ValueError(f"asked for {rows} of a batch of {self.batch}; give neighbouring rows inside it")
