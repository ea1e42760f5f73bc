"""Lesions of known outline, and annotators who draw them each in their own way."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from mezzotint.core.noise import Noise

__all__ = ["draw_lesions"]

_WAVES = (2, 3, 4)
_WAVE = 0.15  # greatest size of each, as a share of the radius


def draw_lesions(
    noise: Noise, size: Sequence[int], radius: tuple[float, float], bias: Sequence[float]
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """A blob in each head, somewhere in its inner half.

        inside: |p - centre| < R (1 + sum_k a_k cos(k angle + phase_k)),   k = 2, 3, 4

    Args:
        noise: one seed a head.
        size: (h, w) or (d, h, w).
        radius: least and greatest R in pixels, uniform between; at most a fifth of the image's side.
        bias: of each annotator's R, as a share (0 for none): each also sees waves of its own.

    Returns:
        distance (b, *size) in pixels, negative inside; R (b,); sign (b,) of the lesion, -1 dark or 1 bright;
        annotations (b, len(bias), *size) bool.
    """
    n, side = len(size), min(size[-2:])
    u = noise.uniform("lesion", 0, (8,), dtype=torch.float64)
    low, high = (min(r, side / 5) for r in radius)
    r = low + (high - low) * u[:, 0]
    # with all its waves it stays inside the smallest head
    reach = (0.29 - (1 + len(_WAVES) * _WAVE) * r / side).clamp(0, 0.22)
    around, out = 2 * math.pi * u[:, 1], reach * u[:, 2].sqrt()
    centre = [size[-2] * (0.5 + out * around.sin()), size[-1] * (0.5 + out * around.cos())]
    axes = torch.meshgrid(*[torch.arange(s, dtype=torch.float64) + 0.5 for s in size], indexing="ij")
    wide = (-1, *[1] * n)
    y, x = axes[-2] - centre[0].view(wide), axes[-1] - centre[1].view(wide)
    square = y * y + x * x
    if n == 3:  # slices are as far apart as pixels here: a lesion is round in voxels
        deep = axes[0] - (size[0] * (0.5 + 0.2 * (u[:, 3] - 0.5))).view(wide)
        square = square + deep * deep
    away, angle = square.sqrt(), torch.atan2(y, x)

    def outline(purpose: str, k: int, size: float) -> Tensor:
        v = noise.uniform(purpose, k, (2 * len(_WAVES),), dtype=torch.float64).view(-1, 2 * len(_WAVES), *[1] * n)
        waves = [v[:, 2 * i] * torch.cos(wave * angle + 2 * math.pi * v[:, 2 * i + 1]) for i, wave in enumerate(_WAVES)]
        return size * sum(waves, torch.zeros_like(angle))

    true = outline("lesion outline", 0, _WAVE)
    distance = away - r.view(wide) * (1 + true)
    drawn = [away < r.view(wide) * (1 + true + b + outline("annotator", j, 0.08)) for j, b in enumerate(bias)]
    sign = torch.where(u[:, 4] < 0.5, -1.0, 1.0).double()
    annotations = torch.stack(drawn, 1) if drawn else torch.zeros(len(u), 0, *size, dtype=torch.bool)
    return distance, r, sign, annotations
