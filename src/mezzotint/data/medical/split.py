"""Splits by patient: no one's slices on both sides."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Mapping, Sequence

from mezzotint.core.noise import fold

__all__ = ["patient_split", "slice_split"]

_SHARES = {"train": 0.8, "validation": 0.1, "test": 0.1}


def patient_split(
    ids: Sequence[Hashable], shares: Mapping[str, float] | None = None, seed: int = 0
) -> dict[str, list[int]]:
    """Indices of each part; all images of one patient are in one part.

    Patients come in an order that (seed, id) fixes, each to the part that lacks most images of its share; every part
    gets a patient. A pure function of the ids, shares and seed; ids are compared by their text.

    Args:
        ids: the patient of each image (or slice).
        shares: name of each part and its share of the images, positive, summing to 1; 0.8 train, 0.1 validation, 0.1
            test by default.
        seed: an integer.

    Returns:
        name -> indices, ascending.

    Raises:
        ValueError: for no image, shares that are none, or fewer patients than parts.

    >>> patient_split(["a", "a", "b", "b"], {"train": 0.5, "test": 0.5})
    {'train': [2, 3], 'test': [0, 1]}
    """
    shares = _checked(shares, len(ids))
    sizes = Counter(str(i) for i in ids)
    if len(sizes) != len(set(ids)):
        raise ValueError("two different ids have the same text; give every patient a name of its own")
    if len(sizes) < len(shares):
        raise ValueError(f"{len(sizes)} patients cannot be split into {len(shares)} parts; every part needs one")
    order = sorted(sizes, key=lambda name: fold(seed, "patient", name))
    lack = {part: share * len(ids) for part, share in shares.items()}
    where: dict[str, str] = {}
    for left, name in zip(range(len(order), 0, -1), order, strict=True):
        empty = [part for part in shares if part not in where.values()]
        part = max(empty if left <= len(empty) else shares, key=lambda p: lack[p])
        where[name], lack[part] = part, lack[part] - sizes[name]
    return {part: [i for i, name in enumerate(ids) if where[str(name)] == part] for part in shares}


def slice_split(
    ids: Sequence[Hashable], shares: Mapping[str, float] | None = None, seed: int = 0, *, force: bool = False
) -> dict[str, list[int]]:
    """Indices of each part, drawn image by image: right only where every image is another patient's.

    Args:
        ids, shares, seed: as of `patient_split`.
        force: split although ids repeat, to show what that does to a test score.

    Raises:
        ValueError: where an id repeats and force is not set.
    """
    shares = _checked(shares, len(ids))
    repeated = [name for name, count in Counter(ids).items() if count > 1]
    if repeated and not force:
        raise ValueError(
            f"{len(repeated)} patients have several images, which a split of single images would put on both sides; "
            "use patient_split, or force=True if that is meant"
        )
    order = sorted(range(len(ids)), key=lambda i: fold(seed, "slice", i))
    parts, start, total = {}, 0, 0.0
    for part, share in shares.items():
        total += share
        end = round(total * len(ids))
        parts[part], start = sorted(order[start:end]), end
    return parts


def _checked(shares: Mapping[str, float] | None, n: int) -> Mapping[str, float]:
    shares = _SHARES if shares is None else shares
    if not shares or any(not s > 0 for s in shares.values()) or not math.isclose(sum(shares.values()), 1, abs_tol=1e-6):
        raise ValueError(f"shares are {dict(shares)}; expected positive numbers that sum to 1")
    if n == 0:
        raise ValueError("there is no image to split")
    return shares
