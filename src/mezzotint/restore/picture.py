"""A picture of any size restored by a model of one size: in tiles that overlap, blended as they come."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from mezzotint.core import Condition, Denoiser, Noise, Prediction, fold
from mezzotint.core.window import Windows
from mezzotint.model import Model
from mezzotint.restore.operators import Decode
from mezzotint.restore.restorer import Restorer
from mezzotint.restore.tasks import Given, RestorationTask, Window

__all__ = ["Restored", "restore_picture", "windows_of"]


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


@torch.no_grad()
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
    on_tile: Callable[[int, int], None] | None = None,
) -> Restored:
    """Restore a measured picture with a model as the prior.

    A picture larger than those of the model is cut into tiles of the model's size; each is an inverse problem of its
    own, whose operator makes the part of the measurement that depends on it alone, and noise by (seed, corner). What
    overlaps is blended with weights that fall towards the border. No more than one tile is in the network at a time,
    so that memory grows by a few numbers a pixel only.

    Args:
        model: whose denoiser is asked, without a condition; latent models work through their decoder.
        task, given: what happened to the picture.
        method: a restorer.
        y: the measurement, in [-1, 1].
        std: of its noise, in those units.
        steps: of the method.
        seeds: one a sample.
        prompt, guidance: what the picture shows, for a model that reads it; see `Model.prior`.
        overlap: of two tiles, as a share of their size, in [0, 0.5].
        on_tile: called with (tiles done, tiles).

    Raises:
        ValueError: for a picture smaller than the model's, or that does not suit the task.
    """
    if task.channels is not None and y.shape[0] != task.channels:
        raise ValueError(f"{task.name} measures {task.channels} channel(s); the picture has {y.shape[0]}")
    size = tuple(round(n / task.scale) for n in y.shape[1:])
    windows = windows_of(size, model, task, overlap)  # type: ignore[arg-type]
    prior, told = model.prior(prompt, guidance)
    c = None if told is None else told.rows([0] * len(seeds))
    weight = _weights(windows[0])
    total = mass = None
    squares = [0.0, 0.0]
    calls = _Calls(prior)
    for done, window in enumerate(windows):
        part = task.cut(given, window, y)[None].to(model.device)
        operator = task.build(given, window).to(model.device)
        latent = model.autoencoder.spec.factor > 1
        whole = operator @ Decode(model.autoencoder) if latent else operator
        noise = Noise([fold(seed, "tile", window.top, window.left) for seed in seeds])
        made = method(calls, whole, part, noise, std=std, steps=steps, c=c)
        made = (model.autoencoder.decode(made) if latent else made).clamp(-1, 1)
        left = part - operator(made[:1])
        squares = [squares[0] + float(left.square().sum()), squares[1] + float(part.square().sum())]
        if total is None:
            total = torch.zeros(len(seeds), made.shape[1], *size)
            mass = torch.zeros(size)
        rows, columns = slice(window.top, window.top + window.height), slice(window.left, window.left + window.width)
        assert mass is not None
        total[:, :, rows, columns] += made.cpu() * weight
        mass[rows, columns] += weight
        if on_tile is not None:
            on_tile(done + 1, len(windows))
    assert total is not None and mass is not None
    misfit = math.sqrt(squares[0] / max(squares[1], 1e-30))
    return Restored(total.div_(mass), calls.count // len(windows), len(windows), misfit)


def windows_of(size: tuple[int, int], model: Model, task: RestorationTask, overlap: float = 0.25) -> list[Window]:
    """The tiles of a picture, row by row; corners and sizes are multiples that suit the task and the autoencoder.

    Raises:
        ValueError: for a picture smaller than the model's, or a size that the task does not divide.
    """
    if not 0 <= overlap <= 0.5:
        raise ValueError(f"overlap={overlap}; expected a share in [0, 0.5]")
    if any(n < m for n, m in zip(size, model.size, strict=True)):
        raise ValueError(
            f"the restored picture would be {size[0]} x {size[1]}, smaller than those of {model.name}, "
            f"{model.size[0]} x {model.size[1]}; enlarge it first, or take another model"
        )
    if any(n % task.multiple for n in size):
        fit = " x ".join(str(n // task.multiple * task.multiple) for n in size)
        raise ValueError(f"{task.name} needs sizes that are multiples of {task.multiple}; crop the picture to {fit}")
    if any(m % task.multiple for m in model.size):
        raise ValueError(
            f"{task.name} works in blocks of {task.multiple}, which do not divide {model.name}'s {model.size}"
        )
    rows, columns = (list(_starts(n, m, task.multiple, overlap)) for n, m in zip(size, model.size, strict=True))
    return [Window(top, left, *model.size, size) for top in rows for left in columns]


def _starts(n: int, m: int, multiple: int, overlap: float) -> Iterator[int]:
    """Corners along an axis: even steps, the last tile at the end."""
    stride = max(multiple, int(m * (1 - overlap)) // multiple * multiple)
    yield from range(0, n - m, stride)
    yield n - m


def _weights(window: Window) -> Tensor:
    size = (window.height, window.width)
    return Windows(size, size, size).weights().float()


class _Calls(Denoiser):
    """Counts the network's evaluations."""

    def __init__(self, denoiser: Denoiser) -> None:
        super().__init__(denoiser.schedule)
        self.denoiser, self.count = denoiser, 0

    def forward(self, x_t: Float[Tensor, "b *s"], t: Float[Tensor, " b"], c: Condition | None = None) -> Prediction:
        """See Denoiser.forward."""
        self.count += 1
        return self.denoiser(x_t, t, c)
