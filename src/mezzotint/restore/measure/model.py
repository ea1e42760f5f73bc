"""What a noise model is: how a measurement is disturbed, and how much of it a restorer is told."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from mezzotint.core import Noise

__all__ = ["InTurn", "MeasurementNoise", "need_finite", "need_positive", "need_range"]


@dataclass(frozen=True, eq=False)
class MeasurementNoise(ABC):
    """A call makes the noisy measurement; row i depends on seed i alone, by the seed contract (purpose "measure ...").

    Restorers suppose Gaussian noise. `spread(y)` is each entry's Gaussian equivalent, the root of the mean square by
    which the noisy entry misses the clean one, its bias included; `level(y)` is one number for all.
    """

    @abstractmethod
    def __call__(self, y: Float[Tensor, "b *m"], noise: Noise) -> Float[Tensor, "b *n"]:
        """The noisy measurement.

        Args:
            y: the clean one, (b, *m).
            noise: one seed a row.

        Raises:
            ValueError: for a measurement that is complex or not of floats, or another number of seeds.
        """

    @abstractmethod
    def spread(self, y: Float[Tensor, "b *m"]) -> Float[Tensor, "b *n"]:
        """The Gaussian-equivalent standard deviation of each entry, in units of y.

        Args:
            y: the clean measurement; of a noisy one the result is an estimate.
        """

    def level(self, y: Float[Tensor, "b *m"]) -> float:
        """The root mean square of `spread(y)`: what a restorer takes as `std`."""
        return math.sqrt(float(self.spread(y).double().square().mean()))

    def _check(self, y: Tensor, noise: Noise | None = None) -> None:
        if y.is_complex() or not y.is_floating_point():
            raise ValueError(
                f"{type(self).__name__} got a {y.dtype} measurement; expected real floats, complex values as pairs of "
                "channels"
            )
        if noise is not None and len(noise) != len(y):
            raise ValueError(
                f"{type(self).__name__} got {len(noise)} seeds for {len(y)} measurements; give one seed a measurement"
            )


@dataclass(frozen=True, eq=False)
class InTurn(MeasurementNoise):
    """Several noises, one after the other: `InTurn((PoissonNoise(50.0), GaussianNoise(0.02)))` as in a camera.

    Each draws numbers of its own, so no two may be of one kind. The variances add up, as if each saw the clean
    measurement.

    Args:
        parts: the first one first.

    Raises:
        ValueError: for no parts, or two of one kind.
    """

    parts: tuple[MeasurementNoise, ...]

    def __post_init__(self) -> None:
        kinds = [type(part).__name__ for part in self.parts]
        if not kinds or len(set(kinds)) < len(kinds):
            raise ValueError(f"InTurn got {', '.join(kinds) or 'nothing'}; expected noises of different kinds")

    def __call__(self, y: Float[Tensor, "b *m"], noise: Noise) -> Float[Tensor, "b *n"]:
        """See MeasurementNoise."""
        for part in self.parts:
            y = part(y, noise)
        return y

    def spread(self, y: Float[Tensor, "b *m"]) -> Float[Tensor, "b *n"]:
        """See above."""
        return torch.stack([part.spread(y) for part in self.parts]).square().sum(0).sqrt()


def need_positive(value: float | int, owner: str, name: str) -> None:
    """Raise ValueError unless the value is finite and above 0."""
    if not 0 < value < math.inf:
        raise ValueError(f"{owner} got {name}={value}; expected a finite number > 0")


def need_range(low: float | int, high: float | int, owner: str) -> None:
    """Raise ValueError unless low < high, both finite."""
    if not -math.inf < low < high < math.inf:
        raise ValueError(f"{owner} got low={low}, high={high}; expected low < high")


def need_finite(y: Tensor, owner: str) -> None:
    """Raise ValueError for NaN or infinity."""
    if not bool(torch.isfinite(y).all()):
        raise ValueError(f"{owner} got a measurement with NaN or infinity")
