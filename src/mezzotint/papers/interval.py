"""The 95 % interval of a paired difference, for the few seeds that a demonstration has."""

from __future__ import annotations

import math
from collections.abc import Sequence

# Student's t, two-sided 95 %, for 1 to 30 degrees of freedom.
_T = (
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131,
    2.120, 2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042,
)  # fmt: skip


def paired_interval(ours: Sequence[float], baseline: Sequence[float]) -> tuple[float, float]:
    """The 95 % interval of the mean of `ours - baseline` over paired seeds.

    mean(d) +- t(0.975, n - 1) std(d) / sqrt(n), with d_i = ours_i - baseline_i.

    Args:
        ours, baseline: one value a seed, paired; at least 2.

    Returns:
        (low, high) in the measure's unit.

    Raises:
        ValueError: lengths differ, fewer than 2 pairs, or a value that is not finite.

    >>> low, high = paired_interval([1.0, 1.2, 1.1], [2.0, 2.1, 2.2])
    >>> round(low, 3), round(high, 3)
    (-1.248, -0.752)
    """
    if len(ours) != len(baseline) or len(ours) < 2:
        raise ValueError(f"paired values need equal lengths of at least 2, got {len(ours)} and {len(baseline)}")
    d = [a - b for a, b in zip(ours, baseline, strict=True)]
    if not all(math.isfinite(x) for x in d):
        raise ValueError(f"every value must be finite, got the differences {d}")
    n = len(d)
    mean = math.fsum(d) / n
    half = _t(n - 1) * math.sqrt(math.fsum((x - mean) ** 2 for x in d) / (n - 1) / n)
    return mean - half, mean + half


def _t(freedom: int) -> float:
    if freedom <= len(_T):
        return _T[freedom - 1]
    z = 1.959964  # beyond 30: two terms of the expansion around the normal quantile, good to 1e-4
    return z + (z**3 + z) / (4 * freedom) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * freedom**2)
