"""The leaves of a recipe over one's own images: a folder of files, Parquet, tar shards or an array."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from mezzotint.core import Condition, Noise, fold
from mezzotint.data.buckets import Bucketed, assign, buckets, image_sizes
from mezzotint.data.framing import Cover
from mezzotint.data.images import ImageSource
from mezzotint.data.latent_batches import LatentBatches, Latents
from mezzotint.data.latent_encode import cache_latents
from mezzotint.data.loader import Loader, Samples
from mezzotint.data.open_source import open_source
from mezzotint.data.order import Order, Shuffled
from mezzotint.latent import Autoencoder, Identity
from mezzotint.nn.conditioner import ClassConditioner, TextConditioner
from mezzotint.nn.conditioner.base import Conditioner
from mezzotint.objective import Batch
from mezzotint.train.recipe import Batches
from mezzotint.train.recipes.parts import LENGTH, vocabulary

__all__ = ["FolderData", "FolderImages"]

Frames = tuple[Tensor, list[tuple[int, int]]]


@dataclass(frozen=True)
class FolderImages:
    """Batches of images without words: what an autoencoder is trained on.

    Args:
        path: what `mezzotint.data.open_source` opens: a folder of images, .parquet, .tar, .npy, .npz.
        size: pixels a side.
        crop: "centre" or "random".
        flip: probability of a mirrored image.
        broken: share of the images that may be unreadable.
        workers: processes that decode images; does not change the numbers.

    Raises:
        ValueError: when called, for a path without images.
    """

    path: str
    size: int = 256
    crop: Literal["centre", "random"] = "centre"
    flip: float = 0.0
    broken: float = 0.01
    workers: int = field(default=0, metadata={"identity": False})

    def __call__(self, batch: int, seed: int) -> Batches:
        """step -> Batch of images, a pure function of the step."""
        framing = Cover(self.size, self.crop, self.flip)
        return Loader(open_source(self.path), batch, framing, seed=seed, workers=self.workers, share=self.broken)


@dataclass(frozen=True)
class FolderData:
    """Batches of latents (of images themselves in pixel space), with labels or captions.

    Latents are encoded at each step, or once, where `cache` names a folder for them (then the crop is the centre's).

    Args:
        path: what `mezzotint.data.open_source` opens: a folder of images, .parquet, .tar, .npy, .npz.
        size: pixels a side; with aspect buckets, the root of a frame's area.
        condition: "captions" as tokens for a text conditioner, "labels" as class indices, "none".
        crop: "centre" or "random".
        flip: probability of a mirrored image.
        ratio: greatest longest side / shortest side of the aspect buckets; 1 for squares alone.
        step: sides of the buckets are multiples of it (the autoencoder's factor times the network's multiple).
        cache: folder of the latent cache; None for none.
        broken: share of the images that may be unreadable.
        workers: processes that decode images; does not change the numbers.
        words: () -> the conditioner whose `prepare` reads captions; None is the one of the emoji recipes (`TextFlow`).

    Raises:
        ValueError: when called, for a path without images, labels or captions that are not there, or a random crop of
            cached latents.
    """

    path: str
    size: int = 256
    condition: Literal["none", "labels", "captions"] = "none"
    crop: Literal["centre", "random"] = "centre"
    flip: float = 0.0
    ratio: float = 1.0
    step: int = 64
    cache: str | None = None
    broken: float = 0.01
    workers: int = field(default=0, metadata={"identity": False})
    words: Callable[[], Conditioner] | None = None

    def __call__(self, autoencoder: Autoencoder, batch: int, seed: int) -> Batches:
        """step -> Batch of normalised latents, a pure function of the step."""
        if self.cache is not None and self.crop == "random":
            raise ValueError("a latent cache holds one crop of each image; choose crop=centre, or no cache")
        source = open_source(self.path)
        conditions = self._conditions(source)
        frames = self._frames(source)
        order: Order = Shuffled(len(source), batch) if frames is None else Bucketed(*frames, batch)
        if self.cache is None:
            encode = _encoder(autoencoder, seed)
            framing = Cover(self.size, self.crop, self.flip)

            def make(samples: Samples) -> Batch:
                return Batch(encode(samples), conditions(samples))

            return Loader(source, order, framing, seed=seed, make=make, workers=self.workers, share=self.broken)
        cache = cache_latents(
            source,
            autoencoder,
            Cover(self.size),
            self.cache,
            frames=frames,
            mirror=self.flip > 0,
            workers=self.workers,
            share=self.broken,
        )

        def made(latents: Latents) -> Batch:
            return Batch(latents.z, conditions(latents))

        return LatentBatches(cache, source, order, seed=seed, make=made, flip=self.flip)

    def _frames(self, source: ImageSource) -> Frames | None:
        if self.ratio == 1:
            return None
        frames = buckets(self.size * self.size, self.step, self.ratio)
        keep = None
        if self.cache is not None:  # a million headers take minutes: once is enough where there is a place to remember
            Path(self.cache).mkdir(parents=True, exist_ok=True)
            keep = Path(self.cache) / ".sizes.json"
        return assign(image_sizes(source, keep)[0], frames), frames

    def _conditions(self, source: ImageSource) -> Callable[[Samples | Latents], Condition | None]:
        if self.condition == "none":
            return lambda samples: None
        if self.condition == "labels":
            if not source.classes:
                raise ValueError(f"{self.path}: has no classes; sort the images into folders, or choose condition=none")
            labels = ClassConditioner(len(source.classes))
            return lambda samples: labels.prepare(samples.labels)
        # the smallest conditioner there is: only its tokenizer is used
        words = self.words() if self.words else TextConditioner(vocabulary(), LENGTH, width=2, depth=1, heads=1)
        return lambda samples: words.prepare(samples.captions)


def _encoder(autoencoder: Autoencoder, seed: int) -> Callable[[Samples], Tensor]:
    """Samples -> normalised latents; a posterior sample keyed by (seed, step, place), as a latent cache draws it."""

    @torch.no_grad()
    def encode(samples: Samples) -> Tensor:
        if isinstance(autoencoder, Identity):
            return autoencoder.normalise(samples.images)
        noise = Noise([fold(seed, "posterior", samples.step, i) for i in samples.places])
        device = autoencoder.latent_mean.device
        return autoencoder.encode(samples.images.to(device), noise).cpu()

    return encode
