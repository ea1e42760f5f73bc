"""A picture of any size restored by a model of one size: all its samples, or their mean and spread alone."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from mezzotint.model import Model
from mezzotint.restore.restorer import Restorer
from mezzotint.restore.strips import Strips, windows_of
from mezzotint.restore.tasks import Given, RestorationTask

__all__ = ["Restored", "RestoredMean", "restore_mean", "restore_picture", "windows_of"]


@dataclass(frozen=True)
class Restored:
    """What `restore_picture` gives.

    Args:
        samples: (n, c, h, w) in [-1, 1].
        nfe: network evaluations of a tile and sample.
        tiles: how many.
        misfit: |y - A x| / |y| of the first sample, over all tiles.
    """

    samples: Float[Tensor, "n c h w"]
    nfe: int
    tiles: int
    misfit: float

    @property
    def mean(self) -> Float[Tensor, "c h w"]:
        """Over the samples."""
        return self.samples.mean(0)

    @property
    def spread(self) -> Float[Tensor, "h w"]:
        """Standard deviation over the samples, root mean square over the channels; NaN for one sample."""
        if len(self.samples) == 1:
            return torch.full(self.samples.shape[2:], math.nan)
        return self.samples.var(0).mean(0).sqrt()


@dataclass(frozen=True)
class RestoredMean:
    """What `restore_mean` gives.

    Args:
        mean: over the samples, (c, h, w) in [-1, 1].
        spread: as of `Restored`; None for one sample.
        nfe, tiles, misfit: as of `Restored`.
    """

    mean: Float[Tensor, "c h w"]
    spread: Float[Tensor, "h w"] | None
    nfe: int
    tiles: int
    misfit: float


def restore_mean(strips: Strips) -> RestoredMean:
    """The mean and spread of a picture's samples, which are never held at once: for photographs of any size.

    Args:
        strips: of a model, a task, a method and a measurement, not iterated over yet.
    """
    mean = spread = None
    top = 0
    for samples in strips:
        rows = slice(top, top + samples.shape[2])
        if mean is None:
            mean = torch.empty(samples.shape[1], *strips.size)
            spread = torch.empty(strips.size) if len(samples) > 1 else None
        mean[:, rows] = samples.mean(0)
        if spread is not None:
            spread[rows] = samples.var(0).mean(0).sqrt()
        top = rows.stop
    if mean is None:
        raise ValueError("these strips were iterated over before")
    return RestoredMean(mean, spread, strips.nfe, len(strips.windows), strips.misfit)


def restore_picture(
    model: Model,
    task: RestorationTask,
    method: Restorer,
    y: Float[Tensor, "c i j"],
    given: Given,
    *,
    std: float = 0.0,
    steps: int | None = None,
    seeds: tuple[int, ...] = (0,),
    prompt: str | int | None = None,
    guidance: float = 1.0,
    overlap: float = 0.25,
    batch: int = 16,
    on_tile: Callable[[int, int], None] | None = None,
) -> Restored:
    """Restore a measured picture with a model as the prior, in tiles where it is larger than the model's.

    Args:
        model, task, method, y, given: see `Strips`.
        std, steps, seeds, prompt, guidance, overlap, batch, on_tile: likewise.

    Raises:
        ValueError: for a picture smaller than the model's, or that does not suit the task.
    """
    strips = Strips(
        model, task, method, y, given, std=std, steps=steps, seeds=seeds, prompt=prompt, guidance=guidance,
        overlap=overlap, batch=batch, on_tile=on_tile,
    )  # fmt: skip
    samples = torch.cat(list(strips), 2)
    return Restored(samples, strips.nfe, len(strips.windows), strips.misfit)
