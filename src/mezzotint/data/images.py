"""Sources whose images are decoded when they are asked for: what they share."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import UInt8
from torch import Tensor

from mezzotint.core.noise import fold
from mezzotint.data.decode import MAX_PIXELS, WHITE, BrokenImage, decode, header_size
from mezzotint.data.source import Example, Source

__all__ = ["ImageSource", "as_images", "words_of"]


class ImageSource(ABC):
    """An index-addressable source of images of any size, of which memory holds only the names.

    A subclass says how many there are, and for each its encoded bytes (or a decoded array), a name for messages, its
    captions and its label. Instances can be sent to another process.

    Args:
        background: red, green, blue in [0, 1] behind transparent pixels.
        max_pixels: larger images count as broken.

    Attributes:
        classes: names of the classes, empty where there are none.
    """

    classes: tuple[str, ...] = ()

    def __init__(self, background: Sequence[float] = WHITE, max_pixels: int = MAX_PIXELS) -> None:
        if len(background) != 3 or not all(0 <= value <= 1 for value in background):
            raise ValueError(f"background is {background!r}; give red, green and blue in [0, 1]")
        if max_pixels < 1:
            raise ValueError(f"max_pixels is {max_pixels}; give the greatest number of pixels of an image, 1 or more")
        self.background, self.max_pixels = tuple(float(v) for v in background), max_pixels

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def encoded(self, index: int) -> Any:
        """What `decode` takes, of image `index` (0 to len - 1); BrokenImage where it cannot be had."""

    @abstractmethod
    def name(self, index: int) -> str:
        """Where image `index` comes from, for messages."""

    @abstractmethod
    def identity(self) -> dict[str, Any]:
        """JSON values that differ where any pixel may differ."""

    def captions(self, index: int) -> tuple[str, ...]:
        """The captions of an image, the plain one first; none by default."""
        return ()

    def label(self, index: int) -> int | None:
        """The class of an image, None where it has none."""
        return None

    def caption(self, index: int, step: int = 0, seed: int = 0) -> str:
        """One caption, "" where there is none; of several, one drawn by (seed, step, index)."""
        index = self._row(index)
        found = self.captions(index)
        if len(found) < 2:
            return found[0] if found else ""
        return found[fold(seed, "caption", step, index) % len(found)]

    def pixels(self, index: int) -> UInt8[Tensor, "3 h w"]:
        """The decoded image, (3, h, w) uint8.

        Raises:
            BrokenImage: naming the image, where it cannot be read.
        """
        return self._named(index, decode, self.background, self.max_pixels)

    def size(self, index: int) -> tuple[int, int]:
        """(height, width), from the header alone.

        Raises:
            BrokenImage: naming the image.
        """
        return self._named(index, header_size, self.max_pixels)

    def __getitem__(self, index: int) -> Example:
        i = self._row(index)
        captions = self.captions(i)
        image = self.pixels(i).to(torch.float32).mul_(2 / 255).sub_(1)
        return Example(image.contiguous(), captions[0] if captions else "", self.label(i))

    def _named(self, index: int, read: Any, *settings: Any) -> Any:
        i = self._row(index)
        try:
            return read(self.encoded(i), *settings)
        except BrokenImage as error:
            raise BrokenImage(f"{self.name(i)}: {error}") from error

    def _row(self, index: int) -> int:
        if not -len(self) <= index < len(self):
            raise IndexError(f"index {index} is outside this source of {len(self)} images")
        return index % len(self)


def as_images(source: Source | ImageSource) -> ImageSource:
    """Any source as an `ImageSource`: one that has decoded images already hands them on.

    >>> from mezzotint.data import ArraySource
    >>> as_images(ArraySource(torch.zeros(2, 3, 4, 6, dtype=torch.uint8), ["a", "b"])).size(1)
    (4, 6)
    """
    return source if isinstance(source, ImageSource) else _Decoded(source)


class _Decoded(ImageSource):
    """A source of images in memory."""

    def __init__(self, source: Source) -> None:
        super().__init__()
        self.source = source
        self.classes = tuple(getattr(source, "classes", ()))

    def __len__(self) -> int:
        return len(self.source)

    def encoded(self, index: int) -> Any:
        images = getattr(self.source, "images", None)
        if isinstance(images, Tensor) and images.dtype == torch.uint8:
            pixels = images[index]
        else:
            pixels = self.source[index].image.add(1).mul(127.5).round().clamp(0, 255).to(torch.uint8)
        return pixels.permute(1, 2, 0).cpu().numpy()

    def name(self, index: int) -> str:
        return f"image {index} of {type(self.source).__name__}"

    def captions(self, index: int) -> tuple[str, ...]:
        return (self.caption(index),)

    def caption(self, index: int, step: int = 0, seed: int = 0) -> str:
        draw = getattr(self.source, "caption", None)
        return self.source[index].caption if draw is None else draw(index, step, seed)

    def label(self, index: int) -> int | None:
        labels = getattr(self.source, "labels", None)
        return self.source[index].label if labels is None else int(labels[index])

    def identity(self) -> dict[str, Any]:
        digest = hashlib.sha256()
        for i in range(len(self)):  # all are in memory: a gigabyte a second
            digest.update(self.encoded(i).tobytes())
        return {"source": type(self.source).__name__, "images": len(self), "pixels": digest.hexdigest()}


def words_of(value: Any, where: str) -> tuple[str, ...]:
    """Captions as they stand in metadata: text, or a list of texts.

    Raises:
        ValueError: naming `where`, for anything else.
    """
    if value is None:
        return ()
    found = [value] if isinstance(value, str) else value
    if not isinstance(found, (list, tuple)) or not all(isinstance(text, str) for text in found):
        raise ValueError(f"{where}: a caption is text or a list of texts, not {value!r}")
    return tuple(found)
