"""The conditioner: from what a user writes to what a network reads, in two steps.

``prepare`` turns Python inputs (prompts, class indices, boxes, images) into a ``Condition`` of raw integers and
floats on the CPU: small, cheap to move, cheap to store. ``forward`` encodes it with weights that train jointly
with the denoiser. Both carry the null condition, so that guidance and condition dropout need no special case.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from mezzotint.core.condition import Condition


class Conditioner(nn.Module):
    """What all conditioners share: encode the keys one knows, with their null, and pass the others on.

    A subclass names the raw keys that it consumes in ``reads`` and implements ``prepare`` and ``encode``. With
    nothing in ``reads`` a conditioner hands its raw values to the network as they are. Since unknown keys pass,
    conditioners chain: ``layout(text(c))``.

    Source: the condition encoders of arXiv 2112.10752, section 3.3; the split in two steps is our choice.
    """

    reads: ClassVar[tuple[str, ...]] = ()
    example: ClassVar[Any] = None  # an input that prepare takes, None where there is none without an image
    config: dict[str, Any]

    def prepare(self, inputs: Sequence[Any]) -> Condition:
        """Raw values of a list of inputs, one row each, with a null row of batch 1 where a null exists.

        Args:
            inputs: One entry a sample; its type is the subclass's.

        Returns:
            Raw integers and floats on the CPU.

        Raises:
            ValueError: The list is empty, or an entry is not what the conditioner takes.
        """
        raise NotImplementedError

    def with_negative(self, raw: Condition, negative: Any) -> Condition:
        """The raw condition with an input to be guided away from in place of its null.

        Args:
            raw: from ``prepare``.
            negative: one input, of the kind that ``prepare`` takes.
        """
        return Condition(dict(raw), dict(self.prepare([negative])))

    def encode(self, raw: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """What the network reads, from the values under ``reads``; row i of the output depends on row i alone."""
        raise NotImplementedError

    def forward(self, c: Condition) -> Condition:
        """Encode the raw values of a condition and their null row, in one batched call.

        Args:
            c: A condition from ``prepare``, with the batch in the first dimension.

        Returns:
            The keys that networks read ("text", "text_mask", "label", "pooled", "concat") with their null, and every
            key that this conditioner does not know, unchanged.

        Raises:
            ValueError: A key that the conditioner reads is missing, or one that it writes is there already.
        """
        if not self.reads:
            return c
        missing = [key for key in self.reads if key not in c]
        if missing:
            raise ValueError(
                f"{type(self).__name__} reads {list(self.reads)}, the condition lacks {missing}; make it with prepare()"
            )
        values, null = {key: c[key] for key in self.reads}, {}
        if all(key in c.null_rows for key in self.reads):
            encoded = self.encode({key: torch.cat([values[key], c.null_rows[key]]) for key in self.reads})
            values = {key: value[:-1] for key, value in encoded.items()}
            null = {key: value[-1:] for key, value in encoded.items()}
        else:
            values = self.encode(values)
        others = c.without(*self.reads)
        twice = sorted(set(values) & set(others))
        if twice:
            raise ValueError(
                f"{type(self).__name__} writes {twice}, which the condition has already; drop one of the two"
            )
        return others.updated(values, null)
