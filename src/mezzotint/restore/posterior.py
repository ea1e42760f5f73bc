"""Several restorations of one measurement: their mean, their spread, and intervals that are calibrated."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from statistics import NormalDist

import torch
from jaxtyping import Float
from torch import Tensor

from mezzotint.core import Condition, Denoiser, Noise
from mezzotint.core.grid import Grid
from mezzotint.restore.operators import Operator
from mezzotint.restore.restorer import Restorer

__all__ = ["Posterior", "calibrate", "posterior"]

_SAME = 1e-6  # values that are no further apart agree: what is known exactly has intervals of no width


@dataclass(frozen=True, eq=False)
class Posterior:
    """n restorations of each of b measurements.

    Args:
        samples: (n, b, *s).
        sampled: whether the method samples the posterior; else (`Restorer.spread`) the spread says nothing of it.
        factor: by which intervals are widened, of `calibrate`.
    """

    samples: Tensor
    sampled: bool = True
    factor: float = 1.0

    def __len__(self) -> int:
        return len(self.samples)

    @property
    def mean(self) -> Float[Tensor, "b *s"]:
        """Of the samples, (b, *s)."""
        return self.samples.mean(0)

    @property
    def std(self) -> Float[Tensor, "b *s"]:
        """Of the samples (divisor n - 1), (b, *s); NaN for one sample, which has none."""
        if len(self) == 1:
            return torch.full_like(self.samples[0], math.nan)
        return self.samples.std(0)

    def interval(self, level: float = 0.9) -> tuple[Float[Tensor, "b *s"], Float[Tensor, "b *s"]]:
        """mean -+ factor q sqrt(1 + 1 / n) std, the lower and the upper map; q of Student's t with n - 1 degrees.

        With factor = 1, exact samples and a Gaussian posterior each pixel of the truth lies inside with probability
        `level`, at any n. Else only what `calibrate` says holds.

        Raises:
            ValueError: for a level outside (0, 1), or a single sample.
        """
        half = self.factor * self._half(level)
        return self.mean - half, self.mean + half

    def coverage(self, truth: Float[Tensor, "b *s"], level: float = 0.9) -> Float[Tensor, " b"]:
        """The share of each image's pixels that lie in their intervals (values within 1e-6 of one count), (b,).

        Raises:
            ValueError: as interval, and for a truth of another shape.
        """
        return (self._scores(truth, level) <= self.factor).double().flatten(1).mean(1)

    def scaled(self, factor: float) -> Posterior:
        """The same with intervals widened by a factor of `calibrate`, >= 0."""
        if not 0 <= factor < math.inf:
            raise ValueError(f"factor={factor}; expected a finite number >= 0")
        return replace(self, factor=float(factor))

    def _half(self, level: float) -> Tensor:
        if not 0 < level < 1:
            raise ValueError(f"level={level}; expected a share in (0, 1), as 0.9")
        n = len(self)
        if n == 1:
            raise ValueError("one sample has no spread; give two seeds or more, eight for an interval to go by")
        return student(level, n - 1) * math.sqrt(1 + 1 / n) * self.std

    def _scores(self, truth: Tensor, level: float) -> Tensor:
        """By which factor the interval must be widened to reach the truth, (b, *s)."""
        if truth.shape != self.samples.shape[1:]:
            raise ValueError(f"the truth is {tuple(truth.shape)}; expected {tuple(self.samples.shape[1:])}")
        apart, half = ((truth - self.mean).abs() - _SAME).clamp_min(0), self._half(level)
        return torch.where(apart > 0, apart / half, torch.zeros_like(apart))


def posterior(
    method: Restorer,
    d: Denoiser,
    operator: Operator,
    y: Float[Tensor, "b *m"],
    seeds: Sequence[int],
    *,
    std: float = 0.0,
    steps: int | None = None,
    grid: Grid | Tensor | None = None,
    c: Condition | None = None,
    at_once: int = 16,
    on_sample: Callable[[int], object] | None = None,
) -> Posterior:
    """Restore each measurement once a seed.

    Sample j of an image is what the method gives with seeds[j], whatever else is in the batch.

    Args:
        method, d, operator, std, steps, grid: as of a Restorer's call.
        y: b measurements.
        seeds: one a sample.
        c: the condition, b rows.
        at_once: samples in one batch where there is one measurement; of several measurements each sample is a batch.
        on_sample: called with the number of samples that are done.

    Returns:
        samples on y's device, n images of the size of x for each measurement.

    Raises:
        ValueError: for no seed, at_once < 1, a condition of another batch, or what the method refuses.

    >>> from mezzotint.core import VP, Gaussian
    >>> from mezzotint.restore import PiGDM
    >>> from mezzotint.restore.operators import Identity
    >>> d = Gaussian(torch.zeros(2), std=1.0).denoiser(VP())
    >>> posterior(PiGDM(), d, Identity(), torch.zeros(1, 2), [1, 2, 3], std=0.5, steps=4).std.shape
    torch.Size([1, 2])
    """
    seeds = Noise(seeds).seeds  # refuses what are none
    if isinstance(at_once, bool) or not isinstance(at_once, int) or at_once < 1:
        raise ValueError(f"at_once={at_once!r}; expected how many samples to make in one batch, >= 1")
    rows = len(y)
    if c is not None and len(c) and c.batch != rows:
        raise ValueError(f"the condition has {c.batch} rows but there are {rows} measurements; give one row each")
    made, chunk = [], at_once if rows == 1 else 1
    for start in range(0, len(seeds), chunk):
        own = seeds[start : start + chunk]
        told = c.rows([0] * len(own)) if c is not None and len(c) and rows == 1 else c
        noise = Noise(own if rows == 1 else own * rows)
        with torch.no_grad():
            x = method(d, operator, y, noise, std=std, steps=steps, grid=grid, c=told)
        made.append(x[:, None] if rows == 1 else x[None])
        if on_sample is not None:
            on_sample(start + len(own))
    return Posterior(torch.cat(made), method.spread)


def calibrate(posteriors: Sequence[Posterior], truths: Sequence[Tensor], level: float = 0.9) -> float:
    """The factor for `Posterior.scaled` with which intervals keep what they promise on images like these.

    The guarantee: of a new image that is exchangeable with these (same source, operator, noise, method, seeds), the
    expected share of pixels inside their intervals is at least `level`. It is an average over draws of all images,
    these and the new one; it is said of no single image, pixel or region, nor of images from elsewhere.

    With R(q) the mean over the n images of the share of pixels outside at factor q, it is the least q at which
    (n R(q) + 1) / (n + 1) <= 1 - level: conformal risk control with the share outside as the loss.

    Args:
        posteriors: of images whose truth is known and that the model was not trained on; their own factor is not used.
        truths: as many, (b, *s) each.
        level: as of Posterior.interval.

    Raises:
        ValueError: for fewer images than 1 / (1 - level) - 1 (9 at 0.9), single samples, or truths too many of which
            lie outside of intervals that have no width.

    Source: arXiv 2208.02814, theorem 1.
    """
    if len(posteriors) != len(truths):
        raise ValueError(f"{len(posteriors)} posteriors but {len(truths)} truths; give one batch of truths each")
    scores = [row for p, x in zip(posteriors, truths) for row in p._scores(x, level).double().flatten(1)]
    n = len(scores)
    outside = ((n + 1) * (1 - level) - 1) / n if n else -1.0
    if outside < -1e-12:
        need = math.ceil(1 / (1 - level) - 1 - 1e-9)
        raise ValueError(f"calibration at level {level:g} needs {need} images or more; got {n}")
    values, order = torch.cat(scores).sort()
    weights = torch.cat([row.new_full((len(row),), 1 / (n * len(row))) for row in scores])[order]
    above = weights.sum() - weights.cumsum(0)
    factor = float(values[int((above <= outside + 1e-12).nonzero()[0])])
    if not math.isfinite(factor):
        raise ValueError("more pixels than the level leaves lie off intervals of no width: the samples do not differ")
    return factor


def student(level: float, degrees: int) -> float:
    """q with P(|T| <= q) = level for Student's t.

    Source: Abramowitz and Stegun, 26.7.3 and 26.7.4 (the finite sums), 26.7.5 (above 1000 degrees).

    >>> round(student(0.9, 1), 4), round(student(0.9, 7), 4), round(student(0.95, 10**6), 5)
    (6.3138, 1.8946, 1.95997)
    """
    if degrees > 1000:
        z = NormalDist().inv_cdf(0.5 + 0.5 * level)
        return z + (z**3 + z) / (4 * degrees)
    low, high = 0.0, 0.5 * math.pi  # of the angle atan(q / sqrt(degrees))
    for _ in range(60):
        angle = 0.5 * (low + high)
        low, high = (angle, high) if _inside(angle, degrees) < level else (low, angle)
    return math.sqrt(degrees) * math.tan(0.5 * (low + high))


def _inside(angle: float, degrees: int) -> float:
    """P(|T| <= sqrt(degrees) tan(angle))."""
    sine, cosine, odd = math.sin(angle), math.cos(angle), degrees % 2
    term, total = (cosine if odd else 1.0), 0.0
    for j in range(2 + odd, degrees + 1, 2):
        total += term
        term *= cosine**2 * (j - 1) / j
    return 2 / math.pi * (angle + sine * total) if odd else sine * total
