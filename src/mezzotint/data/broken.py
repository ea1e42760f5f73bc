"""Images that cannot be read: passed over in a way that is the same each time, counted, named, and not too many."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from mezzotint.data.decode import BrokenImage

__all__ = ["Broken", "TooManyBroken", "first_good"]

T = TypeVar("T")
_WARNED = 20


class TooManyBroken(ValueError):
    """More images than the set share cannot be read."""


class Broken:
    """The record of a source's unreadable images.

    Args:
        total: images of the source.
        share: greatest share of them that may be unreadable, in [0, 1].

    Attributes:
        found: index -> name and cause, of those met so far.

    Raises:
        ValueError: for another share.
    """

    def __init__(self, total: int, share: float = 0.01) -> None:
        if not 0 <= share <= 1:
            raise ValueError(f"the share of broken images that is let pass is {share}; expected a number in [0, 1]")
        self.total, self.share = total, share
        self.found: dict[int, str] = {}

    @property
    def most(self) -> int:
        """The greatest number that is let pass: floor(share total), of an only image none."""
        return min(math.floor(self.share * self.total), self.total - 1)

    def add(self, found: Mapping[int, str], warn: bool = True) -> None:
        """Take note of broken images; each of the first ones is named in a warning, unless not wanted.

        Raises:
            TooManyBroken: where there are more than the share; names some.
        """
        for index, cause in found.items():
            if index not in self.found:
                self.found[index] = cause
                if warn and len(self.found) <= min(_WARNED, self.most):
                    warnings.warn(f"broken image passed over: {cause}", stacklevel=4)
        if len(self.found) > self.most:
            named = "; ".join(list(self.found.values())[:5])
            more = f"; and {len(self.found) - 5} more" if len(self.found) > 5 else ""
            raise TooManyBroken(
                f"{len(self.found)} of {self.total} images cannot be read, more than the {self.share:.2%} let pass: "
                f"{named}{more}. Mend or remove them, or let more of them pass"
            )

    def report(self) -> dict[str, Any]:
        """JSON values: how many of how many, and the names with their causes."""
        return {"broken": len(self.found), "of": self.total, "names": [self.found[i] for i in sorted(self.found)]}


def first_good(
    load: Callable[[int], T], index: int, total: int, known: dict[int, str], met: dict[int, str], most: int
) -> tuple[int, T] | None:
    """What `load` makes of image `index`, or of the first good one after it (round the end): a function of the data.

    Args:
        load: index -> anything; raises BrokenImage.
        index: where to begin.
        total: images of the source.
        known: index -> cause of those known to be broken, which are not tried again; new ones are added.
        met: the broken ones met on this way are added.
        most: give up, with None, as soon as more than so many were met.
    """
    for offset in range(total):
        i = (index + offset) % total
        if i not in known:
            try:
                return i, load(i)
            except BrokenImage as error:
                known[i] = str(error)
        met[i] = known[i]
        if len(met) > most:
            return None
    return None
