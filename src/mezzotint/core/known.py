"""What is known of a tensor of times without reading it: its one number, and alpha and sigma there, as floats.

A sampler's times come from its plan, which has all of these in float64. They travel with the tensor, so that a guide
that looks at the time need not wait for the device, and so that the conversions of `Prediction` are two kernels with
float coefficients in place of a schedule evaluated in a dozen. A tensor that carries nothing is evaluated as ever.
"""

from __future__ import annotations

from torch import Tensor

from mezzotint.core.schedule import Schedule

__all__ = ["known_levels", "known_time", "mark_time", "spread_time"]

Levels = tuple[Schedule, float, float]


def mark_time(t: Tensor, time: float, levels: Levels | None = None) -> Tensor:
    """`t`, all of whose entries are `time`, made to carry it; levels: a schedule with its alpha and sigma there."""
    setattr(t, "known_time", time)  # noqa: B010 (Tensor declares no such attribute)
    if levels is not None:
        setattr(t, "known_levels", levels)  # noqa: B010
    return t


def known_time(t: Tensor) -> float | None:
    """The one number in t, if it carries it."""
    return getattr(t, "known_time", None)


def known_levels(t: Tensor, schedule: Schedule) -> tuple[float, float] | None:
    """alpha and sigma at t, if it carries those of this very schedule."""
    levels: Levels | None = getattr(t, "known_levels", None)
    return None if levels is None or levels[0] is not schedule else levels[1:]


def spread_time(t: Tensor, spread: Tensor) -> Tensor:
    """`spread`, made of copies of t's entries, with what t carries.

    A guide that rearranges the batch hands it on, so that one nearer to the network need not read the time back.
    """
    time = known_time(t)
    return spread if time is None else mark_time(spread, time, getattr(t, "known_levels", None))
