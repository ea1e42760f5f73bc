"""Maps between the values of an instrument and the range of a model, [-1, 1], each with its inverse.

A rule (`Window`, `Percentile`, `Uptake`) is fitted to one volume and gives a map; the map is kept with the volume, so
that what a model returns goes back to Hounsfield units, or to the scanner's own.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor

__all__ = ["Amplitude", "Percentile", "RangeMap", "RangeRule", "Uptake", "Window", "fitted", "uptake_factor"]


@runtime_checkable
class RangeMap(Protocol):
    """Values to the range of a model and back."""

    def forward(self, x: Tensor) -> Tensor:
        """To [-1, 1], what lies outside clipped (`Amplitude` does not clip)."""
        ...

    def inverse(self, y: Tensor) -> Tensor:
        """Back to the values' own unit."""
        ...


@runtime_checkable
class RangeRule(Protocol):
    """How the map of a volume is found."""

    def fit(self, x: Tensor, mask: Tensor | None = None) -> RangeMap:
        """The map of these values; where a mask is given, only what is inside it is looked at."""
        ...


@dataclass(frozen=True)
class Window:
    """One window of values for all volumes, such as Hounsfield units of CT: a rule that is its own map.

        y = 2 (clip(x, low, high) - low) / (high - low) - 1

    Args:
        low, high: of the window; -1000 (air) to 1000 HU by default.

    Raises:
        ValueError: unless low < high, both finite.

    >>> window = Window(-1000.0, 1000.0)
    >>> window.forward(torch.tensor([-3000.0, 0.0, 500.0])).tolist()
    [-1.0, 0.0, 0.5]
    >>> window.inverse(torch.tensor([0.5])).tolist()
    [500.0]
    """

    low: float = -1000.0
    high: float = 1000.0

    def __post_init__(self) -> None:
        if not (math.isfinite(self.low) and math.isfinite(self.high) and self.low < self.high):
            raise ValueError(f"Window got low={self.low}, high={self.high}; expected two finite numbers, low < high")

    def fit(self, x: Tensor, mask: Tensor | None = None) -> Window:
        """This window, whatever the values."""
        return self

    def forward(self, x: Tensor) -> Tensor:
        """To [-1, 1], clipped."""
        middle, half = self._parts()
        return ((x - middle) / half).clamp(-1, 1)

    def inverse(self, y: Tensor) -> Tensor:
        """Back; exact to 1e-5 of the width inside the window, in float32."""
        middle, half = self._parts()
        return y * half + middle

    def _parts(self) -> tuple[float, float]:
        return (self.low + self.high) / 2, (self.high - self.low) / 2


@dataclass(frozen=True)
class Percentile:
    """A window of each volume by itself: its `low` and `high` percentile (MR, X-ray), one for all its slices.

    Args:
        low, high: percentiles in [0, 100].
        background: values up to this are not counted (the air of an MR image, which would pull both percentiles
            down); None counts all. A mask given to `fit` takes its place.

    Raises:
        ValueError: unless 0 <= low < high <= 100.

    >>> Percentile(0.0, 100.0, background=None).fit(torch.tensor([2.0, 4.0, 10.0]))
    Window(low=2.0, high=10.0)
    """

    low: float = 0.5
    high: float = 99.5
    background: float | None = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.low < self.high <= 100:
            raise ValueError(f"Percentile got {self.low} and {self.high}; expected 0 <= low < high <= 100")

    def fit(self, x: Tensor, mask: Tensor | None = None) -> Window:
        """The window of these values.

        Raises:
            ValueError: for values that are not finite, an empty foreground, or one where all values are equal.
        """
        _check_finite(x)
        if mask is not None:
            if mask.dtype != torch.bool or mask.shape[-3:] != x.shape[-3:]:
                raise ValueError(
                    f"the mask is {mask.dtype} of shape {tuple(mask.shape)} for values of {tuple(x.shape)}; "
                    "expected bool of the same space"
                )
            values = x[mask.expand_as(x)]
        else:
            values = x if self.background is None else x[x > self.background]
        if values.numel() == 0:
            raise ValueError(
                f"no value is above the background of {self.background}; give Percentile(background=None), or a mask"
            )
        low, high = np.percentile(values.detach().cpu().double().numpy(), [self.low, self.high])
        if not low < high:
            raise ValueError(f"percentiles {self.low} and {self.high} of this volume are both {low}; give a Window")
        return Window(float(low), float(high))


