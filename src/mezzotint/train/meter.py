"""Metrics between two looks at them: kept on the device, read at once, every step checked."""

from __future__ import annotations

import math

import torch
from torch import Tensor


class NonFiniteError(ArithmeticError):
    """A loss or another metric of a training step was NaN or infinite."""


class Meter:
    """Gathers each step's metric tensors without reading them, so the device is never waited for.

    >>> meter = Meter()
    >>> meter.add(0, {"loss": torch.tensor(1.0)}); meter.add(1, {"loss": torch.tensor(3.0)})
    >>> meter.read()
    {'loss': 2.0}
    """

    def __init__(self) -> None:
        self._pending: list[tuple[int, list[str], Tensor]] = []
        self._values: dict[str, list[float]] = {}
        self.steps = 0

    def add(self, step: int, metrics: dict[str, Tensor]) -> None:
        """Keep the scalar tensors of one step."""
        self.steps += 1
        if metrics:
            values = torch.stack([v.detach().float().reshape(()) for v in metrics.values()])
            self._pending.append((step, list(metrics), values))

    def check(self) -> None:
        """Bring the steps gathered to the host and check each: the one place that waits for the device.

        Raises:
            NonFiniteError: naming the first step, and its metrics, that were not finite.
        """
        rows, self._pending = self._pending, []
        if not rows:
            return
        flat = iter(torch.cat([values for _, _, values in rows]).tolist())
        for step, names, _ in rows:
            values = {name: next(flat) for name in names}
            if bad := {name: value for name, value in values.items() if not math.isfinite(value)}:
                told = ", ".join(f"{name} = {value}" for name, value in bad.items())
                raise NonFiniteError(
                    f"step {step}: {told}. Nothing was saved after the last good checkpoint; lower the learning "
                    "rate, clip gradients harder, or check this step's batch for values that are not finite"
                )
            for name, value in values.items():
                self._values.setdefault(name, []).append(value)

    def read(self) -> dict[str, float]:
        """Check, then return each metric's mean over the steps since the last reading, and forget them."""
        self.check()
        means = {name: math.fsum(values) / len(values) for name, values in self._values.items()}
        self._values, self.steps = {}, 0
        return means
