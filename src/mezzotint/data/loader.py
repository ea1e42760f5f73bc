"""Batches of images as a pure function of the step, made in this process or ahead of time in others."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from jaxtyping import Int, UInt8
from torch import Tensor

from mezzotint.core.noise import Noise, fold
from mezzotint.data.broken import Broken, first_good
from mezzotint.data.framing import Framing, Placed
from mezzotint.data.images import ImageSource, as_images
from mezzotint.data.order import Order
from mezzotint.data.pool import Pool, Start
from mezzotint.data.rows import Rows
from mezzotint.data.source import Source
from mezzotint.objective.batch import Batch

__all__ = ["Loader", "Samples", "plain"]


@dataclass(frozen=True)
class Samples:
    """Some rows of a step's batch, before they become what a task reads.

    Attributes:
        step: the step.
        places: which rows of its batch these are.
        indices: the image of each; the next good one where the order's own is broken.
        pixels: (b, 3, h, w) uint8.
        captions: one each, "" where there is none.
        labels: class indices, None where there is none.
        time_ids: (b, 6): original height and width, crop top and left, target height and width.
    """

    step: int
    places: range
    indices: list[int]
    pixels: UInt8[Tensor, "b 3 h w"]
    captions: list[str]
    labels: list[int | None]
    time_ids: Int[Tensor, "b 6"]

    @property
    def images(self) -> Tensor:
        """Images in [-1, 1], float32: x = 2 pixel / 255 - 1."""
        return self.pixels.to(torch.float32).mul_(2 / 255).sub_(1)


def plain(samples: Samples) -> Batch:
    """The images alone."""
    return Batch(samples.images)


class Loader(Rows):
    """Batches of a source's images, framed: `loader(step)`, or some rows of it, `loader.rows(step, range(8, 16))`.

    Image i of step s is `framing(decoded, Noise([fold(seed, "data", s, i)]))`: the same bits with any number of
    workers, in any process, after a resume, alone or in its batch. Steps that follow the latest one asked for are made
    ahead. A broken image is replaced by the next good one of the source, named in a warning, and counted.

    Args:
        source: images of any size (`ImageFolder`, ...) or in memory (`ArraySource`, `Emoji`, ...).
        order: which images a step sees: `Shuffled(len(source), batch)`, `Bucketed(...)`; an integer is the former's
            batch.
        framing: from a decoded image to a frame, such as `Cover(256, crop="random", flip=0.5)`.
        seed: of order, framing and captions.
        make: from `Samples` to what a task reads; `plain` gives a `Batch` of images. Called in this process.
        workers: processes that decode; 0 is this one.
        prefetch: steps made ahead, where there are workers.
        share: of the source's images that may be broken.
        start: how workers start, see `Pool`.

    Raises:
        ValueError: for settings out of range; when called, `TooManyBroken`.

    >>> from mezzotint.data import Cover, Scenes
    >>> loader = Loader(Scenes(16, 20), 4, Cover(8, crop="random"))
    >>> torch.equal(loader(3).x[2:], loader.rows(3, range(2, 4)).x)
    True
    """

    def __init__(
        self,
        source: Source | ImageSource,
        order: Order | int,
        framing: Framing,
        *,
        seed: int = 0,
        make: Callable[[Samples], Any] = plain,
        workers: int = 0,
        prefetch: int = 2,
        share: float = 0.01,
        start: Start | None = None,
    ) -> None:
        if workers < 0 or prefetch < 0 or seed < 0:
            raise ValueError(
                f"a loader got seed={seed}, workers={workers}, prefetch={prefetch}; none may be negative (workers=0 "
                "decodes in this process)"
            )
        images = as_images(source)
        super().__init__(len(images), order)
        self.broken = Broken(len(images), share)
        self.make, self.workers, self.prefetch = make, workers, prefetch
        self.start: Start | None = start
        self._work = _Work(images, self.order, framing, seed, self.broken.most)
        self._pool: Pool | None = None
        self._ahead: dict[tuple[int, int, int], list[Future[Any]]] = {}

    def rows(self, step: int, rows: range) -> Any:
        """Those rows of a step's batch; no other image is decoded.

        Raises:
            ValueError: for rows outside the batch.
            TooManyBroken: where more than the share of the images seen so far cannot be read.
            WorkerDied: where a worker was killed.
        """
        return self.make(self.samples(step, rows))

    def samples(self, step: int, rows: range) -> Samples:
        """Those rows of a step's batch, with all that is known of them. Raises as `rows` does."""
        self.check(rows)
        if not self.workers:
            parts = [self._work(step, rows.start, rows.stop)]
        else:
            parts = self._from_workers(step, rows)
        for _, broken in parts:
            self.broken.add(broken)
        found = [part for part, _ in parts if part is not None]
        pixels = found[0].pixels if len(found) == 1 else np.concatenate([part.pixels for part in found])
        return Samples(
            step,
            rows,
            [i for part in found for i in part.indices],
            torch.from_numpy(np.ascontiguousarray(pixels)),
            [text for part in found for text in part.captions],
            [label for part in found for label in part.labels],
            torch.tensor([ids for part in found for ids in part.time_ids]),
        )

    def close(self) -> None:
        """End the workers; the next call would start new ones."""
        if self._pool is not None:
            self._pool.close()
        self._pool, self._ahead = None, {}

    def _from_workers(self, step: int, rows: range) -> list[Any]:
        try:
            if self._pool is None:
                self._pool = Pool(self._work, self.workers, self.start)
            for key in [key for key in self._ahead if not step <= key[0] <= step + self.prefetch]:
                del self._ahead[key]
            for later in range(step, step + self.prefetch + 1):
                key = (later, rows.start, rows.stop)
                if key not in self._ahead:
                    self._ahead[key] = [self._pool.ask(later, *part) for part in _shares(rows, self.workers)]
            return [future.result() for future in self._ahead.pop((step, rows.start, rows.stop))]
        except BaseException:
            self.close()
            raise


