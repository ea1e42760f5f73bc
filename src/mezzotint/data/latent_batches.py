"""Batches of cached latents, drawn anew from their posteriors at every step."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from jaxtyping import Float
from torch import Tensor

from mezzotint.core.noise import Noise, fold
from mezzotint.data.images import ImageSource, as_images
from mezzotint.data.latent_cache import LatentCache
from mezzotint.data.order import Order
from mezzotint.data.rows import Rows
from mezzotint.data.source import Source
from mezzotint.objective.batch import Batch

__all__ = ["LatentBatches", "Latents"]


@dataclass(frozen=True)
class Latents:
    """Some rows of a step's batch of latents.

    Attributes:
        step: the step.
        places: which rows of its batch these are.
        indices: the image of each; the next good one where the order's own is broken.
        z: (b, k, h, w) normalised latents.
        captions: one each, "" where there is none.
        labels: class indices, None where there is none.
    """

    step: int
    places: range
    indices: list[int]
    z: Float[Tensor, "b k h w"]
    captions: list[str]
    labels: list[int | None]


def _plain(latents: Latents) -> Batch:
    return Batch(latents.z)


class LatentBatches(Rows):
    """Batches from a `LatentCache`: `batches(step)`, or some rows of it, `batches.rows(step, range(8, 16))`.

        z = (mean + std eps - mean_all) / std_all,   eps = Noise([fold(seed, "posterior", s, i)])("posterior", 0, shape)

    for image i of step s: another sample of the posterior at each step, the same after a resume or in another process.

    Args:
        cache: of the source's latents.
        source: the same source: captions and labels are read from it, no image.
        order: as for `Loader`.
        seed: of order, posterior, flips and captions.
        make: from `Latents` to what a task reads; a `Batch` of latents by default.
        flip: probability of the mirrored image, by the same draw as `Cover`'s.

    Raises:
        ValueError: for a source of another length, or flips of a cache made without mirrored images.
    """

    def __init__(
        self,
        cache: LatentCache,
        source: Source | ImageSource,
        order: Order | int,
        *,
        seed: int = 0,
        make: Callable[[Latents], Any] = _plain,
        flip: float = 0.0,
    ) -> None:
        self.source = as_images(source)
        if len(self.source) != len(cache):
            raise ValueError(f"{cache.folder}: holds {len(cache)} latents, but the source {len(self.source)} images")
        if not 0 <= flip <= 1 or (flip > 0 and not cache.mirrored):
            raise ValueError(f"flip={flip} of a cache with mirror={cache.mirrored}; make it with mirror=True")
        super().__init__(len(cache), order)
        self.cache, self.make, self.seed, self.flip = cache, make, seed, flip
        self.broken = cache.broken

    def rows(self, step: int, rows: range) -> Any:
        """Those rows of a step's batch; no other latent is read.

        Raises:
            ValueError: for rows outside the batch.
        """
        self.check(rows)
        chosen, _ = self.order(self.seed, step)
        mirrored = None
        if self.flip > 0:
            u = Noise([fold(self.seed, "data", step, i) for i in rows]).uniform("flip", 0)
            mirrored = (u < self.flip).tolist()
        raw, std, indices = self.cache.read(chosen[rows.start : rows.stop], mirrored)
        if std is not None:
            noise = Noise([fold(self.seed, "posterior", step, i) for i in rows])
            raw = raw + std * noise("posterior", 0, raw.shape[1:])
        captions = [self.source.caption(i, step, self.seed) for i in indices]
        labels = [self.source.label(i) for i in indices]
        return self.make(Latents(step, rows, indices, self.cache.normalise(raw), captions, labels))
