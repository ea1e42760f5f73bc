"""What every filter of an image prompt is, and their composition in order."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor

__all__ = ["Filter", "FilterChain", "Removed"]

Removed = Literal["colour", "texture", "luma-sign", "background", "detail", "layout"]

_SLACK = 1e-3  # beyond [-1, 1], as decoders round


@dataclass(frozen=True)
class Filter(ABC):
    """F: an image prompt with a feature less, or with one made stronger.

    A subclass says in `apply` what it does to colours in [0, 1]; a call takes and returns images of the library, in
    [-1, 1]. Filters compose in the order of reading: (a | b)(x) = b(a(x)).

    Attributes:
        name: in the text form of a chain.
        removes: what the result no longer tells, or tells less.
        differentiable: whether gradients pass.

    Source: arXiv 2404.13263, figures of the project; the authors give names alone, definitions and parameters are our
    choice.
    """

    name: ClassVar[str]
    removes: ClassVar[frozenset[Removed]] = frozenset()
    differentiable: ClassVar[bool] = True

    @abstractmethod
    def apply(self, x: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 3 h w"]:
        """Filter red, green and blue in [0, 1]; the result lies there too."""

    def __or__(self, other: Filter | FilterChain) -> FilterChain:
        """This filter, then the other."""
        return FilterChain((self,)) | other

    def __call__(self, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 3 h w"]:
        """Filter images in [-1, 1].

        Raises:
            ValueError: for images that are not (b, 3, h, w), or reach outside [-1, 1].
        """
        return FilterChain((self,))(images)


@dataclass(frozen=True)
class FilterChain:
    """Filters one after the other: x -> F_n(... F_1(x)).

    Args:
        filters: in the order in which they act; none is the identity, bit for bit.

    >>> from mezzotint.edit.filters import Blur, Maximum
    >>> str(Maximum(3) | Blur(2.0))
    'max:3|blur:2.0'
    """

    filters: tuple[Filter, ...] = ()

    def __or__(self, other: Filter | FilterChain) -> FilterChain:
        """This chain, then the other."""
        return FilterChain(self.filters + (other.filters if isinstance(other, FilterChain) else (other,)))

    def __iter__(self) -> Iterator[Filter]:
        return iter(self.filters)

    def __len__(self) -> int:
        return len(self.filters)

    def __str__(self) -> str:
        """The chain as `parse` reads it; also its part of a key in a cache of encoded prompts."""
        return "|".join(_told(f) for f in self.filters)

    @property
    def removes(self) -> frozenset[Removed]:
        """What any of the filters removes."""
        return frozenset().union(*(f.removes for f in self.filters))

    @property
    def differentiable(self) -> bool:
        """Whether gradients pass through all of them."""
        return all(f.differentiable for f in self.filters)

    def __call__(
        self, images: Float[Tensor, "b 3 h w"], mask: Float[Tensor, "#b 1 h w"] | None = None
    ) -> Float[Tensor, "b 3 h w"]:
        """Filter images in [-1, 1].

        Args:
            images: the prompts, at the size at which they are encoded (resize first, then filter).
            mask: where to filter, 1, and where to leave the image, 0; feathered edges are mixed in colour. One for all
                images, or one each.

        Raises:
            ValueError: for images that are not (b, 3, h, w), or reach outside [-1, 1], or a mask that does not fit.
        """
        check_images(images)
        if not self.filters:
            return images
        x = ((images + 1) / 2).clamp(0, 1)
        for f in self.filters:
            x = f.apply(x)
        made = 2 * x - 1
        if mask is None:
            return made
        if mask.shape[-2:] != images.shape[-2:] or mask.shape[1] != 1 or mask.shape[0] not in (1, len(images)):
            raise ValueError(
                f"a mask of shape {tuple(mask.shape)} for images of {tuple(images.shape)}; expected (b or 1, 1, h, w)"
            )
        if not bool(((mask >= 0) & (mask <= 1)).all()):
            raise ValueError("the mask reaches outside [0, 1]; give 1 where the filter acts, 0 elsewhere")
        return mask * made + (1 - mask) * images


def check_images(images: Tensor) -> None:
    """Raise ValueError unless these are images of the library: (b, 3, h, w), floating, in [-1, 1]."""
    if images.ndim != 4 or images.shape[1] != 3:
        raise ValueError(f"images of shape {tuple(images.shape)}; expected (b, 3, h, w): red, green, blue, no alpha")
    if not images.is_floating_point():
        raise ValueError(f"images of {images.dtype}; expected floating numbers in [-1, 1], as x / 127.5 - 1 of bytes")
    low, high = (float(v) for v in torch.aminmax(images.detach())) if images.numel() else (0.0, 0.0)
    if not (low >= -1 - _SLACK and high <= 1 + _SLACK):
        raise ValueError(f"images from {low:.4g} to {high:.4g}; expected [-1, 1], as x / 127.5 - 1 of bytes")


def _told(f: Filter) -> str:
    values = [getattr(f, field.name) for field in fields(f)]
    while values and values[-1] is None:
        values.pop()
    return ":".join([f.name, ",".join("" if v is None else str(v) for v in values)]) if values else f.name