@dataclass(frozen=True)
class Uptake:
    """Standardised uptake values of PET: [0, scale] to [-1, 1], through a square root if wanted (Poisson data).

        y = 2 (clip(x, 0, scale) / scale)^p - 1,   p = 1/2 with root, else 1

    Args:
        scale: uptake that becomes 1 (10 is our choice).
        root: whether to take the square root, which spreads low uptake.

    Raises:
        ValueError: for a scale that is not positive.

    >>> Uptake(8.0, root=True).forward(torch.tensor([2.0])).tolist()
    [0.0]
    """

    scale: float = 10.0
    root: bool = False

    def __post_init__(self) -> None:
        if not 0 < self.scale < math.inf:
            raise ValueError(f"Uptake got scale={self.scale}; expected a finite number > 0")

    def fit(self, x: Tensor, mask: Tensor | None = None) -> Uptake:
        """This map, whatever the values."""
        return self

    def forward(self, x: Tensor) -> Tensor:
        """To [-1, 1], clipped."""
        part = x.clamp(0, self.scale) / self.scale
        return 2 * (part.sqrt() if self.root else part) - 1

    def inverse(self, y: Tensor) -> Tensor:
        """Back to uptake values."""
        part = (y + 1) / 2
        return self.scale * (part * part.abs() if self.root else part)


@dataclass(frozen=True)
class Amplitude:
    """Complex images as two real channels: divided by one amplitude, so that phase stays; nothing is clipped.

    Args:
        scale: the amplitude that becomes 1; None: that of the volume `fit` is given, max |x| over channels 2i, 2i + 1.

    Raises:
        ValueError: for a scale that is not positive.

    >>> Amplitude().fit(torch.tensor([3.0, 4.0]).view(2, 1, 1, 1))
    Amplitude(scale=5.0)
    """

    scale: float | None = None

    def __post_init__(self) -> None:
        if self.scale is not None and not 0 < self.scale < math.inf:
            raise ValueError(f"Amplitude got scale={self.scale}; expected a finite number > 0")

    def fit(self, x: Tensor, mask: Tensor | None = None) -> Amplitude:
        """The amplitude of these values, (2c, d, h, w).

        Raises:
            ValueError: for an odd number of channels, values that are not finite, or all 0.
        """
        if self.scale is not None:
            return self
        if len(x) % 2:
            raise ValueError(f"complex values are pairs of channels (real, imaginary); got {len(x)} channels")
        _check_finite(x)
        pairs = x.unflatten(0, (-1, 2)).double()
        largest = float(pairs.square().sum(1).max().sqrt())
        if largest == 0:
            raise ValueError("all values are 0; there is no amplitude to divide by")
        return Amplitude(largest)

    def _value(self) -> float:
        if self.scale is None:
            raise ValueError("this Amplitude is a rule; fit it to a volume first")
        return self.scale

    def forward(self, x: Tensor) -> Tensor:
        """x / scale."""
        return x / self._value()

    def inverse(self, y: Tensor) -> Tensor:
        """y scale."""
        return y * self._value()


def fitted(x: Tensor, rule: RangeRule | None, stored: str, mask: Tensor | None = None) -> RangeMap:
    """The map of values by a rule; without one, only what is plainly an 8-bit image, or lies in [-1, 1], passes.

    Args:
        x: (c, d, h, w).
        rule: how; None for values that need none.
        stored: type of the numbers in their file, as "int16".
        mask: where to look.

    Raises:
        ValueError: for values without a known range: integers above 255, negative ones, floats outside [-1, 1].

    >>> fitted(torch.tensor([0.0, 255.0]).view(1, 1, 1, 2), None, "uint8")
    Window(low=0.0, high=255.0)
    """
    _check_finite(x)
    if rule is not None:
        return rule.fit(x, mask)
    low, high = float(x.min()), float(x.max())
    if "int" in stored and 0 <= low and high <= 255:
        return Window(0.0, 255.0)
    if "float" in stored and -1 <= low and high <= 1:
        return Window(-1.0, 1.0)
    raise ValueError(
        f"{stored} values from {low:g} to {high:g} have no known range; give a rule: Window(-1000.0, 1000.0) for CT in "
        "Hounsfield units, Percentile() for MR and X-ray, Uptake() for PET"
    )


def uptake_factor(dose: float, weight: float, seconds: float = 0.0, half_life: float = 6586.2) -> float:
    """What turns Bq/ml into a standardised uptake value (by body weight).

        SUV = activity weight / (dose 2^(-seconds / half_life))

    Args:
        dose: injected activity, Bq.
        weight: of the body, g.
        seconds: from injection to scan, where the activity was not corrected for decay already; else 0.
        half_life: of the tracer, seconds; fluorine-18 by default.

    Raises:
        ValueError: for a dose, weight or half-life that is not positive.

    >>> round(uptake_factor(350e6, 70e3), 9)
    0.0002
    """
    if not (dose > 0 and weight > 0 and half_life > 0 and math.isfinite(seconds)):
        raise ValueError(
            f"uptake_factor got dose={dose} Bq, weight={weight} g, seconds={seconds}, half_life={half_life}; expected "
            "positive numbers"
        )
    return weight / (dose * 2 ** (-seconds / half_life))


def _check_finite(x: Tensor) -> None:
    if not bool(torch.isfinite(x).all()):
        raise ValueError("the volume holds NaN or infinity; fill such voxels before its range is mapped")
