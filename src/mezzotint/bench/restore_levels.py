"""The noise levels that deepinv's samplers go through, as times of our schedules: so that ours can take the same."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from mezzotint.core import Schedule

__all__ = ["LEVELS", "their_times"]


def _preserving(nfe: int) -> Tensor:
    """Of `VariancePreservingDiffusion`, times uniform from 1 to 0."""
    t = torch.linspace(1, 0, nfe + 1, dtype=torch.float64)
    return torch.expm1(0.1 * t + 0.5 * 19.9 * t**2).sqrt()


def _diffpir(nfe: int) -> Tensor:
    """Of `DiffPIR`: a table of 1000 betas, read at square roots of even steps; its last call changes nothing."""
    table = torch.cumprod(1 - torch.linspace(0.1 / 1000, 20 / 1000, 1000, dtype=torch.float64), 0)
    place = torch.linspace(0, 1000**2, nfe, dtype=torch.float64).sqrt().long()
    place[-1] -= 1
    return torch.cat([((1 - table) / table).sqrt().flip(0)[place], torch.zeros(1, dtype=torch.float64)])


def _ddrm(nfe: int) -> Tensor:
    """Of `DDRM`: even from 1 to 0 for images in [0, 1]; its last call, at 0, is left out."""
    return torch.linspace(2, 0, nfe, dtype=torch.float64)


# our method's name -> network calls -> sigma / alpha for images in [-1, 1], falling to 0
LEVELS = {"dps": _preserving, "pigdm": _preserving, "moment": _preserving, "diffpir": _diffpir, "ddrm": _ddrm}


def their_times(method: str, nfe: int, schedule: Schedule) -> Float[Tensor, " n"]:
    """The grid of deepinv's run of `nfe` calls.

    >>> from mezzotint.core import Flow
    >>> their_times("ddrm", 3, Flow()).round(decimals=4).tolist()  # sigma / alpha = 2, 1, 0
    [0.6667, 0.5, 0.0]
    """
    t = schedule.t_of(-LEVELS[method](nfe)[:-1].log())
    return torch.cat([t, torch.zeros(1, dtype=t.dtype)])
