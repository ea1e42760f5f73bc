"""Handlers that see some rows of a batch only, and the one way in which this room opens handlers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from torch import Tensor, nn

from mezzotint.attention.places import check_sites
from mezzotint.nn.site import Call, Handler, handling

__all__ = ["OnRows", "Rows", "When", "acts", "alone", "opening"]

Rows = slice | Sequence[int] | None
When = Callable[[Call], bool] | None


def acts(when: When, call: Call) -> bool:
    """Whether a handler acts at a call: always, unless a predicate says otherwise."""
    return when is None or when(call)


class OnRows(Handler):
    """Another handler, shown some rows of the batch; the others pass unchanged.

    Args:
        handler: any.
        rows: a slice, or row numbers. Guidance evaluates [null, condition] in one batch of 2 b rows: `slice(b, None)`
            is the conditional half, `slice(0, b)` the other.

    Raises:
        ValueError: for no rows; at the call: the batch has no such row.

    >>> OnRows(Handler(), slice(1, None)).explicit
    False
    """

    def __init__(self, handler: Handler, rows: slice | Sequence[int]) -> None:
        if not isinstance(rows, slice):
            rows = list(rows)
            if not rows or len(set(rows)) < len(rows):
                raise ValueError(f"rows={rows}; expected a slice or row numbers of the batch, each once")
        self.handler, self.rows = handler, rows
        self.explicit = handler.explicit

    def tokens(self, call: Call, q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """See Handler.tokens."""
        parts = tuple(self._part(call, x) for x in (q, k, v))
        made = self.handler.tokens(call, *parts)
        self.explicit = self.handler.explicit
        kept = (self._whole(*three) for three in zip((q, k, v), parts, made, strict=True))
        return next(kept), next(kept), next(kept)

    def logits(self, call: Call, logits: Tensor) -> Tensor:
        """See Handler.logits."""
        part = self._part(call, logits)
        return self._whole(logits, part, self.handler.logits(call, part))

    def maps(self, call: Call, maps: Tensor) -> Tensor:
        """See Handler.maps."""
        part = self._part(call, maps)
        return self._whole(maps, part, self.handler.maps(call, part))

    def _part(self, call: Call, x: Tensor) -> Tensor:
        batch = len(x)
        there = range(batch)[self.rows] if isinstance(self.rows, slice) else self.rows
        if len(there) == 0 or not all(-batch <= row < batch for row in there):
            raise ValueError(
                f"rows={self.rows} of a batch of {batch} at {call.site!r}; expected rows that it has (guidance "
                "evaluates [null, condition] in one batch of twice as many)"
            )
        return x[self.rows]

    def _whole(self, x: Tensor, part: Tensor, made: Tensor) -> Tensor:
        if made is part:
            return x
        x = x.clone()
        x[self.rows] = made.to(x.dtype)
        return x


def alone(x: Tensor) -> Tensor:
    """A tensor that holds no more than itself: of a part of a larger one, which it would keep in memory, a copy."""
    try:
        whole = x.untyped_storage().nbytes() == x.numel() * x.element_size()
    except RuntimeError:  # inside a transformation of torch.func there is no storage to ask
        return x
    return x if whole else x.clone()


@contextmanager
def opening(root: nn.Module, handler: Handler, sites: str, rows: Rows = None) -> Iterator[None]:
    """`handling`, on some rows, with one clear line where the model has no such attention."""
    check_sites(root, sites)
    with handling(root, handler if rows is None else OnRows(handler, rows), sites):
        yield
