"""`mezzotint bench train`: images a second and memory of the same network in our training loop and in others."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

from mezzotint.cli.options import Parser, count, find_device, print_json


def main(arguments: Sequence[str]) -> int:
    """Measure, print a table, write JSON if asked; the goal is printed, not enforced."""
    parser = Parser("bench train", "Training steps of one network in our loop and in those of installed peers.")
    parser.add_argument("--nets", nargs="+", default=["unet", "dit"], help="which networks: unet, dit")
    parser.add_argument("--sides", nargs="+", help="which loops (all; those whose library is missing are named)")
    parser.add_argument("--steps", type=count, default=50, help="timed steps of each loop")
    parser.add_argument("--rounds", type=count, default=5, help="turns that the steps are divided into")
    parser.add_argument("--warmup", type=count, default=10, help="steps before, which must bring the loss down")
    parser.add_argument("--batch", type=count, default=64, help="images a step")
    parser.add_argument("--no-memory", action="store_true", help="leave out the runs that measure memory")
    parser.add_argument("--out", type=Path, help="also write the result to this JSON file")
    parser.device_option()
    parser.json_option()
    told = parser.parse_args(arguments)
    device = find_device(told.device)
    from mezzotint.bench.train import SIDES, measure, report

    rows = measure(
        told.nets,
        told.sides or list(SIDES),
        steps=told.steps,
        rounds=told.rounds,
        warmup=told.warmup,
        batch=told.batch,
        device=device,
        memory=not told.no_memory,
        say=lambda line: print(line, file=sys.stderr),
    )
    result = report(rows, steps=told.steps, rounds=told.rounds, batch=told.batch, device=device)
    if told.out is not None:
        told.out.parent.mkdir(parents=True, exist_ok=True)
        told.out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    if told.json:
        print_json(result)
        return 0
    print(f"batch {told.batch}, {told.steps} steps in {told.rounds} rounds; {result['hardware']}; {result['unit']}")
    print("  ".join(f"{name} {number or '(missing)'}" for name, number in result["versions"].items()) + "\n")
    print(f"{'net':<5} {'loop':<16} {'seconds a step (quartiles)':>28} {'images/s':>9} {'over ours':>18} {'MiB':>6}")
    for row in rows:
        if row.seconds is None:
            print(f"{row.net:<5} {row.side:<16} {'-':>28} {'-':>9} {'-':>18} {'-':>6}  {row.note}")
            continue
        spread = f"{row.seconds:.4f} ({row.low:.4f}-{row.high:.4f})"
        ratio = "-" if row.ratio is None else "{1:.2f} ({0:.2f}-{2:.2f})".format(*row.ratio)
        memory = "-" if row.memory is None else f"{row.memory:.0f}"
        print(f"{row.net:<5} {row.side:<16} {spread:>28} {row.rate:>9.1f} {ratio:>18} {memory:>6}  {row.about}")
    print()
    for net, best in result["ours over the fastest other"].items():
        verdict = "goal met" if best["goal met"] else f"goal of {result['goal']} missed"
        lost = f"; SLOWER than {', '.join(best['slower than'])}" if best["slower than"] else ""
        low, high = best["quartiles"]
        print(
            f"{net}: {best['ratio']:.2f} ({low:.2f}-{high:.2f}) times as fast as the fastest other loop, "
            f"{best['fastest other']} ({verdict}{lost})"
        )
    return 0
