"""Structured noise: simplex noise in octaves, in place of normal numbers, under the same seed contract."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from mezzotint.core.noise import Noise

__all__ = ["Simplex", "SimplexNoise"]

_REACH = 0.5  # square of a lattice point's reach: what keeps the sum smooth across faces
_BLOCK = 1 << 16  # places worked on at once
_STATE = ("eps", "x_T", "step", "stage", "path")


@dataclass(frozen=True)
class Simplex:
    """Settings of simplex noise; a call makes the noise of some seeds, so that it stands where `Noise` does.

        n(p) = (1/c) sum_o decay^o s_o(2^o frequency p),    c^2 = V sum_o decay^2o

    s_o is gradient noise on the simplex lattice, every octave and channel with gradients and a shift of its own: in
    each sample's lattice s(p) = sum_v max(0, 1/2 - r^2)^4 g_v . (p - v), g_v a random direction, whose variance V is
    known in closed form. So every pixel has mean 0 and variance exactly 1, over seeds; one image's mean and variance
    differ, since the coarsest waves may be wider than it.

    Args:
        frequency: of the coarsest octave, waves a pixel.
        octaves: how many, each of twice the frequency.
        decay: amplitude of an octave over the one before.
        purposes: first words of the draws that are structured; other purposes, and uniform numbers, are as `Noise`
            draws them.

    Raises:
        ValueError: for settings that are not positive, or an octave finer than the pixels (frequency above 1).

    Source: AnoDDPM (Wyatt et al. 2022), frequency 2^-6, 6 octaves, decay 0.8, as arXiv 2211.07804 tells it. Our choice:
    independent gradients and a random shift (the original permutes a table and scales nothing to variance 1).

    >>> Simplex()([0, 1])("eps", 0, (1, 8, 8)).shape
    torch.Size([2, 1, 8, 8])
    """

    frequency: float = 2.0**-6
    octaves: int = 6
    decay: float = 0.8
    purposes: tuple[str, ...] = _STATE

    def __post_init__(self) -> None:
        if not (self.frequency > 0 and self.octaves >= 1 and self.decay > 0):
            raise ValueError(
                f"Simplex got frequency={self.frequency}, octaves={self.octaves}, decay={self.decay}; expected positive"
            )
        if self.frequency * 2 ** (self.octaves - 1) > 1:
            raise ValueError(
                f"the finest of {self.octaves} octaves from {self.frequency:g} has more than one wave a pixel; lower "
                "octaves or frequency"
            )

    def __call__(self, seeds: Sequence[int]) -> SimplexNoise:
        """The noise of these samples."""
        return SimplexNoise(seeds, self)


class SimplexNoise(Noise):
    """`Noise` whose normal numbers are simplex noise, for the purposes its settings name.

    A draw of shape (c, w), (c, h, w) or (c, d, h, w) is one image a channel; it depends on (seed, purpose, k, shape).

    Args:
        seeds: one integer >= 0 a sample.
        law: the settings.

    Raises:
        ValueError: for a structured draw whose shape has no axis beyond channels.

    >>> noise, plain = SimplexNoise([3]), Noise([3])
    >>> torch.equal(noise("posterior", 0, (4,)), plain("posterior", 0, (4,)))
    True
    """

    def __init__(self, seeds: Sequence[int], law: Simplex | None = None) -> None:
        super().__init__(seeds)
        self.law = Simplex() if law is None else law

    def __repr__(self) -> str:
        return f"SimplexNoise({list(self.seeds)}, {self.law})"

    def rows(self, index: slice | Sequence[int]) -> SimplexNoise:
        """The noise of some of the samples."""
        return SimplexNoise(super().rows(index).seeds, self.law)

    def __call__(
        self,
        purpose: str,
        k: int,
        shape: Sequence[int],
        *,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str | None = None,
    ) -> Tensor:
        """Structured numbers of mean 0 and variance 1, (len(seeds), *shape); see `Noise`."""
        if purpose.split(" ")[0] not in self.law.purposes:
            return super().__call__(purpose, k, shape, dtype=dtype, device=device)
        if not 2 <= len(shape) <= 4:
            raise ValueError(f"simplex noise of shape {tuple(shape)}: expected (c, w), (c, h, w) or (c, d, h, w)")
        channels, space = shape[0], tuple(shape[1:])
        total = np.zeros((len(self), channels, *space))
        for octave in range(self.law.octaves):
            amplitude = self.law.decay**octave
            total += amplitude * self._octave(purpose, k, octave, channels, space)
        power = sum(self.law.decay ** (2 * octave) for octave in range(self.law.octaves))
        total /= math.sqrt(power * _variance(len(space)))
        return torch.from_numpy(total).to(dtype).to(device, non_blocking=True)

    def _octave(self, purpose: str, k: int, octave: int, channels: int, space: tuple[int, ...]) -> np.ndarray:
        n = len(space)
        frequency = self.law.frequency * 2**octave
        axes = np.meshgrid(*[frequency * np.arange(size) for size in space], indexing="ij")
        skewed = np.stack(axes) + (math.sqrt(n + 1) - 1) / n * sum(axes)  # (n, *space)
        extent = [int(skewed[a].max()) + 3 for a in range(n)]  # lattice points along each skewed axis, shift included
        count = math.prod(extent)
        key = f"simplex {octave} {purpose}"
        shift = super().uniform(f"shift of {key}", k, (channels, n), dtype=torch.float64).numpy()
        normal = super().__call__(key, k, (channels, count, n), dtype=torch.float64).numpy()
        gradient = normal / np.linalg.norm(normal, axis=-1, keepdims=True)
        gradient, shift = gradient.reshape(-1, count, n), shift.reshape(-1, n)
        out = np.empty((len(shift), *space))
        rows = max(1, _BLOCK // math.prod(space))
        for start in range(0, len(shift), rows):
            part = slice(start, start + rows)
            place = skewed[:, None] + shift[part].T.reshape(n, -1, *[1] * n)
            out[part] = _gradient_noise(place, gradient[part], extent)
        return out.reshape(len(self), channels, *space)


def _gradient_noise(place: np.ndarray, gradient: np.ndarray, extent: list[int]) -> np.ndarray:
    """sum_v max(0, 1/2 - r^2)^4 g_v . (p - v) over the corners v of the simplex that holds p.

    Args:
        place: (n, b, *space) skewed coordinates, >= 0.
        gradient: (b, lattice points, n).
        extent: lattice points along each axis.
    """
    n, strides = len(place), [math.prod(extent[a + 1 :]) for a in range(len(place))]
    unskew = (1 - 1 / math.sqrt(n + 1)) / n
    cell = np.floor(place)
    inside = place - cell
    first = sum(cell[a].astype(np.int64) * strides[a] for a in range(n))
    first = first + np.arange(len(gradient)).reshape(-1, *[1] * n) * gradient.shape[1]
    # a simplex's corners are met by stepping along the axes in order of falling coordinate
    rank = [
        sum(
            ((inside[b] > inside[a]) | ((inside[b] == inside[a]) & (b < a))).astype(np.int8) for b in range(n) if b != a
        )
        for a in range(n)
    ]
    columns, total = [np.ascontiguousarray(gradient[..., a]).ravel() for a in range(n)], np.zeros(first.shape)
    for corner in range(n + 1):
        steps = [np.broadcast_to(r < corner, first.shape) for r in rank]
        moved = unskew * sum(inside[a] - steps[a] for a in range(n))
        away = [inside[a] - steps[a] - moved for a in range(n)]
        fall = np.maximum(0.0, _REACH - sum(z * z for z in away))
        fall *= fall
        vertex = first + sum(steps[a] * strides[a] for a in range(n))
        total += fall * fall * sum(columns[a][vertex] * away[a] for a in range(n))
    return total


def _variance(n: int) -> float:
    """Of gradient noise in n dimensions at a random place: lattice density times the integral of one point's square.

    V = sqrt(n + 1) (pi^(n/2) / (n Gamma(n/2))) R^(9 + n/2) B(n/2 + 1, 9),   R = 1/2
    """
    half = n / 2
    beta = math.exp(math.lgamma(half + 1) + math.lgamma(9) - math.lgamma(half + 10))
    sphere = math.pi**half / (n * math.gamma(half))
    return math.sqrt(n + 1) * sphere * _REACH ** (9 + half) * beta
