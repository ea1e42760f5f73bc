"""What a data set is here: an index-addressable source of images with captions, without any state."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

__all__ = ["ArraySource", "Example", "Source"]


@dataclass(frozen=True)
class Example:
    """One image with its words: image (3, h, w) in [-1, 1], caption, and a class index where the source has classes."""

    image: Tensor
    caption: str
    label: int | None = None


@runtime_checkable
class Source(Protocol):
    """Anything with a length whose item i is always the same Example."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Example: ...


class ArraySource:
    """A source whose images are one uint8 array in memory; batches are rows of it.

        image = 2 pixel / 255 - 1

    Args:
        images: (n, 3, h, w) uint8.
        captions: the plain caption of each image.
        labels: (n,) int64 class indices, or None.

    Raises:
        ValueError: for an empty source or lengths that differ.

    >>> source = ArraySource(torch.zeros(2, 3, 4, 4, dtype=torch.uint8), ["night", "dark"])
    >>> source[1].caption, float(source[1].image.max())
    ('dark', -1.0)
    """

    def __init__(self, images: UInt8[Tensor, "n 3 h w"], captions: Sequence[str], labels: Tensor | None = None) -> None:
        if len(images) == 0:
            raise ValueError("this source holds no image; check its split and its styles")
        if len(captions) != len(images) or (labels is not None and len(labels) != len(images)):
            raise ValueError(f"{len(images)} images came with {len(captions)} captions or another number of labels")
        self.images = images
        self.captions = list(captions)
        self.labels = labels

    def __len__(self) -> int:
        return len(self.images)

    @property
    def shape(self) -> tuple[int, int, int]:
        """(3, h, w) of every image."""
        channels, height, width = self.images.shape[1:]
        return channels, height, width

    def __getitem__(self, index: int) -> Example:
        i = self._row(index)
        label = None if self.labels is None else int(self.labels[i])
        return Example(_to_float(self.images[i]), self.captions[i], label)

    def caption(self, index: int, step: int, seed: int) -> str:
        """The caption of image `index` at `step`: a pure function of (seed, step, index). Here always the plain one."""
        return self.captions[self._row(index)]

    def batch(
        self, indices: Sequence[int] | Tensor, seed: int = 0, step: int = 0
    ) -> tuple[Float[Tensor, "b 3 h w"], list[str]]:
        """Images in [-1, 1] (float32) and captions of the rows `indices` as they are seen at `step`."""
        rows = [self._row(int(i)) for i in indices]
        return _to_float(self.images[torch.tensor(rows, dtype=torch.int64)]), [
            self.caption(i, step, seed) for i in rows
        ]

    def _row(self, index: int) -> int:
        if not -len(self) <= index < len(self):
            # IndexError, not ValueError: iteration over a sequence ends by it
            raise IndexError(f"index {index} is outside this source of {len(self)} images")
        return index % len(self)


def _to_float(pixels: Tensor) -> Tensor:
    return pixels.to(torch.float32).mul_(2 / 255).sub_(1)
