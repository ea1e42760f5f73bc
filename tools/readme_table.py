"""README's table of papers, generated from the catalogue and from `results/`.

python tools/readme_table.py            rewrites the table in README.md
python tools/readme_table.py --check    status 1 where README.md is not up to date
"""

from __future__ import annotations

import sys
from pathlib import Path

from mezzotint.papers import Card, LedgerEntry, catalogue, read_ledger

ROOT = Path(__file__).resolve().parent.parent
BEGIN, END = "<!-- papers: begin (tools/readme_table.py) -->", "<!-- papers: end -->"


def table(results: Path) -> str:
    """The table in Markdown: a row a paper, with what its ledger says."""
    rows = ["| arXiv | paper | space | where | status |", "| --- | --- | --- | --- | --- |"]
    for card in catalogue():
        path = results / f"{card.id}.json"
        entries = read_ledger(path) if path.is_file() else []
        where = ", ".join(f"`{room}`" for room in card.rooms)
        link = f"[{card.id}](https://arxiv.org/abs/{card.id})"
        rows.append(f"| {link} | {card.heading} | {card.space} | {where} | {_status(card, entries)} |")
    return "\n".join(rows)


def _status(card: Card, entries: list[LedgerEntry]) -> str:
    if not entries:
        return {"planned": "planned", "parts": "code, no demonstration yet"}.get(card.status, "demonstration runs")
    verdicts = [entry.verdict for entry in entries]
    kinds = ("shown", "shown in part", "not shown", "contradicted")
    counts = ", ".join(f"{verdicts.count(kind)} {kind}" for kind in kinds if kind in verdicts)
    return f"[{len(entries)} claims](results/{card.id}.json): {counts}"


def with_table(readme: str, results: Path) -> str:
    """The README with the part between the marks replaced."""
    head, begin, rest = readme.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"README.md has lost the marks {BEGIN!r} and {END!r}")
    return f"{head}{BEGIN}\n\n{table(results)}\n\n{END}{tail}"


def main(arguments: list[str]) -> int:
    path = ROOT / "README.md"
    old = path.read_text(encoding="utf-8")
    new = with_table(old, ROOT / "results")
    if "--check" in arguments:
        if new != old:
            print("README.md is not up to date; run: make readme", file=sys.stderr)
        return int(new != old)
    path.write_text(new, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
