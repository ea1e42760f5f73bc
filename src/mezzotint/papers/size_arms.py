"""What the demonstration of attention's entropy draws, trains and counts: discs on a ground, at any size."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mezzotint.core import Condition, Cosine, Noise, VDenoiser, fold
from mezzotint.data import indices
from mezzotint.nn import UNet
from mezzotint.objective import Batch, Denoise
from mezzotint.papers.trained import trained

__all__ = ["CLASSES", "TRAINED_AT", "counted", "discs", "train_counts"]

TRAINED_AT, CLASSES, _BATCH = 32, 3, 32
_RADIUS, _GAP, _TRIES = 0.13, 0.12, 60  # shares of the side
_GROUND, _DISC = -0.8, 0.8


def discs(seed: int, count: int, size: int, split: str) -> tuple[Float[Tensor, "n 1 s s"], Int[Tensor, " n"]]:
    """Pictures of exactly 1, 2 or 3 discs that do not touch, drawn at `size`: the same scenes at every size.

    Returns:
        pictures in [-1, 1], and the number of discs less one.
    """
    noise = Noise([fold(seed, split, i) for i in range(count)])
    label = (noise.uniform("objects", 0, (1,))[:, 0] * CLASSES).long().clamp(max=CLASSES - 1)
    tries = noise.uniform("places", 0, (_TRIES, 2))
    low = _RADIUS + _GAP
    places = low + (1 - 2 * low) * tries
    at = (torch.arange(size) + 0.5) / size
    x = torch.full((count, 1, size, size), _GROUND)
    for i in range(count):
        kept: list[Tensor] = []
        for place in places[i]:
            if all(float((place - other).norm()) > 2 * _RADIUS + _GAP for other in kept):
                kept.append(place)
            if len(kept) == int(label[i]) + 1:
                break
        else:  # no room was found: as many as there are
            label[i] = len(kept) - 1
        for place in kept:
            away = ((at - place[0]) ** 2 + (at[:, None] - place[1]) ** 2).sqrt() - _RADIUS
            cover = (0.5 - away * size).clamp(0, 1)
            x[i, 0] = torch.maximum(x[i, 0], _GROUND + (_DISC - _GROUND) * cover)
    return x, label


def counted(x: Float[Tensor, "n 1 s s"]) -> tuple[Int[Tensor, " n"], Int[Tensor, " n"]]:
    """Connected regions (with diagonals) above 0: whole discs, and pieces, of less than half or more than twice one.

    Returns:
        number of whole ones, number of pieces; specks of under a tenth of a disc do not count.
    """
    n, _, h, w = x.shape
    inside = x > 0
    names = torch.arange(1, h * w + 1, dtype=torch.float64).view(1, 1, h, w) * inside
    while True:  # each pixel takes the largest name beside it, until nothing changes
        spread = torch.nn.functional.max_pool2d(names, 3, 1, 1) * inside
        if torch.equal(spread, names):
            break
        names = spread
    disc = torch.pi * (_RADIUS * h) ** 2
    whole, pieces = torch.zeros(n, dtype=torch.long), torch.zeros(n, dtype=torch.long)
    for i in range(n):
        _, areas = names[i][inside[i]].unique(return_counts=True)
        areas = areas[areas >= max(1.0, 0.1 * disc)]
        good = (areas > 0.5 * disc) & (areas < 2 * disc)
        whole[i], pieces[i] = int(good.sum()), int((~good).sum())
    return whole, pieces


def train_counts(seconds: float, seed: int, pool: int = 2048) -> VDenoiser:
    """A UNet with self-attention at two scales, told how many discs; trained at 32 x 32 for processor seconds."""
    x, label = discs(seed, pool, TRAINED_AT, "train")

    def batch(step: int) -> Batch:
        rows = indices(seed, step, _BATCH, pool)
        return Batch(x[rows], Condition({"label": label[rows]}))

    net = {"channels": 16, "mult": (1, 2, 2), "blocks": 1, "attention": (2, 4), "classes": CLASSES}
    build = lambda: VDenoiser(UNet(1, **net), Cosine())  # noqa: E731
    return trained(build, Denoise("v", drop=0.0), batch, seconds=seconds, seed=seed, lr=3e-3)
