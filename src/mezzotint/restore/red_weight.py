"""Weights over noise levels of RED-diff's regulariser, small pieces."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

__all__ = ["RED_WEIGHTS", "ClippedRatio", "LogRatio", "REDWeight", "RatioPower", "red_weight"]


class REDWeight(ABC):
    """w(r) for r = sigma / alpha = e^-lambda, which grows with the noise; inf at alpha = 0.

    As r (eps_hat - eps) = x0 - D(x_t), the regulariser's gradient w (eps_hat - eps) is (w / r) (x0 - D): `pull` is
    w / r, which stays finite where w does not.
    """

    @abstractmethod
    def __call__(self, ratio: float) -> float:
        """w(r), for r > 0."""

    @abstractmethod
    def pull(self, ratio: float) -> float:
        """w(r) / r, for r > 0; its limit at inf."""


@dataclass(frozen=True)
class RatioPower(REDWeight):
    """w = r^p: p = 1 is the paper's inverse SNR, 0 a constant.

    Args:
        p: >= 0. Above 1 the pull is infinite at alpha = 0.

    Raises:
        ValueError: for a negative p.

    >>> RatioPower(2.0)(3.0), RatioPower(1.0).pull(math.inf), RatioPower(0.5).pull(math.inf)
    (9.0, 1.0, 0.0)
    """

    p: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.p < math.inf:
            raise ValueError(f"RatioPower got p={self.p}; expected a finite power >= 0 (1: the paper's weight)")

    def __call__(self, ratio: float) -> float:
        """See REDWeight."""
        return ratio**self.p

    def pull(self, ratio: float) -> float:
        """See REDWeight."""
        return ratio ** (self.p - 1)


@dataclass(frozen=True)
class LogRatio(REDWeight):
    """w = log(1 + r)."""

    def __call__(self, ratio: float) -> float:
        """See REDWeight."""
        return math.log1p(ratio)

    def pull(self, ratio: float) -> float:
        """See REDWeight."""
        return math.log1p(ratio) / ratio if ratio < math.inf else 0.0


@dataclass(frozen=True)
class ClippedRatio(REDWeight):
    """w = min(r, limit).

    Args:
        limit: > 0; 1 in the official code.

    Raises:
        ValueError: unless limit is positive.
    """

    limit: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.limit < math.inf:
            raise ValueError(f"ClippedRatio got limit={self.limit}; expected a finite number > 0")

    def __call__(self, ratio: float) -> float:
        """See REDWeight."""
        return min(ratio, self.limit)

    def pull(self, ratio: float) -> float:
        """See REDWeight."""
        return min(1.0, self.limit / ratio)


RED_WEIGHTS: dict[str, REDWeight] = {
    "inv_snr": RatioPower(1.0),
    "sqrt": RatioPower(0.5),
    "square": RatioPower(2.0),
    "two_thirds": RatioPower(2 / 3),
    "log": LogRatio(),
    "clip": ClippedRatio(),
    "const": RatioPower(0.0),
}


def red_weight(weight: REDWeight | str) -> REDWeight:
    """A weight, or the one of this name.

    Raises:
        ValueError: for an unknown name; lists those that are known.

    Source: names and forms of arXiv 2305.04391, official code ("linear" is called inv_snr here).
    """
    if isinstance(weight, REDWeight):
        return weight
    if weight not in RED_WEIGHTS:
        raise ValueError(f"unknown weight {weight!r}; choose one of {', '.join(RED_WEIGHTS)}, or give a REDWeight")
    return RED_WEIGHTS[weight]
