"""The ledger: what each demonstration measured, in a form that cannot claim more than the run showed."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, get_args

Direction = Literal["lower", "higher"]
Verdict = Literal["shown", "shown in part", "not shown", "contradicted"]
Scale = Literal["exact", "cpu-small", "gpu-small"]


@dataclass(frozen=True)
class LedgerEntry:
    """One claim, as measured.

    Attributes:
        paper: arXiv id.
        claim: the claim in one sentence, as tested here.
        measure, unit: what was measured, and in what ("1" for a pure number).
        baseline, ours: the means over seeds of the reference and of the method.
        direction: whether "lower" or "higher" is better.
        seeds: the paired seeds; may be empty where the result is exact.
        interval: 95 % interval of `ours - baseline` over the seeds, in `unit` (`paired_interval`); None where
            there is no randomness.
        holds: whether the run met the claim's criterion as written in `claim`.
        verdict: never stronger than `strongest_verdict` of the numbers.
        scale: "exact" (a distribution whose answer is known), "cpu-small" or "gpu-small".
        hardware, seconds, versions: where, how long, with what (`hardware()`, `versions()`).
        recipe: the call or command that repeats it.
        notes: the reason wherever the verdict is not "shown"; what was our choice.

    Raises:
        ValueError: a field outside its values, a number that is not finite, or a verdict stronger than the run.
    """

    paper: str
    claim: str
    measure: str
    unit: str
    baseline: float
    ours: float
    direction: Direction
    seeds: tuple[int, ...]
    interval: tuple[float, float] | None
    holds: bool
    verdict: Verdict
    scale: Scale
    hardware: str
    seconds: float
    versions: dict[str, str] = field(default_factory=dict)
    recipe: str = ""
    notes: str = ""

    def __post_init__(self) -> None:
        for name, allowed in (("direction", Direction), ("verdict", Verdict), ("scale", Scale)):
            if getattr(self, name) not in get_args(allowed):
                raise ValueError(f"{name} must be one of {get_args(allowed)}, got {getattr(self, name)!r}")
        for name in ("paper", "claim", "measure", "unit"):
            if not getattr(self, name):
                raise ValueError(f"a ledger entry needs a {name}")
        numbers = [self.baseline, self.ours, self.seconds, *(self.interval or ())]
        if not all(math.isfinite(number) for number in numbers):
            raise ValueError(f"baseline, ours, seconds and interval must be finite, got {numbers}")
        if self.interval is not None and (len(self.interval) != 2 or self.interval[0] > self.interval[1]):
            raise ValueError(f"interval must be (low, high) with low <= high, got {self.interval}")
        self._check_verdict()

    def _check_verdict(self) -> None:
        strongest = strongest_verdict(self)
        if self.verdict == "contradicted" and strongest != "contradicted":
            raise ValueError(f"the verdict is 'contradicted', but the run carries at most {strongest!r}")
        if _STRENGTH[self.verdict] > _STRENGTH[strongest]:
            raise ValueError(
                f"the verdict {self.verdict!r} is stronger than the run, which carries {strongest!r} "
                f"(holds={self.holds}, ours={self.ours}, baseline={self.baseline}, {self.direction} is better, "
                f"interval={self.interval})"
            )
        if self.verdict != "shown" and not self.notes:
            raise ValueError(f"a verdict of {self.verdict!r} needs its reason in `notes`")

    def to_dict(self) -> dict[str, Any]:
        """A JSON-able dictionary with the fields in their order."""
        row = asdict(self)
        row["seeds"] = list(self.seeds)
        row["interval"] = None if self.interval is None else list(self.interval)
        return row

    @classmethod
    def from_dict(cls, row: dict[str, Any]) -> LedgerEntry:
        """The inverse of `to_dict`; unknown and missing fields are a ValueError."""
        names = {f.name for f in fields(cls)}
        if set(row) != names:
            raise ValueError(
                f"a ledger entry has the fields {sorted(names)}; "
                f"missing {sorted(names - set(row))}, unknown {sorted(set(row) - names)}"
            )
        interval = None if row["interval"] is None else tuple(row["interval"])
        return cls(**{**row, "seeds": tuple(row["seeds"]), "interval": interval})


_STRENGTH = {"contradicted": 0, "not shown": 0, "shown in part": 1, "shown": 2}


def strongest_verdict(entry: LedgerEntry) -> Verdict:
    """The strongest verdict that the numbers of an entry carry.

    With effect = (baseline - ours) if lower is better, else (ours - baseline), and its 95 % interval:
    "shown" needs `holds` and an interval above zero (an exact result needs only effect > 0); "shown in part"
    needs an effect > 0 and either `holds` or an interval above zero; "contradicted" means an interval (or exact
    effect) below zero; the rest is "not shown".
    """
    sign = -1.0 if entry.direction == "lower" else 1.0
    effect = sign * (entry.ours - entry.baseline)
    if entry.interval is not None:
        low, high = sorted(sign * end for end in entry.interval)
    elif entry.scale == "exact":
        low = high = effect
    else:
        low, high = -math.inf, math.inf  # a trained result without an interval says little
    if entry.holds and effect > 0 and low > 0 and (entry.scale == "exact" or len(entry.seeds) >= 2):
        return "shown"
    if effect > 0 and (entry.holds or low > 0):
        return "shown in part"
    return "contradicted" if high < 0 else "not shown"


def read_ledger(path: str | Path) -> list[LedgerEntry]:
    """Read the entries of one `results/<arxiv-id>.json`.

    Raises:
        ValueError: not a JSON list of entries; names the file.
    """
    try:
        rows = json.loads(Path(path).read_text(encoding="utf-8"))
        if not isinstance(rows, list):
            raise ValueError("expected a JSON list with one entry a claim")
        return [LedgerEntry.from_dict(row) for row in rows]
    except (ValueError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} is not a ledger file: {error}") from error


def write_ledger(path: str | Path, entries: Iterable[LedgerEntry]) -> None:
    """Write entries to `path` as a JSON list, atomically; the folder must exist."""
    from mezzotint.io.atomic import write_text

    rows = [entry.to_dict() for entry in entries]
    write_text(path, json.dumps(rows, indent=2, ensure_ascii=False, allow_nan=False) + "\n")
