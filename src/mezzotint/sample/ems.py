"""EMS: empirical model statistics, what DPM-Solver-v3 knows of a model; made once (`calibrate_ems`), kept in a file."""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from mezzotint.core import Denoiser, Schedule
from mezzotint.io.safe import read_state, save_state

__all__ = ["EMS", "ems_grid", "prediction_of", "schedule_mark"]

_FORMAT = "mezzotint-ems-1"
_PROBES = 33  # times at which two schedules are compared
# lambda(1) below this is cut there, as uniform_lambda does: that much noise holds no statistics worth having
_LOWEST_LAMBDA = -5.1
_SAME_TIME = 1e-9


@dataclass(frozen=True, eq=False)
class EMS:
    """l, s and b as functions of lambda, one number a coordinate: the coefficients of DPM-Solver-v3.

    With N = sigma eps - l x and f = N / alpha, along the probability flow (all products per coordinate):
        l = E[diag(sigma d eps / d x)],   s = Cov(f, df/dlambda) / Var(f),   b = E[df/dlambda] - s E[f].
    Special cases: l = 1, s = b = 0 is the data prediction (DPM-Solver++), l = 0, s = -1, b = 0 the noise prediction.

    Args:
        lam: (n,) float64, rising: half-log-SNR, from noise to data.
        t: (n,) float64, falling: the same as times.
        l, s, b: (n, *shape), all of one floating dtype.
        schedule: `schedule_mark` of the denoiser's schedule.
        prediction: `prediction_of` the denoiser; None for statistics that suit any (given by hand).
        about: how they were made (levels, per_level, seed, ...), for people; plain JSON values.

    Raises:
        ValueError: for shapes that disagree, values that are not finite, or grids out of order.

    Source: arXiv 2310.13268, sections 3.1 and 3.2.

    >>> from mezzotint.core import VP
    >>> ems = EMS.fixed(VP(), (3, 8, 8), levels=100)
    >>> ems.shape, ems.levels, round(ems.t_end, 4)
    ((3, 8, 8), 100, 0.001)
    """

    lam: Float64[Tensor, " n"]
    t: Float64[Tensor, " n"]
    l: Float[Tensor, "n *s"]
    s: Float[Tensor, "n *s"]
    b: Float[Tensor, "n *s"]
    schedule: str
    prediction: str | None = None
    about: dict[str, Any] = field(default_factory=dict)
    # what the sampler has made of them before: see `transition`
    _memo: dict[Any, Any] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        n = len(self.lam)
        if self.lam.ndim != 1 or n < 3 or self.t.shape != (n,):
            raise ValueError(
                f"EMS got {tuple(self.lam.shape)} lambdas, {tuple(self.t.shape)} times; expected 3 or more"
            )
        if not bool((self.lam.diff() > 0).all() and (self.t.diff() < 0).all()):
            raise ValueError("EMS got a grid out of order; lambda rises and t falls strictly, from noise to data")
        shapes = {tuple(x.shape) for x in (self.l, self.s, self.b)}
        if len(shapes) != 1 or len(self.l) != n:
            raise ValueError(f"EMS got statistics of shapes {sorted(shapes)}; expected ({n}, *shape) for l, s and b")
        for name in ("lam", "t", "l", "s", "b"):
            if not bool(torch.isfinite(getattr(self, name)).all()):
                raise ValueError(f"EMS got values of {name} that are not finite; calibrate again")

    @property
    def levels(self) -> int:
        """N: intervals of the grid."""
        return len(self.lam) - 1

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one sample."""
        return tuple(self.l.shape[1:])

    @property
    def t_start(self) -> float:
        """The noisiest calibrated time."""
        return float(self.t[0])

    @property
    def t_end(self) -> float:
        """The cleanest calibrated time."""
        return float(self.t[-1])

    @classmethod
    def fixed(
        cls,
        schedule: Schedule,
        shape: tuple[int, ...],
        levels: int = 120,
        *,
        l: float = 1.0,
        s: float = 0.0,
        b: float = 0.0,
        t_start: float | None = None,
        t_end: float = 1e-3,
    ) -> EMS:
        """The same l, s, b everywhere: the default is DPM-Solver++, l = 0 and s = -1 its noise form.

        Raises:
            ValueError: as `ems_grid`.
        """
        lam, t = ems_grid(schedule, levels, t_start, t_end)
        every = (torch.full((levels + 1, *shape), value, dtype=torch.float64) for value in (l, s, b))
        return cls(lam, t, next(every), next(every), next(every), schedule_mark(schedule), None, {"fixed": [l, s, b]})

    def save(self, path: str | Path) -> Path:
        """Write a safetensors file that `load` reads, atomically.

        Raises:
            ValueError: if its folder does not exist.
        """
        path = Path(path)
        if not path.parent.is_dir():
            raise ValueError(f"{path}: there is no folder {path.parent}; make it first")
        head = {"format": _FORMAT, "schedule": self.schedule, "prediction": self.prediction, "about": self.about}
        tensors = {name: getattr(self, name) for name in ("lam", "t", "l", "s", "b")}
        save_state(tensors, path, metadata={"ems": json.dumps(head)})
        return path

    @classmethod
    def load(cls, path: str | Path) -> EMS:
        """Read what `save` wrote.

        Raises:
            ValueError: naming the file, where it is missing, damaged, or no EMS.
        """
        from safetensors import safe_open

        tensors = read_state(path)
        with safe_open(path, "pt") as file:
            told = (file.metadata() or {}).get("ems")
        try:
            head = json.loads(told or "")
            known = head["format"] == _FORMAT
            rest = {"schedule": str(head["schedule"]), "prediction": head["prediction"], "about": dict(head["about"])}
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{path}: no EMS: the file has no such header; `mezzotint calibrate` makes one") from error
        if not known:
            raise ValueError(f"{path}: EMS of format {head['format']!r}; this version reads {_FORMAT}")
        if rest["prediction"] is not None and not isinstance(rest["prediction"], str):
            raise ValueError(f"{path}: the header of these EMS names no prediction: {rest['prediction']!r:.80}")
        if sorted(tensors) != ["b", "l", "lam", "s", "t"]:
            raise ValueError(f"{path}: EMS hold b, l, lam, s and t; this file holds {', '.join(sorted(tensors)[:9])}")
        grid = {tensors[name].dtype for name in ("lam", "t")}
        values = {tensors[name].dtype for name in ("l", "s", "b")}
        if grid != {torch.float64} or len(values) != 1 or not values <= {torch.float32, torch.float64}:
            raise ValueError(f"{path}: EMS hold float64 grids and float32 or float64 statistics, not {grid | values}")
        try:
            return cls(**tensors, **rest)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error

    def check(self, denoiser: Denoiser, shape: tuple[int, ...]) -> None:
        """Refuse a denoiser or samples that these statistics are not of.

        Raises:
            ValueError: for another schedule, prediction or shape; the message holds both.
        """
        self.check_schedule(denoiser.schedule)
        kind = prediction_of(denoiser)
        if self.prediction is not None and kind != self.prediction:
            raise ValueError(
                f"these EMS are of a denoiser that predicts {self.prediction}, but this one predicts {kind}; "
                "calibrate this one"
            )
        if tuple(shape) != self.shape:
            raise ValueError(
                f"these EMS are of samples {self.shape}, but x_T has samples {tuple(shape)}; "
                "another resolution needs a calibration of its own"
            )

    def check_schedule(self, schedule: Schedule) -> None:
        """Refuse another schedule.

        Raises:
            ValueError: with the marks of both.
        """
        mark = schedule_mark(schedule)
        if mark != self.schedule:
            raise ValueError(
                f"these EMS are of the schedule {self.schedule}, but the denoiser has {mark}; calibrate this denoiser"
            )

    def place(self, t: float, lam: float) -> int:
        """The index of the grid nearest in lambda to a time inside the calibrated interval.

        Raises:
            ValueError: for a time outside it.
        """
        if not self.t_end - _SAME_TIME <= t <= self.t_start + _SAME_TIME:
            raise ValueError(
                f"t = {t:.6g} lies outside the interval [{self.t_end:.6g}, {self.t_start:.6g}] that these EMS were "
                "calibrated on, and they are never extrapolated; leave grid= out, or calibrate for this interval"
            )
        return int((self.lam - lam).abs().argmin())


def ems_grid(
    schedule: Schedule, levels: int, t_start: float | None = None, t_end: float = 1e-3
) -> tuple[Float64[Tensor, " n"], Float64[Tensor, " n"]]:
    """lambda and t of levels + 1 nodes, uniform in lambda from t_start to t_end.

    Args:
        schedule: any.
        levels: N, >= 2.
        t_start, t_end: 1 >= t_start > t_end > 0, lambda(t_start) finite. None: 1, or where lambda = -5.1 if lambda(1)
            lies lower (Flow, Cosine), as `uniform_lambda`.

    Raises:
        ValueError: for values outside these ranges.
    """
    if isinstance(levels, bool) or not isinstance(levels, int) or levels < 2:
        raise ValueError(f"levels={levels!r}; expected a whole number >= 2 (the paper's are 120 to 1200)")
    first, start = -math.inf, 1.0
    if t_start is None:
        first = max(_lambda(schedule, 1.0), _LOWEST_LAMBDA)
        start = 1.0 if first > _LOWEST_LAMBDA else float(schedule.t_of(torch.tensor(first, dtype=torch.float64)))
    elif 0 < t_start <= 1:
        first, start = _lambda(schedule, t_start), float(t_start)
    if not 0 < t_end < start <= 1 or not math.isfinite(first):
        raise ValueError(
            f"EMS over times from t_start={t_start} to t_end={t_end}; expected 1 >= t_start > t_end > 0 and a finite "
            "lambda at t_start (Flow and Cosine have none at 1: leave t_start out)"
        )
    lam = torch.linspace(first, _lambda(schedule, t_end), levels + 1, dtype=torch.float64)
    t = schedule.t_of(lam)
    t[0], t[-1] = start, t_end  # known exactly
    return lam, t


def schedule_mark(schedule: Schedule) -> str:
    """A schedule's name and a hash of its values at 33 times: equal marks mean equal schedules.

    >>> from mezzotint.core import Flow
    >>> schedule_mark(Flow())
    'Flow() #c0b4d6c7bd44'
    """
    t = torch.linspace(0, 1, _PROBES, dtype=torch.float64)
    values = torch.stack([schedule.alpha(t), schedule.sigma(t)]).flatten().tolist()
    digest = hashlib.blake2b(" ".join(f"{v:.8e}" for v in values).encode(), digest_size=6).hexdigest()
    name = repr(schedule)
    return f"{type(schedule).__name__ if ' at 0x' in name else name:.160} #{digest}"


def prediction_of(denoiser: Denoiser) -> str:
    """What the innermost denoiser's network predicts ("eps", "v", ...); its class where it has no network."""
    inner: Any = denoiser
    while isinstance(inner, Denoiser) and isinstance(getattr(inner, "denoiser", None), Denoiser):
        inner = inner.denoiser
    kind = getattr(inner, "kind", None)
    return kind if isinstance(kind, str) else type(inner).__name__


def _lambda(schedule: Schedule, t: float) -> float:
    return float(schedule.half_log_snr(torch.tensor(t, dtype=torch.float64)))
