"""`mezzotint bench sampler`: microseconds a step beside the network, ours and the peers'."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from mezzotint.cli.options import Parser, count, print_json


def main(arguments: Sequence[str]) -> int:
    """Measure, print a table, write JSON if asked; the goal is printed, not enforced."""
    parser = Parser("bench sampler", "What samplers cost beside the network: ours and those of installed peers.")
    parser.add_argument("--solvers", nargs="+", default=["dpmpp-2m", "ddim", "euler"], help="which solvers")
    parser.add_argument("--steps", type=count, default=50, help="steps of a run, at least 15")
    parser.add_argument("--rounds", type=count, default=25, help="runs of each library (the median counts)")
    parser.add_argument("--out", type=Path, help="also write the result to this JSON file")
    parser.json_option()
    told = parser.parse_args(arguments)
    from mezzotint.bench.overhead import measure, report

    rows = measure(told.solvers, steps=told.steps, rounds=told.rounds)
    result = report(rows, told.steps, told.rounds)
    if told.out is not None:
        told.out.parent.mkdir(parents=True, exist_ok=True)
        told.out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    if told.json:
        print_json(result)
        return 0
    print(f"{result['unit']}; {result['hardware']}")
    print("  ".join(f"{name} {number}" for name, number in result["versions"].items()) + "\n")
    print(f"{'solver':<10} {'shape':<16} {'peer':<12} {'theirs (quartiles)':>24} {'ours (quartiles)':>24} {'ratio':>6}")
    for row in rows:
        theirs = "" if row.theirs is None else f"{row.theirs.median:.1f} ({row.theirs.low:.1f}-{row.theirs.high:.1f})"
        ours = f"{row.ours.median:.1f} ({row.ours.low:.1f}-{row.ours.high:.1f})"
        ratio = "" if row.ratio is None else f"{row.ratio:.2f}"
        print(
            f"{row.solver:<10} {row.shape!s:<16} {row.peer or '-':<12} {theirs:>24} {ours:>24} {ratio:>6}  {row.note}"
        )
    print()
    for name, best in result["fastest peer"].items():
        verdict = "goal met" if best["goal met"] else f"goal of {result['goal']} missed"
        print(f"{name}: {best['ratio']:.2f} of the fastest peer, {best['peer']} ({verdict})")
    return 0
