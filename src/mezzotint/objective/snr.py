"""Weights of distillation: an x0 error counted so that it matters at every noise level, down to SNR = 0."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mezzotint.objective.weight import _r

__all__ = ["SNRPlusOne", "TruncatedSNR"]


@dataclass(frozen=True)
class TruncatedSNR:
    """max(SNR, 1) on the x0 error, SNR = alpha^2 / sigma^2: the larger of the x0 and the eps error of a sample.

    Source: arXiv 2202.00512, section 4; 2210.03142 uses the same losses.

    >>> a, s = torch.tensor([0.8, 0.6]), torch.tensor([0.6, 0.8])
    >>> TruncatedSNR()("x0", a, s).tolist() == (a / s).square().clamp(min=1).tolist()
    True
    """

    def __call__(self, kind: str, alpha: Tensor, sigma: Tensor) -> Tensor:
        """max((alpha r)^2, (sigma r)^2), with r of `mezzotint.objective.weight`."""
        if kind == "x0":
            return torch.maximum((alpha / sigma) ** 2, torch.ones_like(alpha))
        if kind == "eps":
            return torch.maximum((sigma / alpha) ** 2, torch.ones_like(alpha))
        return (torch.maximum(alpha, sigma) * _r(kind, alpha, sigma)) ** 2


@dataclass(frozen=True)
class SNRPlusOne:
    """1 + SNR on the x0 error: the sum of the x0 and the eps error; on variance-preserving schedules the v error.

    Source: arXiv 2202.00512, section 4.

    >>> half = torch.tensor([0.5], dtype=torch.float64).sqrt()
    >>> round(SNRPlusOne()("v", half, half).item(), 6)
    1.0
    """

    def __call__(self, kind: str, alpha: Tensor, sigma: Tensor) -> Tensor:
        """(alpha r)^2 + (sigma r)^2."""
        if kind == "x0":
            return 1 + (alpha / sigma) ** 2
        if kind == "eps":
            return 1 + (sigma / alpha) ** 2
        return (alpha**2 + sigma**2) * _r(kind, alpha, sigma) ** 2
