"""Is everything that the words name in the picture, of the right kind, and where it should be?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["Agreement", "Seen", "Wanted", "layout_agreement"]

_RELATIONS = {"above": (1, 1), "below": (1, -1), "left of": (0, 1), "right of": (0, -1)}


@dataclass(frozen=True)
class Seen:
    """An object that a detector found: what it is, an attribute such as its colour, and its centre (shares, y down)."""

    kind: str
    attribute: str
    x: float
    y: float


@dataclass(frozen=True)
class Wanted:
    """What one picture should show.

    Args:
        objects: (kind, attribute) of each.
        relation: (i, "left of", j) or None; also "right of", "above", "below".
        centres: where the objects were planned, or None.
    """

    objects: tuple[tuple[str, str], ...]
    relation: tuple[int, str, int] | None = None
    centres: tuple[tuple[float, float], ...] | None = None


@dataclass(frozen=True)
class Agreement:
    """Shares from 0 to 1, nan where there was nothing to count.

    Args:
        recall: of the wanted objects, those whose kind was found (each thing found stands for one object).
        attribute: of the wanted objects, those found with their attribute too.
        relation: of the pairs whose objects were both found, those in the stated relation.
        pairs: how many such pairs there were.
        placed: of the wanted objects with a plan, those found within the radius of it.
    """

    recall: float
    attribute: float
    relation: float
    pairs: int
    placed: float


def layout_agreement(seen: Sequence[Sequence[Seen]], wanted: Sequence[Wanted], radius: float | int = 0.2) -> Agreement:
    """Compare what was found with what was wanted, picture by picture.

    Each wanted object takes the thing of its kind that is left, first those of its attribute; a relation is read off
    the centres of what was taken, and holds if the coordinate is smaller or larger at all. Recall has to be read beside
    the share of relations, which counts complete pairs only.

    Args:
        seen: what a detector found in each picture, the surest first.
        wanted: of each picture.
        radius: how near to its plan an object is in place.

    Raises:
        ValueError: for numbers that differ, no picture, an unknown relation or one of an object that is not wanted.

    Source: arXiv 2304.03869, sheet section 3.4 (relations by box centres, incomplete pairs left out); attribute and
    place are our choice.

    >>> want = Wanted((("ring", "red"), ("cross", "blue")), (0, "left of", 1))
    >>> layout_agreement([[Seen("cross", "red", 0.8, 0.5), Seen("ring", "red", 0.2, 0.5)]], [want])
    Agreement(recall=1.0, attribute=0.5, relation=1.0, pairs=1, placed=nan)
    """
    if len(seen) != len(wanted) or not wanted:
        raise ValueError(
            f"{len(seen)} pictures were looked at and {len(wanted)} wanted; give one of each, at least one"
        )
    found = right = total = near = planned = holds = pairs = 0
    for things, want in zip(seen, wanted, strict=True):
        taken = _taken(things, want)
        if want.centres is not None and len(want.centres) != len(taken):
            raise ValueError(f"{len(want.centres)} planned centres for {len(taken)} wanted objects; give one an object")
        total += len(taken)
        found += sum(thing is not None for thing in taken)
        right += sum(
            thing is not None and thing.attribute == attribute
            for thing, (_, attribute) in zip(taken, want.objects, strict=True)
        )
        for thing, (x, y) in zip(taken, want.centres or ()):
            planned += 1
            near += thing is not None and (thing.x - x) ** 2 + (thing.y - y) ** 2 < radius**2
        if want.relation is None:
            continue
        i, name, j = want.relation
        if name not in _RELATIONS or not (0 <= i < len(taken) and 0 <= j < len(taken)):
            raise ValueError(f"relation {want.relation}; expected (i, name, j), {', '.join(_RELATIONS)}, of objects")
        one, two = taken[i], taken[j]
        if one is not None and two is not None:
            axis, sign = _RELATIONS[name]
            pairs += 1
            holds += sign * ((two.x, two.y)[axis] - (one.x, one.y)[axis]) > 0
    share = lambda part, whole: part / whole if whole else float("nan")  # noqa: E731
    return Agreement(share(found, total), share(right, total), share(holds, pairs), pairs, share(near, planned))


def _taken(things: Sequence[Seen], want: Wanted) -> list[Seen | None]:
    """The thing that stands for each wanted object; those with the right attribute choose first."""
    left = list(things)
    taken: list[Seen | None] = [None for _ in want.objects]
    for exact in (True, False):
        for k, (kind, attribute) in enumerate(want.objects):
            for thing in left:
                if taken[k] is None and thing.kind == kind and (thing.attribute == attribute or not exact):
                    taken[k] = thing
                    left.remove(thing)
                    break
    return taken
