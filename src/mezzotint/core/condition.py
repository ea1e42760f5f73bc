"""Condition: what a model is told, one batch-first tensor per name, with the value that means "nothing"."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import torch
from jaxtyping import Bool
from torch import Tensor

__all__ = ["Condition"]


class Condition(Mapping[str, Tensor]):
    """A batch-first mapping of tensors, each with an optional null (the unconditional value).

    Networks read the keys "label" (b,) int64, "text" (b, n, d) with "text_mask" (b, n) bool, "pooled" (b, d) and
    "concat" (b, c, h, w). A key without a null (such as "concat") is kept when the condition is dropped: an image to
    restore is part of the question, not of the guidance (arXiv 2112.10752, code).

    Args:
        values: name -> tensor (b, ...), all with the same b.
        null: name -> tensor (1, ...) of the same trailing shape and dtype.

    Raises:
        ValueError: for unequal batch sizes, a null for an unknown key, or a null of another shape.

    >>> c = Condition({"label": torch.tensor([3, 5])}, null={"label": torch.tensor([10])})
    >>> c.null()["label"].tolist(), c.drop(torch.tensor([True, False]))["label"].tolist()
    ([10, 10], [10, 5])
    """

    def __init__(self, values: Mapping[str, Tensor], null: Mapping[str, Tensor] | None = None) -> None:
        self._values = dict(values)
        self._null = dict(null or {})
        for key, value in self._values.items():
            if not isinstance(value, Tensor) or value.ndim == 0:
                raise ValueError(f"condition {key!r} is not a batch-first tensor; give a tensor of shape (batch, ...)")
        sizes = {key: len(value) for key, value in self._values.items()}
        if len(set(sizes.values())) > 1:
            raise ValueError(f"condition has batch sizes {sizes}; expected the same first dimension for every key")
        for key, value in self._null.items():
            if key not in self._values:
                raise ValueError(f"null given for {key!r}, which is no key of the condition {sorted(self._values)}")
            if value.shape != (1, *self._values[key].shape[1:]):
                raise ValueError(
                    f"null of {key!r} has shape {tuple(value.shape)}; expected {(1, *self._values[key].shape[1:])}"
                )

    def __getitem__(self, key: str) -> Tensor:
        return self._values[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        inside = ", ".join(f"{k}: {tuple(v.shape)}" for k, v in self._values.items())
        return f"Condition({inside}; null for {sorted(self._null)})"

    @property
    def batch(self) -> int:
        """Number of rows (0 for an empty condition)."""
        return len(next(iter(self._values.values()))) if self._values else 0

    @property
    def null_rows(self) -> Mapping[str, Tensor]:
        """The null values, each with batch 1."""
        return self._null

    def null(self) -> Condition:
        """The unconditional counterpart: every key that has a null takes it; the others stay."""
        return Condition(
            {k: self._null[k].expand_as(v) if k in self._null else v for k, v in self._values.items()}, self._null
        )

    def drop(self, mask: Bool[Tensor, " b"]) -> Condition:
        """Rows where mask is True become null (classifier-free training; arXiv 2207.12598).

        Raises:
            ValueError: if mask is not (b,) bool.
        """
        if mask.dtype != torch.bool or mask.shape != (self.batch,):
            raise ValueError(
                f"drop got a mask {tuple(mask.shape)} of {mask.dtype}; expected ({self.batch},) of torch.bool"
            )

        def choose(key: str, value: Tensor) -> Tensor:
            if key not in self._null:
                return value
            rows = mask.to(value.device).view(-1, *[1] * (value.ndim - 1))
            return torch.where(rows, self._null[key], value)

        return Condition({k: choose(k, v) for k, v in self._values.items()}, self._null)

    @staticmethod
    def cat(conditions: Sequence[Condition]) -> Condition:
        """Join along the batch. All must have the same keys; the nulls are the first one's.

        Raises:
            ValueError: for no condition, or different keys.
        """
        if not conditions:
            raise ValueError("cat got no condition; give at least one")
        keys = list(conditions[0])
        for other in conditions[1:]:
            if set(other) != set(keys):
                raise ValueError(f"cat got conditions with keys {sorted(keys)} and {sorted(other)}; make them equal")
        return Condition({k: torch.cat([c[k] for c in conditions]) for k in keys}, conditions[0]._null)

    def repeat(self, n: int) -> Condition:
        """Every row n times, neighbours together (repeat_interleave)."""
        return Condition({k: v.repeat_interleave(n, 0) for k, v in self._values.items()}, self._null)

    def rows(self, index: Tensor | slice | Sequence[int]) -> Condition:
        """Some rows, by a slice, a list or an index tensor."""
        return Condition({k: v[index] for k, v in self._values.items()}, self._null)

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> Condition:
        """Move to a device; dtype applies to floating tensors only."""

        def move(value: Tensor) -> Tensor:
            return value.to(device=device, dtype=dtype if value.is_floating_point() else None)

        return Condition({k: move(v) for k, v in self._values.items()}, {k: move(v) for k, v in self._null.items()})

    def updated(self, values: Mapping[str, Tensor], null: Mapping[str, Tensor] | None = None) -> Condition:
        """A copy with some keys added or replaced (their old nulls go unless new ones are given)."""
        kept = {k: v for k, v in self._null.items() if k not in values}
        return Condition({**self._values, **values}, {**kept, **(null or {})})

    def without(self, *keys: str) -> Condition:
        """A copy without some keys."""
        return Condition(
            {k: v for k, v in self._values.items() if k not in keys},
            {k: v for k, v in self._null.items() if k not in keys},
        )
