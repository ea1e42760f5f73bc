"""Noise(seeds): every random number is a pure function of (seed, purpose, k, position). See docs/seeds.md.

The bits come from Philox 4x64 (counter based), the normals from Box-Muller in float64, so that a draw is the same
alone or in a batch, on any device, after a resume, and whatever was drawn before it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from hashlib import blake2b
from typing import Any

import numpy as np
import torch
from torch import Tensor

__all__ = ["BrownianPath", "Noise", "fold"]

_BLOCK = 1 << 14  # pairs of normals made at once: what is between two kernels stays in the processor's cache


def _digest(*parts: int | str, size: int) -> bytes:
    text = "\x1f".join(f"i{int(p)}" if not isinstance(p, str) else f"s{p}" for p in parts)
    return blake2b(text.encode(), digest_size=size).digest()


def fold(*parts: int | str) -> int:
    """A 63-bit seed made of parts: fold(seed, "train", step, i).

    blake2b of the parts, typed, so that fold(1, 23), fold(12, 3) and fold("1", 23) differ.

    >>> fold(0, "train", 7) == fold(0, "train", 7) != fold(0, "train", 8)
    True
    """
    return int.from_bytes(_digest(*parts, size=8), "little") >> 1


def _box_muller(u: np.ndarray, out: np.ndarray) -> None:
    """sqrt(-2 log(1 - u_0)) (cos, sin)(2 pi u_1) in float64, rounded once into `out`; both (..., 2)."""
    radius = np.log1p(-u[..., 0])
    radius *= -2.0
    np.sqrt(radius, out=radius)
    angle = (2.0 * math.pi) * u[..., 1]
    out[..., 0] = radius * np.cos(angle)
    out[..., 1] = radius * np.sin(angle)


class Noise:
    """Standard normal (or uniform) numbers, one stream per sample.

    Noise(seeds)(purpose, k, shape)[i] depends on (seeds[i], purpose, k) alone. A longer shape begins with the
    numbers of a shorter one (in flat order).

    Args:
        seeds: one integer >= 0 a sample.

    Raises:
        ValueError: for no seed, a negative one or one that is not an integer.

    >>> a = Noise([3, 5])("step", 0, (4,))
    >>> b = Noise([5])("step", 0, (4,))
    >>> torch.equal(a[1], b[0])
    True
    """

    def __init__(self, seeds: Sequence[int]) -> None:
        seeds = list(seeds)
        if not seeds:
            raise ValueError("Noise got no seed; give one integer a sample, for example Noise([0, 1, 2])")
        for seed in seeds:
            if isinstance(seed, bool) or not isinstance(seed, (int, np.integer)) or seed < 0:
                raise ValueError(f"Noise got seed {seed!r}; expected integers >= 0, one a sample")
        self.seeds: tuple[int, ...] = tuple(int(s) for s in seeds)

    def __len__(self) -> int:
        return len(self.seeds)

    def __repr__(self) -> str:
        shown = ", ".join(map(str, self.seeds[:4])) + (", ..." if len(self) > 4 else "")
        return f"Noise([{shown}])"

    def rows(self, index: slice | Sequence[int]) -> Noise:
        """The noise of some of the samples."""
        return Noise(self.seeds[index] if isinstance(index, slice) else [self.seeds[i] for i in index])

    def _uniforms(self, purpose: str, k: int, count: int) -> np.ndarray:
        """(b, count) float64 in [0, 1) with 53 random bits each."""
        out = np.empty((len(self), count))
        # one generator that is given every sample's key: making one a sample costs six times as much
        stream = np.random.Philox(key=0)
        state: Any = stream.state
        for row, seed in zip(out, self.seeds, strict=True):
            state["state"]["key"] = np.frombuffer(_digest(seed, purpose, k, size=16), dtype="<u8").astype(np.uint64)
            stream.state = state
            bits = stream.random_raw(count)
            np.multiply(np.right_shift(bits, np.uint64(11), out=bits), 2.0**-53, out=row)
        return out

    def __call__(
        self,
        purpose: str,
        k: int,
        shape: Sequence[int],
        *,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str | None = None,
    ) -> Tensor:
        """Standard normal numbers, (len(seeds), *shape).

        Args:
            purpose: what the numbers are for ("x_T", "step", ...): other purposes are independent.
            k: which draw of that purpose, an integer (the step).
            shape: shape of one sample.
            dtype: of the result; the numbers are made in float64 and rounded.
            device: of the result; the numbers are made on the CPU.
        """
        size = math.prod(shape)
        half = (size + 1) // 2
        u = self._uniforms(purpose, k, 2 * half).reshape(len(self), half, 2)
        single = dtype == torch.float32
        pair = np.empty((len(self), half, 2), dtype=np.float32 if single else np.float64)
        rows = max(1, _BLOCK // max(1, half))
        for start in range(0, len(self), rows):
            _box_muller(u[start : start + rows], pair[start : start + rows])
        flat = torch.from_numpy(pair).reshape(len(self), 2 * half)[:, :size].contiguous()
        return flat.reshape(len(self), *shape).to(dtype).to(device, non_blocking=True)

    def uniform(
        self,
        purpose: str,
        k: int,
        shape: Sequence[int] = (),
        *,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str | None = None,
    ) -> Tensor:
        """Uniform numbers in [0, 1), (len(seeds), *shape)."""
        u = torch.from_numpy(self._uniforms(purpose, k, math.prod(shape))).reshape(len(self), *shape)
        # rounding to float32 may reach 1.0: keep the half-open interval
        return u.to(dtype).clamp(max=1 - torch.finfo(dtype).eps / 2).to(device)


class BrownianPath:
    """One Brownian path W(t), t in [0, 1], W(0) = 0, per sample: the same path for every grid and query order.

    Dyadic (Levy) construction to depth 20: W at the midpoint of [a, b] is the mean of its ends plus
    sqrt(b - a)/2 times a normal that is keyed by the midpoint. Times are rounded to multiples of 2^-20. The values of
    the latest descent are kept, so that a walk along the path makes each number about once and holds `depth` of them.

    Args:
        noise: the seeds.
        shape: shape of one sample.
        purpose: key of this path; other purposes give independent paths.
        dtype, device: of the values.

    >>> path = BrownianPath(Noise([0]), (2,))
    >>> torch.equal(path(0.5), BrownianPath(Noise([0]), (2,))(0.5))
    True
    """

    depth = 20

    def __init__(
        self,
        noise: Noise,
        shape: Sequence[int],
        purpose: str = "brownian",
        *,
        dtype: torch.dtype = torch.float64,
        device: torch.device | str | None = None,
    ) -> None:
        self._noise, self._shape, self._purpose = noise, tuple(shape), purpose
        self._options = {"dtype": dtype, "device": device}
        self._ends = self._make_ends()
        self._descent: dict[int, Tensor] = {}

    def _draw(self, place: int) -> Tensor:
        return self._noise(self._purpose, place, self._shape, **self._options)  # type: ignore[arg-type]

    def _make_ends(self) -> tuple[Tensor, Tensor]:
        """The values at both ends of the path."""
        end = self._draw(1 << self.depth)
        return torch.zeros_like(end), end

    def _middle(self, low: int, middle: int, high: int, left: Tensor, right: Tensor) -> Tensor:
        """The value at a midpoint, given those at low and high; places in units of 2^-depth."""
        return 0.5 * (left + right) + 0.5 * math.sqrt((high - low) / (1 << self.depth)) * self._draw(middle)

    def _at(self, place: int) -> Tensor:
        low, high = 0, 1 << self.depth
        left, right = self._ends
        before, self._descent = self._descent, {}
        while low < place < high:
            middle = (low + high) // 2
            value = before[middle] if middle in before else self._middle(low, middle, high, left, right)
            self._descent[middle] = value
            if place >= middle:
                low, left = middle, value
            else:
                high, right = middle, value
        return left if place == low else right

    def __call__(self, t: float) -> Tensor:
        """W(t), (b, *shape).

        Raises:
            ValueError: if t is outside [0, 1].
        """
        if not 0 <= t <= 1:
            raise ValueError(f"BrownianPath got t={t}; expected a time in [0, 1]")
        return self._at(round(float(t) * (1 << self.depth)))

    def increment(self, a: float, b: float) -> Tensor:
        """W(b) - W(a), (b, *shape): normal with variance |b - a|."""
        start = self(a)  # first, as in a walk it is where the descent before ended
        return self(b) - start
