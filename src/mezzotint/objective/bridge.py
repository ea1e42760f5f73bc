"""Training F(x_t, y, t) -> x on a process between pictures and their degraded twins."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from mezzotint.core import Denoiser, Noise
from mezzotint.objective.batch import Batch, Loss
from mezzotint.objective.times import TimeSampling, UniformTime
from mezzotint.restore.bridge import Process

__all__ = ["Bridge"]


@dataclass(frozen=True)
class Bridge:
    """E_{x, y, eps, t} w(t) |x - F(x_t, y, t)|^p at x_t = a x + b y + c eps; y is the batch's condition "concat".

    With norm "l2" and weight "flat" it is Denoise("x0", drop=0) of a `BridgeDenoiser`, number for number.

    Args:
        norm: "l2" (p = 2, ResShift, I2SB) or "l1" (p = 1, IR-SDE, InDI).
        weight: "flat", or "own": the process's, of each paper's own target (its root with "l1").
        times: the distribution of t.
        least: smaller times are raised to it, since weights are infinite at t = 0; in (0, 1).

    Raises:
        ValueError: for unknown names or a `least` out of range; when called, for a denoiser that is no
            `BridgeDenoiser` or guides of one, or a batch without "concat".

    Source: arXiv 2307.12348, 2301.11699, 2303.11435, 2302.05872, in one form (our choice).

    >>> import torch; from mezzotint.core import Condition
    >>> from mezzotint.restore.bridge import BridgeDenoiser, InDI
    >>> d, y = BridgeDenoiser(lambda x, time, c: c["concat"], InDI()), torch.ones(2, 3)
    >>> Bridge()(d, Batch(y + 2, Condition({"concat": y})), Noise([0, 1])).total.item()
    4.0
    """

    norm: Literal["l1", "l2"] = "l2"
    weight: Literal["flat", "own"] = "flat"
    times: TimeSampling = UniformTime()
    least: float = 1e-3

    def __post_init__(self) -> None:
        if self.norm not in ("l1", "l2") or self.weight not in ("flat", "own"):
            raise ValueError(
                f"Bridge got norm={self.norm!r}, weight={self.weight!r}; expected l1 or l2, and flat or own"
            )
        if not 0 < self.least < 1:
            raise ValueError(f"Bridge got least={self.least}; expected a time in (0, 1), about 0.001")

    def __call__(self, denoiser: Denoiser, batch: Batch, noise: Noise) -> Loss:
        """The loss of a batch; `noise` has one seed a sample.

        Returns:
            total (scalar) and terms: "mse", without the weight.
        """
        x, process = batch.x, denoiser.schedule
        if not isinstance(process, Process):
            raise ValueError(
                f"Bridge trains a BridgeDenoiser, whose schedule is a Process; this one is {type(process).__name__}, "
                "for which Denoise is right"
            )
        if batch.c is None or "concat" not in batch.c:
            raise ValueError("the batch has no degraded pictures; give Condition({'concat': y}), or wrap in Degraded")
        if len(noise) != len(x):
            raise ValueError(f"noise has {len(noise)} seeds for {len(x)} samples; give one a sample")
        t = self.times(noise, process).clamp(min=self.least)
        shape = (-1, *[1] * (x.ndim - 1))
        a, c, w = (f(t).to(x.device, x.dtype).view(shape) for f in (process.alpha, process.sigma, process.weight))
        eps = noise("eps", 0, x.shape[1:], dtype=x.dtype, device=x.device)
        error = denoiser(a * x + c * eps, t.to(x.device, x.dtype), batch.c).x0 - x
        each = error.abs() if self.norm == "l1" else error.square()
        if self.weight == "own":
            each = each * (w.sqrt() if self.norm == "l1" else w)
        return Loss(each.mean(), {"mse": error.detach().square().mean()})
