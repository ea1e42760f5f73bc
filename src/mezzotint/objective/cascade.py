"""Training one denoiser for all levels of a resolution pyramid."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from mezzotint.core import Denoiser, Noise, Schedule
from mezzotint.core.multires import pyramid_of, with_low
from mezzotint.objective.batch import Batch, Loss
from mezzotint.objective.denoise import Denoise
from mezzotint.objective.times import LogNormalSigma, TimeSampling
from mezzotint.objective.weight import EDMWeight

__all__ = ["CascadeLevel", "CascadeObjective", "Corruption", "ShiftedTimes"]

_GOLDEN = (math.sqrt(5) - 1) / 2


@dataclass(frozen=True)
class Corruption:
    """y~ = blur(y) + s n with ln s ~ N(mean, std^2), s at most `most`; the blur is (1, 2, 1) / 4 along every side.

    What a level is told when sampling is not data but what the level below made of noise. A network that has seen
    clean conditions alone copies its artefacts.

    Args:
        mean, std: of ln s, in the units of the level below (standard deviation 0.5).
        most: largest s.
        blur: probability of blurring a sample.

    Raises:
        ValueError: for a std or most that is not positive, or a blur outside [0, 1].

    Source: standard practice of cascades (arXiv 2106.15282); the numbers are our choice for 2509.15342.

    >>> y, s = Corruption()(torch.zeros(2, 1, 4), Noise([0, 1]))
    >>> bool((s <= 0.5).all()), y.shape
    (True, torch.Size([2, 1, 4]))
    """

    mean: float = -3.0
    std: float = 1.0
    most: float = 0.5
    blur: float = 0.2

    def __post_init__(self) -> None:
        if not (self.std > 0 and 0 < self.most <= 0.5 and 0 <= self.blur <= 1):
            raise ValueError(
                f"Corruption got std={self.std}, most={self.most}, blur={self.blur}; expected std > 0, most in "
                "(0, 0.5], which the network is told of, and a probability"
            )

    def __call__(self, y: Float[Tensor, "b c *s"], noise: Noise) -> tuple[Float[Tensor, "b c *s"], Float[Tensor, " b"]]:
        """The corrupted y and the s of each sample, functions of its seed."""
        s = (
            (self.mean + self.std * noise("low level", 0, (), dtype=y.dtype, device=y.device))
            .exp()
            .clamp(max=self.most)
        )
        rows = (-1, *[1] * (y.ndim - 1))
        if self.blur > 0:
            chosen = (noise.uniform("low blur", 0) < self.blur).to(y.device).view(rows)
            y = torch.where(chosen, _blurred(y), y)
        n = noise("low noise", 0, y.shape[1:], dtype=y.dtype, device=y.device)
        return y + s.view(rows) * n, s


@dataclass(frozen=True)
class ShiftedTimes:
    """A distribution of times with sigma / alpha multiplied by k: for LogNormalSigma that adds ln k to its mean.

    Args:
        times: the distribution.
        k: > 0.

    Source: arXiv 2301.11093, section 3.1 (pooling 4 pixels halves the noise); 2509.15342's own shifts are unknown.
    """

    times: TimeSampling
    k: float

    def __post_init__(self) -> None:
        if not 0 < self.k < math.inf:
            raise ValueError(f"ShiftedTimes got k={self.k}; expected a finite factor > 0")

    def __call__(self, noise: Noise, schedule: Schedule) -> Float64[Tensor, " b"]:
        """t_of(lambda(t) - ln k), kept inside (0, 1]."""
        t = self.times(noise, schedule)
        if self.k == 1:
            return t
        return schedule.t_of(schedule.half_log_snr(t) - math.log(self.k)).clamp(1e-6, 1)


@dataclass(frozen=True)
class CascadeObjective:
    """E_l lambda_l E |target - prediction|^2 at level l, told of the corrupted level below: one level a step.

    Tensors of two sizes make no batch, so a step is of one level, the same for all micro-batches and processes: a pure
    function of the step, `at(step)`, from the sequence frac((step + 1) (sqrt(5) - 1) / 2), which gives every stretch
    of steps its share of each level (drawing levels at random would not). Batches are clean data of the highest level;
    the denoiser's pyramid makes the rest of them.

    Args:
        probabilities: q_l, one a level, >= 0; normalised.
        base: loss at one level: target, times, weight, and dropping of the other conditions. Its times are shifted.
        weights: lambda_l; None for ones, which balances levels where losses are means over pixels.
        shifts: k_l on the noise levels; None for factor^(-dims/2), what pooling leaves of noise. Ones: no shift.
        corruption: of the level below; None trains on clean ones.
        drop: probability that a sample is not told of the level below, which keeps a plain high-resolution model and
            allows guidance.

    Raises:
        ValueError: for settings out of range; in a step, for another number of levels than the denoiser's pyramid has.

    Source: in the style of arXiv 2509.15342, whose joint training is stated, its weights and levels are not.

    >>> [CascadeObjective((0.25, 0.75)).at(step).level for step in range(8)]
    [1, 0, 1, 1, 0, 1, 1, 1]
    """

    probabilities: Sequence[float]
    base: Denoise = Denoise("x0", LogNormalSigma(), EDMWeight(0.5))
    weights: Sequence[float] | None = None
    shifts: Sequence[float] | None = None
    corruption: Corruption | None = Corruption()
    drop: float = 0.1

    def __post_init__(self) -> None:
        q = self.probabilities
        if not q or not all(0 <= p < math.inf for p in q) or not sum(q) > 0:
            raise ValueError(f"a cascade got probabilities {list(q)}; expected one >= 0 a level, not all 0")
        for name in ("weights", "shifts"):
            values = getattr(self, name)
            if values is not None and (len(values) != len(q) or not all(0 < v < math.inf for v in values)):
                raise ValueError(f"a cascade of {len(q)} levels got {name}={list(values)}; expected one > 0 a level")
        if not 0 <= self.drop <= 1:
            raise ValueError(f"drop={self.drop}; expected a probability in [0, 1]")

    def at(self, step: int) -> CascadeLevel:
        """The objective of step `step`, from 0: that of one level."""
        u, below = math.fmod((step + 1) * _GOLDEN, 1.0) * math.fsum(self.probabilities), 0.0
        for level, q in enumerate(self.probabilities):
            below += q
            if u < below:
                return CascadeLevel(self, level)
        return CascadeLevel(self, max(level for level, q in enumerate(self.probabilities) if q > 0))


@dataclass(frozen=True)
class CascadeLevel:
    """`CascadeObjective` at one level."""

    cascade: CascadeObjective
    level: int

    def __call__(self, denoiser: Denoiser, batch: Batch, noise: Noise) -> Loss:
        """The loss of a batch of clean data of the highest level; `noise` has one seed a sample.

        Returns:
            total (scalar) and terms: "mse", and the same as "mse <side>".
        """
        own, level, pyramid = self.cascade, self.level, pyramid_of(denoiser)
        if len(own.probabilities) != len(pyramid):
            raise ValueError(
                f"this model was trained for levels {list(pyramid.levels)}; the objective has "
                f"{len(own.probabilities)} probabilities"
            )
        x, c = pyramid.down(batch.x, level), batch.c
        if level > 0:
            low, s = pyramid.down(batch.x, level - 1), 0.0
            if own.corruption is not None:
                low, s = own.corruption(low, noise)
            c = with_low(c, low, s, (noise.uniform("low drop", 0) >= own.drop).to(x.device))
        k = pyramid.noise_factor(level) if own.shifts is None else own.shifts[level]
        loss = replace(own.base, times=ShiftedTimes(own.base.times, k))(denoiser, Batch(x, c), noise)
        total = loss.total if own.weights is None else own.weights[level] * loss.total
        return Loss(total, {**loss.terms, f"mse {pyramid.levels[level]}": loss.terms["mse"]})


def _blurred(y: Tensor) -> Tensor:
    """(1, 2, 1) / 4 along every side, edges repeated."""
    for axis in range(2, y.ndim):
        first, last = y.narrow(axis, 0, 1), y.narrow(axis, y.shape[axis] - 1, 1)
        before = torch.cat([first, y.narrow(axis, 0, y.shape[axis] - 1)], axis)
        after = torch.cat([y.narrow(axis, 1, y.shape[axis] - 1), last], axis)
        y = 0.25 * (before + after) + 0.5 * y
    return y
