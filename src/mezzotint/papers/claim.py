"""From what a demonstration measured for each claim to ledger entries, with the verdict that the numbers carry."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from mezzotint.papers.interval import paired_interval
from mezzotint.papers.ledger import Direction, LedgerEntry, Scale, strongest_verdict
from mezzotint.papers.setting import hardware, versions

__all__ = ["Claim", "entries_of", "mean"]


@dataclass(frozen=True)
class Claim:
    """One claim with its figures.

    Args:
        claim, measure: as in `LedgerEntry`.
        baseline, ours: one value a seed, paired; a single value for an exact result without randomness.
        holds: whether the criterion of the claim is met.
        note: what a reader must know; never empty where the claim may fail.
        seeds: of the pairs; empty for a single value.
        scale, direction, unit: as in `LedgerEntry`.
    """

    claim: str
    measure: str
    baseline: Sequence[float]
    ours: Sequence[float]
    holds: bool
    note: str
    seeds: tuple[int, ...] = ()
    scale: Scale = "exact"
    direction: Direction = "lower"
    unit: str = "1"


def mean(values: Sequence[float]) -> float:
    """The mean, summed exactly.

    >>> mean([1.0, 2.0])
    1.5
    """
    return math.fsum(values) / len(values)


def entries_of(
    paper: str, claims: Iterable[Claim], *, quick: bool, device: str, seconds: float, setting: str
) -> list[LedgerEntry]:
    """One entry a claim, with the strongest verdict its numbers carry; `setting` ends every note."""
    made = []
    for c in claims:
        draft = LedgerEntry(
            paper=paper, claim=c.claim, measure=c.measure, unit=c.unit, baseline=mean(c.baseline), ours=mean(c.ours),
            direction=c.direction, seeds=c.seeds, holds=c.holds, verdict="not shown", scale=c.scale,
            interval=paired_interval(c.ours, c.baseline) if len(c.ours) > 1 else None, hardware=hardware(device),
            seconds=round(seconds, 1), versions=versions(), notes=f"{c.note}. {setting}",
            recipe=f"mezzotint reproduce {paper}{' --quick' if quick else ''}",
        )  # fmt: skip
        made.append(replace(draft, verdict=strongest_verdict(draft)))
    return made
