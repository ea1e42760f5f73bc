"""Pairs from clean pictures: each training sample is degraded by its own seed."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from mezzotint.core import Condition, Denoiser, Noise
from mezzotint.objective.batch import Batch, Loss, Objective
from mezzotint.objective.denoise import Denoise
from mezzotint.restore.measure import MeasurementNoise
from mezzotint.restore.operators import Operator

__all__ = ["Degraded", "Regress"]


@dataclass(frozen=True, eq=False)
class Degraded:
    """An objective over pairs (x, guess of A(x) + n): the guess is what the network is told, as "concat".

    Wraps any objective: `Degraded(A, noise, Denoise("eps", drop=0))` trains SR3 and Palette, with `Bridge()` a process,
    with `Regress()` a regressor; all of them on the same pairs, since these depend on the samples' seeds alone.

    Args:
        operator: A; or Noise -> A of that many rows, for masks and kernels that differ (one seed a row).
        noise: of the measurement, None for none.
        objective: what is trained.
        augment: s > 0: the guess gets noise of standard deviation u s, u uniform in [0, 1) for each sample, and u as
            one more channel, so that the network knows: for cascades. When restoring, give the u that you want
            (`level`).

    Raises:
        ValueError: for a negative augment; when called, where the guess has not the shape of x.

    Source: arXiv 2104.07636 (SR3), 2111.05826 (Palette); augmentation: 2106.15282, section 4.3 (a level told as a
    channel is our choice).

    >>> from mezzotint.core import Flow, X0Denoiser
    >>> from mezzotint.restore.operators import AveragePool
    >>> told = X0Denoiser(lambda x, time, c: c["concat"], Flow())
    >>> Degraded(AveragePool(2), objective=Regress())(told, Batch(torch.ones(1, 1, 4, 4)), Noise([0])).total.item()
    0.0
    """

    operator: Operator | Callable[[Noise], Operator]
    noise: MeasurementNoise | None = None
    objective: Objective = field(default_factory=lambda: Denoise(drop=0.0))
    augment: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.augment < math.inf:
            raise ValueError(f"Degraded got augment={self.augment}; expected a standard deviation >= 0, about 0.2")

    @torch.no_grad()
    def pairs(self, batch: Batch, noise: Noise) -> Batch:
        """The batch with "concat" in its condition."""
        x = batch.x
        operator = self.operator if isinstance(self.operator, Operator) else self.operator(noise)
        y = operator(x)
        guess = operator.guess(y if self.noise is None else self.noise(y, noise))
        if guess.shape != x.shape:
            raise ValueError(f"the guess of the operator is {tuple(guess.shape)} for pictures of {tuple(x.shape)}")
        if self.augment:
            u = noise.uniform("augment", 0, (), dtype=x.dtype, device=x.device)
            z = noise("augment", 1, tuple(x.shape[1:]), dtype=x.dtype, device=x.device)
            guess = torch.cat([guess + self.augment * u.view(-1, *[1] * (x.ndim - 1)) * z, level(x, u)], 1)
        c = batch.c if batch.c is not None else Condition({})
        return Batch(x, c.updated({"concat": guess}))

    def __call__(self, denoiser: Denoiser, batch: Batch, noise: Noise) -> Loss:
        """The loss of a batch of clean pictures; `noise` has one seed a sample."""
        return self.objective(denoiser, self.pairs(batch, noise), noise)


@dataclass(frozen=True)
class Regress:
    """|x - D(0, t = 1, c)|^2: one call from the degraded picture to the mean of what it may have been.

    The baseline that diffusion is compared with. The denoiser must predict x0, or v or the flow where alpha(1) = 0.

    Source: arXiv 2104.07636, section 4 ("regression").
    """

    def __call__(self, denoiser: Denoiser, batch: Batch, noise: Noise) -> Loss:
        """The loss of a batch; no noise is drawn."""
        x = batch.x
        loss = (denoiser(torch.zeros_like(x), x.new_ones(len(x)), batch.c).x0 - x).square().mean()
        return Loss(loss, {"mse": loss.detach()})


def level(x: Tensor, u: Tensor | float) -> Tensor:
    """The channel (b, 1, *s) that tells the share u of the augmentation, for pictures like x.

    Args:
        x: (b, c, *s).
        u: in [0, 1], a number or (b,).
    """
    told = torch.as_tensor(u, dtype=x.dtype, device=x.device).reshape(-1, *[1] * (x.ndim - 1))
    return told.expand(len(x), 1, *x.shape[2:])
