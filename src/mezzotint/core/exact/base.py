"""What every distribution with a known answer shares: its denoiser."""

from __future__ import annotations

import copy
import math
from abc import ABC, abstractmethod

import torch
from jaxtyping import Float
from torch import Tensor

from mezzotint.core.condition import Condition
from mezzotint.core.denoiser import Denoiser
from mezzotint.core.noise import Noise
from mezzotint.core.prediction import Prediction
from mezzotint.core.schedule import Schedule

__all__ = ["Distribution", "ExactDenoiser"]


class Distribution(ABC):
    """A distribution over x of shape (*s) whose posterior mean E[x | alpha x + sigma eps = x_t] is known.

    All arithmetic is float64, row by row: row i of a batch is the same as row i alone, bit for bit. A distribution
    lives on the CPU; its denoiser works wherever x_t is.
    """

    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        """Number of elements of one sample."""
        return math.prod(self.shape)

    @abstractmethod
    def posterior_mean(self, x: Tensor, alpha: Tensor, sigma: Tensor, c: Condition | None) -> Tensor:
        """E[x0 | x] for flat float64 x (b, n), alpha and sigma (b, 1), sigma > 0."""

    @abstractmethod
    def sample(self, noise: Noise) -> Float[Tensor, "b *s"]:
        """One float64 sample a seed, (len(noise), *s)."""

    @abstractmethod
    def log_prob(self, x: Float[Tensor, "b *s"], alpha: float = 1.0, sigma: float = 0.0) -> Float[Tensor, " b"]:
        """log density of alpha x0 + sigma eps at x, (b,) float64, in nats."""

    def denoiser(self, schedule: Schedule) -> ExactDenoiser:
        """The exact denoiser of this distribution under a schedule."""
        return ExactDenoiser(self, schedule)

    def on(self, device: torch.device) -> Distribution:
        """The same distribution with its tensors on a device."""
        moved = copy.copy(self)
        for name, value in vars(self).items():
            if isinstance(value, Tensor):
                setattr(moved, name, value.to(device))
        return moved

    def flat(self, x: Tensor) -> Tensor:
        """(b, *s) -> (b, n) float64.

        Raises:
            ValueError: if x has another sample shape.
        """
        if tuple(x.shape[1:]) != self.shape:
            raise ValueError(f"x has samples of shape {tuple(x.shape[1:])}; this distribution has {self.shape}")
        return x.to(torch.float64).reshape(len(x), self.size)


class ExactDenoiser(Denoiser):
    """The posterior mean of a known distribution, as a Denoiser: the ground truth that methods are measured against.

    At sigma = 0 it returns x_t / alpha. Arithmetic in float64; the result has x_t's dtype.
    """

    def __init__(self, distribution: Distribution, schedule: Schedule) -> None:
        super().__init__(schedule)
        self.distribution = distribution
        self._on = {torch.device("cpu"): distribution}

    def forward(self, x_t: Float[Tensor, "b *s"], t: Float[Tensor, " b"], c: Condition | None = None) -> Prediction:
        """See Denoiser.forward."""
        if x_t.device not in self._on:
            self._on[x_t.device] = self.distribution.on(x_t.device)
        here = self._on[x_t.device]
        x = here.flat(x_t)
        wide = t.to(torch.float64)
        alpha, sigma = self.schedule.alpha(wide).view(-1, 1), self.schedule.sigma(wide).view(-1, 1)
        noisy = sigma > 0
        mean = here.posterior_mean(x, alpha, torch.where(noisy, sigma, 1.0), c)
        clean = x / torch.where(noisy, 1.0, alpha)
        x0 = torch.where(noisy, mean, clean).reshape(x_t.shape)
        return Prediction("x0", x0.to(torch.promote_types(x_t.dtype, torch.float32)), x_t, t, self.schedule)


def rows_times(x: Tensor, matrix: Tensor) -> Tensor:
    """x @ matrix, one row at a time: a matrix product over the batch would round by its size."""
    return torch.stack([row @ matrix for row in x])


def checked_weights(weights: object, count: int, name: str) -> Tensor:
    """Positive weights, (count,) float64, normalised to sum 1; uniform when None."""
    w = torch.ones(count, dtype=torch.float64) if weights is None else torch.as_tensor(weights, dtype=torch.float64)
    if w.shape != (count,) or not bool((w > 0).all()) or not bool(torch.isfinite(w).all()):
        raise ValueError(f"{name} got weights {w.tolist()}; expected {count} positive finite numbers")
    return w / w.sum()


def log_weights(weights: Tensor, c: Condition | None, batch: int) -> Tensor:
    """log w, (b, k): under a label k < K only component k remains; the label K means the whole mixture."""
    logs = weights.log()
    if c is None or "label" not in c:
        return logs.expand(batch, -1)
    label, k = c["label"].to(logs.device), len(weights)
    # the range is looked at on the CPU only: elsewhere it would wait for the device
    outside = label.device.type == "cpu" and bool(((label < 0) | (label > k)).any())
    if label.shape != (batch,) or outside:
        raise ValueError(
            f"label {label.tolist() if outside else tuple(label.shape)}; expected ({batch},) components "
            f"in 0..{k - 1}, or {k} for all"
        )
    apart = torch.arange(k, device=logs.device) != label[:, None]
    return logs.masked_fill(apart & (label[:, None] < k), -math.inf)


def chosen(noise: Noise, weights: Tensor) -> Tensor:
    """A component index a seed, (b,), drawn with the weights."""
    u = noise.uniform("component", 0, (), dtype=torch.float64)
    return torch.searchsorted(torch.cumsum(weights, 0), u, right=True).clamp(max=len(weights) - 1)
