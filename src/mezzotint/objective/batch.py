"""What goes into an objective and what comes out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor

from mezzotint.core import Condition, Denoiser, Noise

__all__ = ["Batch", "Loss", "Objective", "Scheduled"]


@dataclass(frozen=True)
class Batch:
    """Training data of one step: clean samples (b, *s), and what the model is told about them."""

    x: Float[Tensor, "b *s"]
    c: Condition | None = None


@dataclass(frozen=True)
class Loss:
    """A scalar to minimise, and its named parts (scalars, detached by whoever logs them)."""

    total: Float[Tensor, ""]
    terms: Mapping[str, Tensor] = field(default_factory=dict)


Objective = Callable[[Denoiser, Batch, Noise], Loss]


@runtime_checkable
class Scheduled(Protocol):
    """An objective that changes over training (a curriculum): `at` is a pure function of the step."""

    def at(self, step: int) -> Objective:
        """The objective of step `step`, from 0."""
        ...
