"""`mezzotint reproduce ID`: run a paper's demonstration and keep what it showed."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from mezzotint.cli.options import Parser, find_device, print_json
from mezzotint.papers import LedgerEntry, find_card, write_ledger
from mezzotint.papers.run import run_demonstration


def main(arguments: Sequence[str]) -> int:
    """Run the demonstration, print its table, and write `<out>/<id>.json`."""
    parser = Parser("reproduce", "Run a paper's demonstration: table, picture, and a ledger entry a claim.")
    parser.add_argument("id", help="arXiv id, such as 2112.10752")
    parser.add_argument("--quick", action="store_true", help="the shortened run: minutes")
    parser.add_argument("--out", type=Path, default=Path("results"), help="folder of the ledger")
    parser.seed_option(help="first of the paired seeds")
    parser.device_option()
    parser.json_option()
    told = parser.parse_args(arguments)
    card = find_card(told.id)
    if card.status != "demonstrated":
        run_demonstration(card.id)  # raises: says what can be run
    told.out.mkdir(parents=True, exist_ok=True)
    device = find_device(told.device)
    entries = run_demonstration(card.id, told.quick, told.seed, device, told.out, _say)
    path = told.out / f"{card.id}.json"
    write_ledger(path, entries)
    if told.json:
        print_json([entry.to_dict() for entry in entries])
    else:
        print(_table(entries))
        print(f"written to {path}")
    return 0


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _table(entries: list[LedgerEntry]) -> str:
    blocks = []
    for entry in entries:
        low, high = entry.interval or (entry.ours - entry.baseline,) * 2
        blocks.append(
            f"{entry.verdict.upper()}: {entry.claim}\n"
            f"  {entry.measure} [{entry.unit}, {entry.direction} is better]: ours {entry.ours:.4g}, "
            f"baseline {entry.baseline:.4g}, difference {low:.4g} to {high:.4g} (95 %)\n"
            f"  {len(entry.seeds)} seeds, {entry.scale}, {entry.seconds:.0f} s on {entry.hardware}"
            + (f"\n  {entry.notes}" if entry.notes else "")
        )
    return "\n".join(blocks)
