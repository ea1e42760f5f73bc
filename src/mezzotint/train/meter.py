"""Metrics between two looks at them: kept on the device, read at once, every step checked."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Literal

import torch
from torch import Tensor

from mezzotint.train.learner import Norms

_Pending = list[tuple[int, list[tuple[str, int, Norms | None]], Tensor]]


class NonFiniteError(ArithmeticError):
    """A loss or another metric of a training step was NaN or infinite."""


class Meter:
    """Gathers each step's metric tensors without reading them, so the device is never waited for.

    Args:
        nonfinite: "stop" raises at the next look; "skip" leaves such a step out of the means and counts it.
        gather: (n,) numbers of this process -> (processes, n) of all; None for one process.

    Attributes:
        steps: steps since the last reading.
        skipped: steps that were not finite, in the whole run.

    >>> meter = Meter()
    >>> meter.add(0, {"loss": torch.tensor(1.0)}); meter.add(1, {"loss": torch.tensor(3.0)})
    >>> meter.read()
    {'loss': 2.0}
    """

    def __init__(
        self,
        nonfinite: Literal["stop", "skip"] = "stop",
        gather: Callable[[Tensor], Tensor] | None = None,
        skipped: int = 0,
    ) -> None:
        self._nonfinite = nonfinite
        self._gather = (lambda values: values[None]) if gather is None else gather
        self._pending: _Pending = []
        self._values: dict[str, list[float]] = {}
        self.steps = 0
        self.skipped = skipped

    def add(self, step: int, metrics: Mapping[str, Tensor | Norms]) -> None:
        """Keep one step's scalars, and the gradient norms of its parameters."""
        self.steps += 1
        if not metrics:
            return
        layout, values = [], []
        for name, value in metrics.items():
            norms = value if isinstance(value, Norms) else None
            numbers = (value.values if isinstance(value, Norms) else value).detach().float().reshape(-1)
            layout.append((name, len(numbers), norms))
            values.append(numbers)
        self._pending.append((step, layout, torch.cat(values)))

    def check(self) -> None:
        """Bring the steps gathered to the host and check each: the one place that waits for the device.

        Raises:
            NonFiniteError: naming the first step that was not finite, its metrics, the first parameter whose
                gradient was not, and the process, where there are several.
        """
        pending, self._pending = self._pending, []
        if not pending:
            return
        table = self._gather(torch.cat([values for _, _, values in pending])).tolist()
        start = 0
        for step, layout, values in pending:
            rows = [row[start : start + len(values)] for row in table]
            start += len(values)
            told = [_read(layout, row) for row in rows]
            if any(not math.isfinite(value) for found in told for value in found.values()):
                if self._nonfinite == "stop":
                    raise NonFiniteError(_complain(step, layout, rows, told))
                self.skipped += 1
                continue
            for name in told[0]:
                self._values.setdefault(name, []).append(math.fsum(found[name] for found in told) / len(told))

    def read(self) -> dict[str, float]:
        """Check, then return each metric's mean over the steps since the last reading, and forget them."""
        self.check()
        means = {name: math.fsum(values) / len(values) for name, values in self._values.items()}
        self._values, self.steps = {}, 0
        return means


def _read(layout: list[tuple[str, int, Norms | None]], row: list[float]) -> dict[str, float]:
    """One process's metrics of a step: scalars as they are, the 2-norm of norms."""
    found, place = {}, 0
    for name, count, norms in layout:
        values = row[place : place + count]
        place += count
        found[name] = math.sqrt(math.fsum(v * v for v in values)) if norms is not None else values[0]
    return found


def _complain(
    step: int,
    layout: list[tuple[str, int, Norms | None]],
    rows: list[list[float]],
    told: list[dict[str, float]],
) -> str:
    # the gradients of all processes are averaged: the culprit has the most that is not finite
    rank = max(range(len(told)), key=lambda r: sum(not math.isfinite(v) for v in told[r].values()))
    bad = ", ".join(f"{name} = {value}" for name, value in told[rank].items() if not math.isfinite(value))
    place, tensor = 0, ""
    for _, count, norms in layout:
        for i, value in enumerate(rows[rank][place : place + count]):
            if norms is not None and not tensor and not math.isfinite(value):
                tensor = f" (first in the gradient of {norms.names()[i]})"
        place += count
    where = f", process {rank}" if len(rows) > 1 else ""
    return (
        f"step {step}{where}: {bad}{tensor}. Nothing was saved after the last good checkpoint; lower the learning "
        "rate, clip gradients harder, or check this step's batch for values that are not finite"
    )
