"""Plan: every coefficient of a run, made once in float64 on the CPU, as rows of Python floats.

Inside the loop a row is a tuple of floats: no schedule is evaluated, no number is read back from a device. The same
rows come as one device tensor (`table`) for graph replay. Both ends are ordinary nodes: at sigma = 0 lambda is +inf,
at alpha = 0 it is -inf, and the coefficients are the limits there, never a logarithm of zero.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

import torch
from jaxtyping import Float
from torch import Tensor

from mezzotint.core import Schedule
from mezzotint.core.known import mark_time

__all__ = ["Node", "Plan", "check_apart", "nodes_of"]

# Nodes nearer than this in lambda are one level: differences of predictions over such a step are rounding.
_APART = 1e-6


@dataclass(frozen=True)
class Node:
    """One time of a grid: t, alpha(t), sigma(t) and lambda(t) = log(alpha / sigma), which may be +-inf."""

    t: float
    alpha: float
    sigma: float
    lam: float

    @property
    def ratio(self) -> float:
        """sigma / alpha, the noise level in variance-exploding units; inf at alpha = 0."""
        return self.sigma / self.alpha if self.alpha > 0 else math.inf


def nodes_of(schedule: Schedule, times: Float[Tensor, " n"]) -> tuple[Node, ...]:
    """The nodes of a grid, evaluated in float64 on the CPU.

    >>> from mezzotint.core import Flow
    >>> nodes_of(Flow(), torch.tensor([1.0, 0.5, 0.0]))[1]
    Node(t=0.5, alpha=0.5, sigma=0.5, lam=0.0)
    """
    t = times.detach().to("cpu", torch.float64)
    columns = (t, schedule.alpha(t), schedule.sigma(t), schedule.half_log_snr(t))
    return tuple(Node(*row) for row in zip(*(c.tolist() for c in columns), strict=True))


def check_apart(schedule: Schedule, times: Float[Tensor, " n"]) -> None:
    """Refuse a grid along which lambda does not rise, or by next to nothing.

    Raises:
        ValueError: names the first place.
    """
    lam = schedule.half_log_snr(times)
    if bool((lam.diff() > _APART).all()):
        return
    where = int((~(lam.diff() > _APART)).nonzero()[0]) + 1
    before, after = times[where - 1 : where + 1].tolist()
    raise ValueError(
        f"time grid is not monotone in log-SNR at index {where}: t = {before:.9g} and then {after:.9g} have lambda "
        f"{float(lam[where - 1]):.9g} and {float(lam[where]):.9g}; it must grow by 1e-6 at least, so drop nodes that "
        "coincide"
    )


@dataclass(frozen=True)
class Plan:
    """The coefficients of a run.

    Args:
        nodes: n + 1 nodes, from noise to data.
        columns: names of the coefficients, one per entry of a row.
        rows: n rows of floats, one a step.
        calls: for each step the times at which the denoiser is evaluated; their number is the NFE of the step.
    """

    nodes: tuple[Node, ...]
    columns: tuple[str, ...]
    rows: tuple[tuple[float, ...], ...]
    calls: tuple[tuple[float, ...], ...]
    _clock: tuple[tuple[Tensor, ...], ...] | None = field(default=None, compare=False, repr=False)

    @property
    def steps(self) -> int:
        """n."""
        return len(self.rows)

    @property
    def nfe(self) -> int:
        """Network evaluations of the whole run."""
        return sum(map(len, self.calls))

    def on(self, x: Tensor, schedule: Schedule | None = None) -> Plan:
        """The same plan with its times made for a run that starts at x, so that the loop neither copies nor slices.

        With a schedule the times carry alpha and sigma as floats too (`core/known.py`).
        """
        return replace(self, _clock=self._times(x, schedule))

    def time(self, k: int, x: Tensor, call: int = 0) -> Float[Tensor, " b"]:
        """The time of one evaluation of step k, (b,), as a view.

        The tensor carries the number as `known_time`, so that a guide that depends on it need not read it back.
        """
        if self._clock is not None:
            t = self._clock[k][call]
            if t.shape[0] == x.shape[0] and t.dtype is x.dtype and t.device == x.device:
                return t
        number = self.calls[k][call]
        return mark_time(torch.tensor(number, dtype=x.dtype, device=x.device).expand(len(x)), number)

    def table(self, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float64) -> Float[Tensor, "n c"]:
        """The rows as one tensor, (n, len(columns))."""
        return torch.tensor(self.rows, dtype=torch.float64).to(device, dtype)

    def _times(self, x: Tensor, schedule: Schedule | None) -> tuple[tuple[Tensor, ...], ...]:
        flat = [t for step in self.calls for t in step]
        views = torch.tensor(flat, dtype=torch.float64).to(x.device, x.dtype).expand(len(x), -1).unbind(1)
        if schedule is None:
            marked = iter([mark_time(view, t) for view, t in zip(views, flat)])
        else:
            levels = {node.t: (schedule, node.alpha, node.sigma) for node in self.nodes}
            between = [t for t in flat if t not in levels]  # stages inside a step, churned times
            if between:
                made = nodes_of(schedule, torch.tensor(between, dtype=torch.float64))
                levels.update((node.t, (schedule, node.alpha, node.sigma)) for node in made)
            marked = iter([mark_time(view, t, levels[t]) for view, t in zip(views, flat)])
        return tuple(tuple(next(marked) for _ in step) for step in self.calls)
