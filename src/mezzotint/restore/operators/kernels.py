"""Blur kernels: odd-sided, non-negative, summing to 1."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from mezzotint.core import Noise

__all__ = ["box_kernel", "disc_kernel", "gaussian_kernel", "motion_kernel", "shake_kernel"]

_FINE = 8  # samples across a pixel


def gaussian_kernel(std: float | int, size: int | None = None) -> Float[Tensor, "k k"]:
    """exp(-r^2 / (2 std^2)), sampled at the centres of pixels.

    Args:
        std: in pixels, > 0.
        size: side; None takes 6 std + 1, odd.

    >>> gaussian_kernel(1.0, 3).sum().item()
    1.0
    """
    if not 0 < std < math.inf:
        raise ValueError(f"std={std}; expected a finite number of pixels > 0")
    half = _half(2 * math.ceil(3 * std) + 1 if size is None else size)
    line = torch.exp(-0.5 * (torch.arange(-half, half + 1, dtype=torch.float64) / std) ** 2)
    return _normal(line[:, None] * line)


def box_kernel(size: int) -> Float[Tensor, "k k"]:
    """The mean over size x size pixels."""
    side = 2 * _half(size) + 1
    return _normal(torch.ones(side, side, dtype=torch.float64))


def disc_kernel(radius: float | int) -> Float[Tensor, "k k"]:
    """A lens out of focus: uniform over a disc of so many pixels, its rim by 8 x 8 samples a pixel."""
    if not 0 < radius < math.inf:
        raise ValueError(f"radius={radius}; expected a finite number of pixels > 0")
    half = math.ceil(radius - 0.5)
    fine = (torch.arange((2 * half + 1) * _FINE, dtype=torch.float64) + 0.5) / _FINE - half - 0.5
    inside = (fine[:, None] ** 2 + fine**2 <= radius**2).double()
    return _normal(torch.nn.functional.avg_pool2d(inside[None, None], _FINE)[0, 0])


def motion_kernel(length: float | int, angle: float | int) -> Float[Tensor, "k k"]:
    """A camera that moves straight during the exposure.

    Args:
        length: pixels, >= 1.
        angle: degrees, anticlockwise from the right.
    """
    if not 1 <= length < math.inf:
        raise ValueError(f"length={length}; expected a finite number of pixels >= 1")
    along = torch.linspace(-(length - 1) / 2, (length - 1) / 2, max(2, math.ceil(length * _FINE)), dtype=torch.float64)
    turn = math.radians(angle)
    return _traced(-along * math.sin(turn), along * math.cos(turn))


def shake_kernel(noise: Noise, reach: float = 5.0, steps: int = 64) -> Float[Tensor, "k k"]:
    """A hand that shakes: a smooth random path, by one seed.

    A walk whose velocity is itself a walk that is drawn back to 0 (our choice), centred on its mean and scaled so that
    no point is farther than `reach`.

    Args:
        noise: one seed.
        reach: pixels, > 0.
        steps: of the path.

    Raises:
        ValueError: for another number of seeds, or a reach that is not positive.
    """
    if len(noise) != 1 or not 0 < reach < math.inf:
        raise ValueError(f"a shake takes one seed and a reach > 0, got {len(noise)} seeds and reach={reach}")
    push = noise("shake", 0, (steps, 2), dtype=torch.float64)[0]
    velocity, path = torch.zeros(2, dtype=torch.float64), torch.zeros(steps, 2, dtype=torch.float64)
    for i in range(1, steps):
        velocity = 0.9 * velocity + 0.3 * push[i]
        path[i] = path[i - 1] + velocity
    path = path - path.mean(0)
    path = path * (reach / path.norm(dim=1).max().clamp_min(1e-9))
    fine = torch.nn.functional.interpolate(path.T[None], size=steps * _FINE, mode="linear", align_corners=True)[0]
    return _traced(fine[0], fine[1])


def _traced(y: Tensor, x: Tensor) -> Tensor:
    """Equal time at every point of a path, shared out to the four pixels around it."""
    half = math.ceil(float(torch.maximum(y.abs().max(), x.abs().max())) - 1e-9)
    side = 2 * half + 1
    kernel = torch.zeros(side + 1, side + 1, dtype=torch.float64)
    row, column = (y + half).floor(), (x + half).floor()
    dy, dx = y + half - row, x + half - column
    for down, along, weight in (
        (0, 0, (1 - dy) * (1 - dx)),
        (0, 1, (1 - dy) * dx),
        (1, 0, dy * (1 - dx)),
        (1, 1, dy * dx),
    ):
        kernel.index_put_(((row + down).long(), (column + along).long()), weight, accumulate=True)
    return _normal(kernel[:side, :side])


def _half(size: int) -> int:
    if isinstance(size, bool) or not isinstance(size, int) or size < 1 or size % 2 == 0:
        raise ValueError(f"size={size!r}; expected an odd whole number of pixels >= 1")
    return size // 2


def _normal(kernel: Tensor) -> Tensor:
    return (kernel / kernel.sum()).float()
