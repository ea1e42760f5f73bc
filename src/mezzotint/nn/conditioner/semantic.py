"""Semantic maps: a class for every pixel, as channels beside the latent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mezzotint.core.condition import Condition
from mezzotint.nn.conditioner.base import Conditioner


class SemanticMapConditioner(Conditioner):
    """A map of classes, halved to the size of the latent, as learned channels.

    concat = W halve^n(onehot(map)),  halve: bilinear by 2, which averages blocks of 2 x 2;  W: 1 x 1, no bias

    Both maps are linear and one acts on channels, the other on places, so they commute: W is applied first, as a
    table look-up, and the one-hot image is never made. There is no null: guidance keeps the map in both halves.

    Args:
        classes: Number of classes.
        channels: Channels of the result.
        halvings: Times that the map is halved; 2^halvings is the autoencoder's factor.

    Raises:
        ValueError: Sizes below 1, negative halvings.

    Source: arXiv 2112.10752, appendix D and code (182 classes, 3 channels, 2 halvings).

    >>> semantic = SemanticMapConditioner(classes=5)
    >>> semantic(semantic.prepare([torch.zeros(8, 8, dtype=torch.int64)]))
    Condition(concat: (1, 3, 2, 2); null for [])
    """

    reads = ("semantic",)

    def __init__(self, classes: int = 182, channels: int = 3, halvings: int = 2) -> None:
        super().__init__()
        if classes < 1 or channels < 1 or halvings < 0:
            raise ValueError(
                f"classes, channels must be at least 1, halvings at least 0, got {classes}, {channels}, {halvings}"
            )
        self.config = {"classes": classes, "channels": channels, "halvings": halvings}
        self.mix = nn.Conv2d(classes, channels, 1, bias=False)

    def prepare(self, inputs: Sequence[Any]) -> Condition:
        """Class maps of a batch.

        Args:
            inputs: Integer tensors (h, w) of one size, a multiple of 2^halvings, with classes in [0, classes).

        Returns:
            "semantic", (b, h, w) int64, without a null.

        Raises:
            ValueError: No maps, other types or shapes, a size not divisible, a class out of range.
        """
        if not len(inputs):
            raise ValueError("maps come as a list with at least one tensor, got an empty one")
        classes, multiple = self.config["classes"], 2 ** self.config["halvings"]
        for classmap in inputs:
            if not isinstance(classmap, Tensor) or classmap.is_floating_point() or classmap.is_complex():
                found = f"a {classmap.dtype} tensor" if isinstance(classmap, Tensor) else type(classmap).__name__
                raise ValueError(f"a semantic map must be an integer tensor (h, w), got {found}")
            if classmap.ndim != 2 or classmap.shape != inputs[0].shape or not classmap.numel():
                raise ValueError(f"maps must all be (h, w) of one size, got {[tuple(m.shape) for m in inputs][:4]}")
            if any(side % multiple for side in classmap.shape):
                raise ValueError(f"a map's sides must be multiples of {multiple}, got {tuple(classmap.shape)}; crop it")
            low, high = (int(v) for v in classmap.aminmax())
            if low < 0 or high >= classes:
                raise ValueError(
                    f"classes must be from 0 to {classes - 1}, got {low} to {high}; give void its own class"
                )
        return Condition({"semantic": torch.stack([m.detach().cpu().long() for m in inputs])})

    def encode(self, raw: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Classes (b, h, w) to "concat" (b, channels, h / 2^halvings, w / 2^halvings)."""
        table = self.mix.weight.flatten(1).t()
        image = F.embedding(raw["semantic"], table).permute(0, 3, 1, 2)
        for _ in range(self.config["halvings"]):
            image = F.interpolate(image, scale_factor=0.5, mode="bilinear", align_corners=False)
        return {"concat": image}
