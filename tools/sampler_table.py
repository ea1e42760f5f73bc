"""The tables of docs/samplers.md, generated from the list of samplers and from results/bench/accuracy-mixture.json.

python tools/sampler_table.py            rewrites the tables
python tools/sampler_table.py --check    status 1 where docs/samplers.md is not up to date
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mezzotint.bench.ours import OURS
from mezzotint.sample import NAMED

ROOT = Path(__file__).resolve().parent.parent
MEASURED = ROOT / "results" / "bench" / "accuracy-mixture.json"
SHOWN = (5, 10, 20, 40, 80, 160)


def samplers(found: Mapping[str, Any]) -> str:
    """A row a named sampler: the order it states, the slope that was measured, its errors."""
    slopes = {row["solver"]: row["slope"] for row in found["slopes"] if row["library"] == OURS}
    errors = {(row["solver"], row["nfe"]): row["rmse"] for row in found["rows"] if row["library"] == OURS}
    head = ["sampler", "paper", "order", "slope", "NFE", "noise", *(str(n) for n in SHOWN)]
    rows = [head, ["---"] * len(head)]
    for name, entry in NAMED.items():
        slope = f"{slopes[name]:.2f}" if name in slopes else ""
        cells = [_error(errors.get((name, n))) for n in SHOWN]
        noise = "yes" if entry.stochastic else ""
        rows.append([f"`{name}`", entry.paper, str(entry.order), slope, entry.nfe, noise, *cells])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def parity(found: Mapping[str, Any]) -> str:
    """A row a peer's solver that computes what one of ours does: the largest difference over all numbers of steps."""
    apart: dict[tuple[str, str, str], float] = {}
    for row in found["rows"]:
        if row["apart"] is not None:
            who = (row["library"], row["solver"], row["equals"])
            apart[who] = max(apart.get(who, 0.0), row["apart"])
    rows = ["| library | its solver | ours | largest difference |", "| --- | --- | --- | --- |"]
    rows += [f"| {a} | {b} | `{c}` | {value:.1e} |" for (a, b, c), value in apart.items()]
    return "\n".join(rows)


def others(found: Mapping[str, Any]) -> str:
    """A row a peer's solver that none of ours equals."""
    equal = {(row["library"], row["solver"]) for row in found["rows"] if row["apart"] is not None}
    slopes = {(row["library"], row["solver"]): row["slope"] for row in found["slopes"]}
    errors = {(row["library"], row["solver"], row["nfe"]): row["rmse"] for row in found["rows"]}
    head = ["library", "solver", "slope", *(str(n) for n in SHOWN)]
    rows = [head, ["---"] * len(head)]
    for who, slope in slopes.items():
        if who[0] != OURS and who not in equal:
            rows.append([*who, f"{slope:.2f}", *(_error(errors.get((*who, n))) for n in SHOWN)])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def conditions(found: Mapping[str, Any]) -> str:
    """With what it was measured."""
    versions = ", ".join(f"{name} {number}" for name, number in found["versions"].items())
    levels = found["levels"]
    return (
        f"Measured on the {found['problem']} against {found['truth']}, {found['samples']} samples, steps uniform in "
        f"log(sigma/alpha) from {levels['high']:g} to {levels['low']:g}; {versions}; {found['hardware']}."
    )


def with_tables(page: str, found: Mapping[str, Any]) -> str:
    """The page with what stands between its marks replaced."""
    for make in (samplers, conditions, parity, others):
        begin, end = f"<!-- {make.__name__}: begin (tools/sampler_table.py) -->", f"<!-- {make.__name__}: end -->"
        head, found_begin, rest = page.partition(begin)
        _, found_end, tail = rest.partition(end)
        if not found_begin or not found_end:
            raise ValueError(f"docs/samplers.md has lost the marks {begin!r} and {end!r}")
        page = f"{head}{begin}\n\n{make(found)}\n\n{end}{tail}"
    return page


def _error(value: float | None) -> str:
    return "" if value is None else f"{value:.1e}"


def main(arguments: list[str]) -> int:
    path = ROOT / "docs" / "samplers.md"
    old = path.read_text(encoding="utf-8")
    new = with_tables(old, json.loads(MEASURED.read_text(encoding="utf-8")))
    if "--check" in arguments:
        if new != old:
            print("docs/samplers.md is not up to date; run: make readme", file=sys.stderr)
        return int(new != old)
    path.write_text(new, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
