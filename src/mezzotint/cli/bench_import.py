"""`mezzotint bench import`: what starting the library costs."""

from __future__ import annotations

from collections.abc import Sequence

from mezzotint.cli.import_time import help_seconds, import_seconds
from mezzotint.cli.options import Parser, count, print_json

IMPORT_BUDGET, HELP_BUDGET = 0.060, 0.5


def main(arguments: Sequence[str]) -> int:
    """Measure and print; status 1 where a budget is exceeded."""
    parser = Parser("bench import", "What starting costs, beside its budgets.")
    parser.add_argument("--repeats", type=count, default=3, help="fresh interpreters a measurement (the median counts)")
    parser.json_option()
    told = parser.parse_args(arguments)
    seconds = import_seconds("mezzotint", told.repeats)
    rows = [
        {"name": "import torch", "seconds": seconds["torch"], "budget": None},
        {"name": "import mezzotint, after torch", "seconds": seconds["mezzotint"], "budget": IMPORT_BUDGET},
        {"name": "mezzotint --help", "seconds": help_seconds(told.repeats), "budget": HELP_BUDGET},
    ]
    if told.json:
        print_json(rows)
    else:
        for row in rows:
            budget = f"  (budget {1000 * row['budget']:.0f} ms)" if row["budget"] is not None else ""
            print(f"{row['name']:<30} {1000 * row['seconds']:8.1f} ms{budget}")
    return 1 if any(row["budget"] is not None and row["seconds"] > row["budget"] for row in rows) else 0
