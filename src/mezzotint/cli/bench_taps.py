"""`mezzotint bench taps`: what taps and edits of attention cost, beside the same run with nothing open."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from mezzotint.cli.options import Parser, count, print_json


def main(arguments: Sequence[str]) -> int:
    """Measure, print a table, write JSON if asked; the goal is printed, not enforced."""
    parser = Parser("bench taps", "What handles on attention cost a sampling run: speed and memory, side by side.")
    parser.add_argument("--models", nargs="+", default=["emoji", "sd"], help="emoji, or sd: diffusers, random weights")
    parser.add_argument("--steps", type=count, default=4, help="steps of a run")
    parser.add_argument("--rounds", type=count, default=9, help="runs of each handle (the median counts)")
    parser.add_argument("--out", type=Path, help="also write the result to this JSON file")
    parser.json_option()
    told = parser.parse_args(arguments)
    from mezzotint.bench.taps import GOAL, measure, report
    from mezzotint.io.atomic import write_text

    rows = measure(told.models, steps=told.steps, rounds=told.rounds)
    result = report(rows, told.steps, told.rounds)
    if told.out is not None:
        told.out.parent.mkdir(parents=True, exist_ok=True)
        write_text(told.out, json.dumps(result, indent=2) + "\n")
    if told.json:
        print_json(result)
        return 0
    print(f"{result['unit']}; {result['hardware']}")
    print("  ".join(f"{name} {number}" for name, number in result["versions"].items()) + "\n")
    print(f"{'model':<6} {'handle':<42} {'seconds':>8} {'over nothing (quartiles)':>25} {'MiB':>7} {'changed':>8}")
    for row in rows:
        low, middle, high = row.ratio
        memory = "" if row.memory is None else f"{row.memory:.1f}"
        print(
            f"{row.model:<6} {row.handle:<42} {row.seconds:8.3f} {f'{middle:.2f} ({low:.2f}-{high:.2f})':>25} "
            f"{memory:>7} {row.changed:8.1e}"
        )
    print()
    for row in rows:
        if row.handle.startswith("tap, two"):
            met = "goal met" if row.ratio[1] <= GOAL else f"goal of {GOAL} missed"
            print(f"{row.model}, {row.handle}: {row.ratio[1]:.2f} ({met})")
    return 0
