"""Which objects of a caption are wanted where."""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping, Sequence

from mezzotint.guide.region import Disc, Region
from mezzotint.nn.conditioner.tokenizer import words

__all__ = ["Places", "placed"]

Place = Region | tuple[float | int, float | int]
Places = Mapping[str, Place] | Sequence[tuple[str, Place]]
_MANY = 5  # discs of the usual radius overlap beyond


def placed(caption: str, layout: Places, radius: float | int = 0.2) -> list[tuple[str, Region]]:
    """The objects of a caption with their regions.

    Args:
        caption: with every phrase in it, as whole words; case does not matter.
        layout: {phrase: place}, or pairs where a phrase comes twice; a place is a region or the centre of a disc.
        radius: of the discs.

    Raises:
        ValueError: for more places than words, a phrase that is not in the caption or oftener than there, a centre
            outside the image, or a place that is neither a region nor a centre.

    >>> placed("a cat beside a dog", {"a cat": (0.2, 0.5)})
    [('a cat', Disc(x=0.2, y=0.5, radius=0.2, edge=0.0))]
    """
    pairs = list(layout.items()) if isinstance(layout, Mapping) else list(layout)
    if len(pairs) > len(words(caption)):
        raise ValueError(f"{len(pairs)} regions for the {len(words(caption))} words of {caption!r}; give fewer")
    if len(pairs) > _MANY:
        warnings.warn(f"{len(pairs)} objects: regions of radius {radius} overlap, and boosts add up", stacklevel=3)
    found: list[tuple[str, Region]] = []
    for phrase, place in pairs:
        inside = r"\s+".join(map(re.escape, phrase.split()))
        there = len(re.findall(rf"(?<!\w){inside}(?!\w)", caption, re.IGNORECASE)) if inside else 0
        if there <= sum(_said(other) == _said(phrase) for other, _ in found):
            times = "is not in" if not there else f"comes {there} times in"
            raise ValueError(f"{phrase!r} {times} the caption {caption!r}; give each phrase as often as it is there")
        found.append((phrase, place if isinstance(place, Region) else _disc(phrase, place, radius)))
    return found


def _said(phrase: str) -> list[str]:
    return phrase.casefold().split()


def _disc(phrase: str, place: object, radius: float | int) -> Disc:
    if isinstance(place, Sequence) and len(place) == 2 and all(isinstance(v, (int, float)) for v in place):
        return Disc(*place, radius=radius)
    raise ValueError(f"the place of {phrase!r} is {place!r}; expected a centre (x, y), or a region such as Box or Disc")
