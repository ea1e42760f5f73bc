"""The tables of docs/restoration-measured.md, generated from results/bench/restore.json and restore-photo.json.

python tools/restore_table.py            rewrites the tables
python tools/restore_table.py --check    status 1 where the page is not up to date
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "restoration-measured.md"
MEASURED = {"emoji": "restore.json", "photo": "restore-photo.json"}  # mark -> file of results/bench
NOT_YET = "Not measured yet."
OURS = "mezzotint"


def load() -> dict[str, Mapping[str, Any] | None]:
    """The results there are."""
    found: dict[str, Mapping[str, Any] | None] = {}
    for mark, name in MEASURED.items():
        path = ROOT / "results" / "bench" / name
        found[mark] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None
    return found


def conditions(found: Mapping[str, Any]) -> str:
    """With what it was measured."""
    versions = ", ".join(f"{name} {number}" for name, number in found["versions"].items() if number)
    noise = ", ".join(f"{task} {std:g}" for task, std in found["noise"].items())
    return (
        f"{found['data']}; prior `{found['model']}`; {found['nfe']} network calls a picture, {found['batch']} pictures "
        f"at once; std of the noise where images lie in [-1, 1]: {noise}. {versions}; {found['hardware']}."
    )


def overview(found: Mapping[str, Any]) -> str:
    """PSNR of our methods and of what has no prior, a column a task; the best of each in bold."""
    tasks = list(found["noise"])
    own = [row for row in found["rows"] if row["side"] in (OURS, "no prior")]
    best = {task: max(r["psnr"] for r in own if r["task"] == task and r["psnr"] is not None) for task in tasks}
    lines = [["method", *tasks], ["---"] * (len(tasks) + 1)]
    for method in dict.fromkeys(row["method"] for row in own):
        cells = {row["task"]: row["psnr"] for row in own if row["method"] == method}
        shown = ["" if cells.get(t) is None else _bold(f"{cells[t]:.2f}", cells[t] == best[t]) for t in tasks]
        lines.append([f"`{method}`", *shown])
    return _table(lines)


def details(found: Mapping[str, Any]) -> str:
    """Every measurement, a row a task, method and side."""
    head = ["task", "method", "whose", "PSNR", "SSIM", "perceptual", "Fréchet", "misfit", "NFE", "s an image", "MiB"]
    lines = [head, ["---"] * len(head)]
    for r in found["rows"]:
        if r["psnr"] is None:
            continue
        memory = "" if r["memory"] is None else f"{r['memory']:.0f}"
        lines.append(
            [r["task"], f"`{r['method']}`", r["side"], f"{r['psnr']:.2f} ± {r['psnr_error']:.2f}", f"{r['ssim']:.3f}",
             f"{r['perceptual']:.4f}", f"{r['frechet']:.3f}", f"{r['consistency']:.4f}", str(r["nfe"]),
             f"{r['seconds']:.3f}", memory]
        )  # fmt: skip
    return _table(lines)


def beside(found: Mapping[str, Any]) -> str:
    """Ours less deepinv's; behind by more than the goal allows in bold."""
    head = ["task", "method", "deepinv's", "each library's levels", "deepinv's levels for both"]
    lines = [head, ["---"] * len(head)]
    pairs = {(p["task"], p["method"], p["levels"]): p for p in found["ours less deepinv's"]}
    for task, method in dict.fromkeys((task, method) for task, method, _ in pairs):
        own, theirs = (pairs.get((task, method, levels)) for levels in ("own", "deepinv's"))
        name = (own or theirs or {})["theirs"]
        lines.append([task, f"`{method}`", f"`{name}`", _pair(own), _pair(theirs)])
    if len(lines) == 2:
        return "deepinv was not installed."
    return _table(lines)


def with_tables(page: str, found: Mapping[str, Mapping[str, Any] | None]) -> str:
    """The page with what stands between its marks replaced."""
    for mark, result in found.items():
        for make in (conditions, overview, beside, details):
            name = f"{mark} {make.__name__}"
            begin, end = f"<!-- {name}: begin (tools/restore_table.py) -->", f"<!-- {name}: end -->"
            head, found_begin, rest = page.partition(begin)
            _, found_end, tail = rest.partition(end)
            if not found_begin or not found_end:
                raise ValueError(f"{PAGE.name} has lost the marks {begin!r} and {end!r}")
            page = f"{head}{begin}\n\n{NOT_YET if result is None else make(result)}\n\n{end}{tail}"
    return page


def _pair(pair: Mapping[str, Any] | None) -> str:
    if pair is None:
        return ""
    return _bold(f"{pair['difference']:+.2f}", not pair["goal_met"]) + f" ({pair['low']:+.2f} to {pair['high']:+.2f})"


def _bold(text: str, strong: bool) -> str:
    return f"**{text}**" if strong else text


def _table(lines: list[list[str]]) -> str:
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def main(arguments: list[str]) -> int:
    old = PAGE.read_text(encoding="utf-8")
    new = with_tables(old, load())
    if "--check" in arguments:
        if new != old:
            print(f"docs/{PAGE.name} is not up to date; run: make readme", file=sys.stderr)
        return int(new != old)
    PAGE.write_text(new, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
