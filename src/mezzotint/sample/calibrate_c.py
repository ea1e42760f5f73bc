"""The mixing coefficient of DualFast, chosen by a measure that the caller holds."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from mezzotint.sample.dualfast import DualFast
from mezzotint.sample.loop import Sampler

__all__ = ["Calibration", "calibrate_c"]

_VALUES = (0.0, 0.05, 0.1, 0.15, 0.2, 0.3, 0.5)


@dataclass(frozen=True)
class Calibration:
    """What `calibrate_c` found; printed, it is the curve.

    Args:
        best: the sampler with the best c_max.
        curve: (c_max, measure), in the order tried.
    """

    best: DualFast
    curve: tuple[tuple[float, float], ...]

    def __str__(self) -> str:
        lines = (f"{c:8.3g}  {value:<10.5g}{'  best' if c == self.best.c_max else ''}" for c, value in self.curve)
        return "\n".join(("   c_max  measure", *lines))


def calibrate_c(
    sampler: DualFast, measure: Callable[[Sampler], float], values: Sequence[float] = _VALUES
) -> Calibration:
    """Choose c_max on a grid by a held-out measure.

        best = argmin_c measure(sampler with c_max = c)

    c = 0 is the base, so it belongs into the grid: if it wins, leave DualFast out. A small c wins by chance on a noisy
    measure: use the same seeds for every value, and other data than you report on.

    Args:
        sampler: all but its c_max.
        measure: of a sampler, a finite number, lower is better (a Frechet distance, an error); it does the sampling.
        values: what is tried, each in [0, 1].

    Raises:
        ValueError: no values, one outside [0, 1], or a measure that is not finite.

    Source: arXiv 2506.13058 leaves the choice open; the grid is our choice.

    >>> from mezzotint.sample import DDIM
    >>> calibrate_c(DualFast(DDIM()), lambda s: abs(s.c_max - 0.14)).best.c_max
    0.15
    """
    tried = [replace(sampler, c_max=float(c)) for c in values]
    if not tried:
        raise ValueError("calibrate_c got no value of c_max to try; the default grid is a start")
    curve = []
    for candidate in tried:
        value = float(measure(candidate))
        if not math.isfinite(value):
            raise ValueError(f"the measure at c_max={candidate.c_max} is {value}, not finite; it cannot be compared")
        curve.append((float(candidate.c_max or 0.0), value))
    best = min(range(len(tried)), key=lambda i: curve[i][1])
    return Calibration(tried[best], tuple(curve))
