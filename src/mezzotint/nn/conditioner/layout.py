"""Layouts: boxes with a class each, as a sequence of integer tokens."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mezzotint.core.condition import Condition
from mezzotint.nn.conditioner.base import Conditioner
from mezzotint.nn.conditioner.encoder import MaskedPool, TokenEncoder
from mezzotint.nn.conditioner.label import class_index

Number = float | int


@dataclass(frozen=True)
class Layout:
    """Boxes of an image, and which part of a larger scene the image is.

    Args:
        boxes: (left, top, right, bottom, class) each; the sides are fractions of this image, from 0 to 1, y down.
        crop: (left, top, right, bottom) of this image as fractions of the whole scene.

    Raises:
        ValueError: A rectangle outside [0, 1], or without an area.

    Source: arXiv 2112.10752, section 3.3 and code.

    >>> Layout([(0.0, 0.0, 0.5, 0.5, 7)]).cropped(0.25, 0.0, 0.75, 1.0).boxes
    ((0.0, 0.0, 0.5, 0.5, 7),)
    """

    boxes: Sequence[Sequence[Number]] = ()
    crop: Sequence[Number] = (0.0, 0.0, 1.0, 1.0)

    def __post_init__(self) -> None:
        object.__setattr__(self, "boxes", tuple(tuple(box) for box in self.boxes))
        for box in self.boxes:
            if len(box) != 5:
                raise ValueError(f"a box is (left, top, right, bottom, class), got {box!r}")
        for sides in (*(box[:4] for box in self.boxes), self.crop):
            left, top, right, bottom = sides
            if not (0 <= left < right <= 1 and 0 <= top < bottom <= 1):
                raise ValueError(
                    f"rectangle {tuple(sides)} must satisfy 0 <= left < right <= 1 and 0 <= top < bottom <= 1; "
                    "divide pixel coordinates by the image size"
                )

    def cropped(self, left: Number, top: Number, right: Number, bottom: Number) -> Layout:
        """The layout of a window of this image: boxes clipped to it, those outside dropped, crop updated.

        Args:
            left, top, right, bottom: The window, as fractions of this image.

        Returns:
            The layout that a windowed sampler gives to that window.

        Raises:
            ValueError: A window outside [0, 1], or without an area.
        """
        Layout(crop=(left, top, right, bottom))
        width, height = right - left, bottom - top
        boxes = []
        for x0, y0, x1, y1, kind in self.boxes:
            x0, x1 = (min(max((x - left) / width, 0.0), 1.0) for x in (x0, x1))
            y0, y1 = (min(max((y - top) / height, 0.0), 1.0) for y in (y0, y1))
            if x0 < x1 and y0 < y1:
                boxes.append((x0, y0, x1, y1, kind))
        a, b, c, d = self.crop
        inside = (a + left * (c - a), b + top * (d - b), a + right * (c - a), b + bottom * (d - b))
        return Layout(boxes, inside)


class LayoutConditioner(Conditioner):
    """Boxes to token embeddings, read by cross-attention.

    token(x, y) = round(y (s - 1)) s + round(x (s - 1)),  s = floor(sqrt(vocab - classes - 1))
    tokens = (top-left_1, bottom-right_1, s^2 + class_1, ..., pad, ..., crop top-left, crop bottom-right)

    The null condition is the layout without boxes and with the whole scene as its crop.

    Args:
        classes: Number of classes.
        vocab: Number of tokens: s^2 places, the classes, and the last one for padding.
        length: Tokens in a sequence, 3 a box and 2 for the crop; boxes beyond it are left out with a warning.
        width: Channels of a token.
        depth: Transformer blocks.
        heads: Attention heads; divides ``width``.

    Raises:
        ValueError: Sizes below 1, a vocabulary too small for the classes, a length that is not 3 k + 2.

    Source: arXiv 2112.10752, section 3.3 and code: order of the tokens, vocabulary of 8192, length of 92. Disjoint
    tokens for places and classes, the null and the sizes are our choice.

    >>> layout = LayoutConditioner(classes=2, vocab=12, length=8, width=8, depth=1, heads=2)
    >>> layout.prepare([Layout([(0.0, 0.0, 1.0, 0.5, 1)])])["boxes"].tolist()
    [[0, 5, 10, 11, 11, 11, 0, 8]]
    """

    reads = ("boxes",)
    example = Layout()

    def __init__(
        self, classes: int, vocab: int = 8192, length: int = 92, width: int = 192, depth: int = 2, heads: int = 4
    ) -> None:
        super().__init__()
        if classes < 1 or vocab < classes + 5:
            raise ValueError(
                f"vocab must be at least classes + 5 (4 places, padding), got {vocab} for {classes} classes"
            )
        if length < 5 or length % 3 != 2:
            raise ValueError(f"length must be 3 tokens a box and 2 for the crop (5, 8, ..., 92), got {length}")
        self.config = {
            "classes": classes,
            "vocab": vocab,
            "length": length,
            "width": width,
            "depth": depth,
            "heads": heads,
        }
        self.sections = math.isqrt(vocab - classes - 1)
        self.encoder = TokenEncoder(vocab, length, width, depth, heads)
        self.pool = MaskedPool(width)

    def prepare(self, inputs: Sequence[Any]) -> Condition:
        """Tokens of layouts.

        Args:
            inputs: A ``Layout`` a sample.

        Returns:
            "boxes", (b, length) int64, with the tokens of ``Layout()`` as null.

        Raises:
            ValueError: No layouts, an entry that is none, or a class out of range.
        """
        if not len(inputs):
            raise ValueError("layouts come as a list with at least one Layout, got an empty one")
        for layout in inputs:
            if not isinstance(layout, Layout):
                raise ValueError(f"a layout must be a Layout, got {type(layout).__name__}; make one: Layout(boxes)")
        rows = [self._tokens(layout) for layout in inputs]
        return Condition({"boxes": torch.tensor(rows)}, {"boxes": torch.tensor([self._tokens(Layout())])})

    def encode(self, raw: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Tokens (b, n) to "text" (b, n, d), "text_mask" (b, n) and "pooled" (b, d)."""
        tokens = raw["boxes"]
        mask = tokens != self.config["vocab"] - 1
        text = self.encoder(tokens, mask)
        return {"text": text, "text_mask": mask, "pooled": self.pool(text, mask)}

    def _place(self, x: Number, y: Number) -> int:
        last = self.sections - 1
        return round(y * last) * self.sections + round(x * last)

    def _tokens(self, layout: Layout) -> list[int]:
        most = (self.config["length"] - 2) // 3
        if len(layout.boxes) > most:
            warnings.warn(f"layout cut to {most} of its {len(layout.boxes)} boxes", stacklevel=4)
        out = []
        for *sides, kind in layout.boxes[:most]:
            number = class_index(kind, self.config["classes"])
            out += [self._place(*sides[:2]), self._place(*sides[2:]), self.sections**2 + number]
        out += [self.config["vocab"] - 1] * (3 * most - len(out))
        return [*out, self._place(*layout.crop[:2]), self._place(*layout.crop[2:])]
