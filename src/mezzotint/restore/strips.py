"""A picture of any size restored in tiles, a row of them at a time, in memory that its height does not touch."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterator
from itertools import groupby

import torch
from jaxtyping import Float
from torch import Tensor

from mezzotint.core import Condition, Denoiser, Noise, Prediction, fold
from mezzotint.core.window import Windows
from mezzotint.model import Model
from mezzotint.restore.operators import Decode, Operator
from mezzotint.restore.restorer import Restorer
from mezzotint.restore.tasks import Given, RestorationTask, Window

__all__ = ["Strips", "windows_of"]

_OPERATORS = 64  # held at most: a mask has one a tile


class Strips:
    """The samples of a picture, in strips from the top to the bottom; made as it is iterated over, once.

    Each tile is an inverse problem of its own, whose operator makes the part of the measurement that depends on it
    alone, and noise by (seed, corner). Tiles of a row whose operators are alike go through the network together. What
    overlaps is blended with weights that fall towards the border. Held are the measurement and a row of tiles.

    Args:
        model: whose denoiser is asked; latent models work through their decoder.
        task, given: what happened to the picture.
        method: a restorer.
        y: the measurement, (c, i, j) in [-1, 1].
        std: of its noise, in those units.
        steps: of the method.
        seeds: one a sample.
        prompt, guidance: what the picture shows, for a model that reads it; see `Model.prior`.
        overlap: of two tiles, as a share of their size, in [0, 0.5].
        batch: pictures in the network at once, >= 1; the samples of a tile are never parted.
        on_tile: called with (tiles done, tiles).

    Raises:
        ValueError: for a picture smaller than the model's, or that does not suit the task.
    """

    def __init__(
        self,
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
    ) -> None:
        if task.channels is not None and y.shape[0] != task.channels:
            raise ValueError(f"{task.name} measures {task.channels} channel(s); the picture has {y.shape[0]}")
        if batch < 1:
            raise ValueError(f"batch={batch}; expected how many pictures the network sees at once, 1 or more")
        self.size: tuple[int, int] = tuple(round(n / task.scale) for n in y.shape[1:])  # type: ignore[assignment]
        self.windows = windows_of(self.size, model, task, overlap)
        self.seeds, self.together = seeds, max(1, batch // len(seeds))
        self._model, self._task, self._method, self._y, self._given = model, task, method, y, given
        self._settings = {"std": std, "steps": steps}
        prior, self._c = model.prior(prompt, guidance)
        self._calls, self._runs, self._done = _Calls(prior), 0, 0
        self._squares = [0.0, 0.0]
        self._operators: dict[Hashable, Operator] = {}
        self._on_tile = on_tile

    @property
    def nfe(self) -> int:
        """Network evaluations of a tile and sample, so far."""
        return self._calls.count // max(self._runs, 1)

    @property
    def misfit(self) -> float:
        """|y - A x| / |y| of the first sample, over all tiles so far."""
        return math.sqrt(self._squares[0] / max(self._squares[1], 1e-30))

    def __iter__(self) -> Iterator[Float[Tensor, "n c r w"]]:
        rows = [list(row) for _, row in groupby(self.windows, key=lambda window: window.top)]
        weight = _weights(self.windows[0])
        held = mass = None
        for row, after in zip(rows, [*(r[0].top for r in rows[1:]), self.size[0]], strict=True):
            for window, own in self._tiles(row):
                if held is None or mass is None or len(mass) < window.height:
                    held = _taller(held, (*own.shape[:2], window.height, self.size[1]))
                    mass = _taller(mass, (window.height, self.size[1]))
                columns = slice(window.left, window.left + window.width)
                held[..., columns] += own * weight
                mass[..., columns] += weight
            assert held is not None and mass is not None
            ready = after - row[0].top
            yield held[..., :ready, :] / mass[:ready]
            held, mass = held[..., ready:, :], mass[ready:]

    def _tiles(self, row: list[Window]) -> Iterator[tuple[Window, Tensor]]:
        """Each window of a row with its samples, (n, c, h, w)."""
        alike: dict[Hashable, list[Window]] = {}
        for window in row:
            alike.setdefault(self._task.alike(self._given, window), []).append(window)
        for key, windows in alike.items():
            for start in range(0, len(windows), self.together):
                some = windows[start : start + self.together]
                made = self._restored(some, self._operator(key, some[0]))
                yield from zip(some, made.unflatten(0, (len(some), -1)), strict=True)
                self._done += len(some)
                if self._on_tile is not None:
                    self._on_tile(self._done, len(self.windows))

    @torch.no_grad()
    def _restored(self, windows: list[Window], operator: Operator) -> Tensor:
        """The samples of some tiles, a tile after the other, on the CPU."""
        n = len(self.seeds)
        part = torch.stack([self._task.cut(self._given, window, self._y) for window in windows]).to(self._model.device)
        latent = self._model.autoencoder.spec.factor > 1
        whole = operator @ Decode(self._model.autoencoder) if latent else operator
        noise = Noise([fold(seed, "tile", w.top, w.left) for w in windows for seed in self.seeds])
        c = None if self._c is None else self._c.rows([0] * len(noise))
        y = part if len(windows) == 1 else part.repeat_interleave(n, 0)
        made = self._method(self._calls, whole, y, noise, c=c, **self._settings)
        made = (self._model.autoencoder.decode(made) if latent else made).clamp(-1, 1)
        left = part - operator(made[::n])
        self._squares = [a + float(q.square().sum()) for a, q in zip(self._squares, (left, part), strict=True)]
        self._runs += 1
        return made.cpu()

    def _operator(self, key: Hashable, window: Window) -> Operator:
        if key not in self._operators:
            if len(self._operators) >= _OPERATORS:
                self._operators.clear()
            self._operators[key] = self._task.build(self._given, window).to(self._model.device)
        return self._operators[key]


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


def _taller(held: Tensor | None, shape: tuple[int, ...]) -> Tensor:
    """What is held, with rows of 0 below it."""
    taller = torch.zeros(shape)
    if held is not None:
        taller[..., : held.shape[-2], :] = held
    return taller


class _Calls(Denoiser):
    """Counts the network's evaluations."""

    def __init__(self, denoiser: Denoiser) -> None:
        super().__init__(denoiser.schedule)
        self.denoiser, self.count = denoiser, 0

    def forward(self, x_t: Float[Tensor, "b *s"], t: Float[Tensor, " b"], c: Condition | None = None) -> Prediction:
        """See Denoiser.forward."""
        self.count += 1
        return self.denoiser(x_t, t, c)
