"""What `bench restore` says of restored pictures, and what making them took."""

from __future__ import annotations

import ctypes
import math
import time
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from mezzotint.bench.peak import CLEAR, peak
from mezzotint.bench.restore_case import Case
from mezzotint.metric import FeatureNet, PerceptualDistance, frechet_distance, psnr, ssim
from mezzotint.metric.reconstruction import consistency

__all__ = ["Cost", "Scores", "cost_of", "scores"]


@dataclass(frozen=True)
class Scores:
    """Of each picture, but for the Fréchet distance of all.

    Args:
        psnr, ssim, perceptual, consistency: (n,).
        frechet: None for fewer than two pictures.
    """

    psnr: Float[Tensor, " n"]
    ssim: Float[Tensor, " n"]
    perceptual: Float[Tensor, " n"]
    consistency: Float[Tensor, " n"]
    frechet: float | None


def scores(made: Float[Tensor, "n 3 h w"], case: Case, extractor: FeatureNet) -> Scores:
    """Of pictures held to [-1, 1], as they are shown; the misfit too.

    Args:
        made: restored pictures.
        case: with their truths and measurements.
        extractor: of the perceptual and the Fréchet distance.
    """
    made = made.clamp(-1, 1)
    features = [extractor.features(x) for x in (made, case.x)]
    return Scores(
        psnr(made, case.x),
        ssim(made, case.x),
        PerceptualDistance(extractor).distances(made, case.x),
        consistency(case.operator, made, case.y),
        frechet_distance(*features) if len(made) > 1 else None,
    )


@dataclass
class Cost:
    """Seconds, and MiB at the peak over what was taken before; None where that cannot be told."""

    seconds: float = 0.0
    memory: float | None = None


class cost_of:
    """Measures what its block takes: of the processor on a CPU, by the clock on a GPU.

    Memory is what torch allocated on a GPU; the resident set on Linux, what is free having been given back first.

    >>> with cost_of(torch.device("cpu")) as cost:
    ...     _ = torch.zeros(10)
    >>> cost.seconds >= 0
    True
    """

    def __init__(self, device: torch.device) -> None:
        self.device, self.cost, self.before = device, Cost(), math.nan

    def __enter__(self) -> Cost:
        """Start."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats(self.device)
            self.before = torch.cuda.memory_allocated(self.device) / 2**20
        elif CLEAR.exists():
            trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc's
            if trim is not None:
                trim(0)
            self.before = peak(self.device, reset=True)
        self.start = self._now()
        return self.cost

    def __exit__(self, *error: object) -> None:
        """Stop."""
        self.cost.seconds = self._now() - self.start
        if not math.isnan(self.before):
            self.cost.memory = peak(self.device) - self.before

    def _now(self) -> float:
        if self.device.type == "cpu":
            return time.process_time()
        torch.cuda.synchronize(self.device)
        return time.perf_counter()
