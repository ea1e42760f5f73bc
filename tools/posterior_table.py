"""The tables of docs/restoration-exact.md, generated from results/bench/posterior.json.

python tools/posterior_table.py            rewrites the tables
python tools/posterior_table.py --check    status 1 where the page is not up to date
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "restoration-exact.md"
MEASURED = ROOT / "results" / "bench" / "posterior.json"
EXACT = "exact samples"


def conditions(found: Mapping[str, Any]) -> str:
    """With what it was measured."""
    versions = ", ".join(f"{name} {number}" for name, number in found["versions"].items())
    return (
        f"{found['problem']}; {found['steps']} steps, {found['samples']} samples of each of {found['measurements']} "
        f"measurements; {versions}; {found['hardware']}."
    )


def overview(found: Mapping[str, Any]) -> str:
    """A row a method: error of mean and covariance over all measurements of a prior, and the calls."""
    priors = _seen(found, "prior")
    head = ["method", "NFE", *(f"{prior}: mean" for prior in priors), *(f"{prior}: covariance" for prior in priors)]
    lines = [head, ["---"] * len(head)]
    for method in _seen(found, "method"):
        rows = [row for row in found["rows"] if row["method"] == method]
        cells = [
            f"{_rms(row[error] for row in rows if row['prior'] == prior):.2f}"
            for error in ("mean_error", "cov_error")
            for prior in priors
        ]
        lines.append([_name(method), str(rows[0]["nfe"] or ""), *cells])
    return _table(lines)


def details(found: Mapping[str, Any]) -> str:
    """A table a prior: a row a method, a column an operator and noise; mean / covariance / spread."""
    parts = []
    for prior in _seen(found, "prior"):
        rows = {(r["method"], r["operator"], r["std"]): r for r in found["rows"] if r["prior"] == prior}
        columns = list(dict.fromkeys((operator, std) for _, operator, std in rows))
        lines = [["method", *(f"{operator}, {std:g}" for operator, std in columns)], ["---"] * (len(columns) + 1)]
        for method in _seen(found, "method"):
            lines.append([_name(method), *(_cell(rows.get((method, *column))) for column in columns)])
        parts.append(f"{prior[0].upper()}{prior[1:]}:\n\n{_table(lines)}")
    return "\n\n".join(parts)


def with_tables(page: str, found: Mapping[str, Any]) -> str:
    """The page with what stands between its marks replaced."""
    for make in (conditions, overview, details):
        begin, end = f"<!-- {make.__name__}: begin (tools/posterior_table.py) -->", f"<!-- {make.__name__}: end -->"
        head, found_begin, rest = page.partition(begin)
        _, found_end, tail = rest.partition(end)
        if not found_begin or not found_end:
            raise ValueError(f"{PAGE.name} has lost the marks {begin!r} and {end!r}")
        page = f"{head}{begin}\n\n{make(found)}\n\n{end}{tail}"
    return page


def _seen(found: Mapping[str, Any], what: str) -> Sequence[str]:
    return list(dict.fromkeys(row[what] for row in found["rows"]))


def _name(method: str) -> str:
    return method if method == EXACT else f"`{method}`"


def _rms(values: Any) -> float:
    squares = [value**2 for value in values]
    return math.sqrt(sum(squares) / len(squares))


def _cell(row: Mapping[str, Any] | None) -> str:
    return "" if row is None else f"{row['mean_error']:.2f} / {row['cov_error']:.2f} / {row['spread']:.2f}"


def _table(lines: list[list[str]]) -> str:
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def main(arguments: list[str]) -> int:
    old = PAGE.read_text(encoding="utf-8")
    new = with_tables(old, json.loads(MEASURED.read_text(encoding="utf-8")))
    if "--check" in arguments:
        if new != old:
            print(f"docs/{PAGE.name} is not up to date; run: python tools/posterior_table.py", file=sys.stderr)
        return int(new != old)
    PAGE.write_text(new, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