@dataclass(frozen=True)
class _Part:
    """What a worker sends: arrays, not tensors, which would need shared memory that a killed worker leaves behind."""

    indices: list[int]
    pixels: np.ndarray
    captions: list[str]
    labels: list[int | None]
    time_ids: list[tuple[int, ...]]


@dataclass
class _Work:
    """Rows of a step: all that a worker needs to make them."""

    source: ImageSource
    order: Order
    framing: Framing
    seed: int
    most: int
    known: dict[int, str] = field(default_factory=dict)  # broken images that this process has tried

    def __call__(self, step: int, start: int, stop: int) -> tuple[_Part | None, dict[int, str]]:
        """The rows, and the broken images met; no rows where these are too many."""
        chosen, frame = self.order(self.seed, step)
        indices, placed = [], []
        met: dict[int, str] = {}
        for place in range(start, stop):
            noise = Noise([fold(self.seed, "data", step, place)])

            def load(i: int, noise: Noise = noise) -> Placed:
                return self.framing(self.source.pixels(i), noise, frame)

            total = len(self.source)
            good = first_good(load, int(chosen[place]), total, self.known, met, self.most)
            if good is None:
                return None, met
            indices.append(good[0])
            placed.append(good[1])
        part = _Part(
            indices,
            np.stack([one.pixels.numpy() for one in placed]),
            [self.source.caption(i, step, self.seed) for i in indices],
            [self.source.label(i) for i in indices],
            [one.time_ids for one in placed],
        )
        return part, met


def _shares(rows: range, count: int) -> list[tuple[int, int]]:
    """Neighbouring rows for each worker, (start, stop)."""
    size = -(-len(rows) // count)
    return [(start, min(start + size, rows.stop)) for start in range(rows.start, rows.stop, size)]
