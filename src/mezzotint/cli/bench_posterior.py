"""`mezzotint bench posterior`: how far every restorer's samples are from the posterior, where it is known."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

from mezzotint.cli.options import Parser, count, print_json


def main(arguments: Sequence[str]) -> int:
    """Measure, print a line a row, write JSON if asked."""
    parser = Parser("bench posterior", "Errors of every restorer's samples on Gaussian data and on a mixture.")
    parser.add_argument("--samples", type=count, default=500, help="of each measurement, 2 at least")
    parser.add_argument("--measurements", type=count, default=4, help="drawn from each prior")
    parser.add_argument("--steps", type=count, default=100, help="of every method")
    parser.add_argument("--priors", nargs="+", help="round Gaussian, smooth Gaussian, mixture (all)")
    parser.add_argument("--out", type=Path, help="also write the result to this JSON file")
    parser.seed_option(help="of the measurements and of what the methods draw")
    parser.json_option()
    told = parser.parse_args(arguments)
    if told.samples < 2:
        raise ValueError("--samples 1 has no covariance; give 2 at least, better hundreds")
    if told.out is not None and told.out.is_dir():
        raise ValueError(f"cannot write {told.out}: it is a folder")
    from mezzotint.bench.posterior import PRIORS, posterior_report, posterior_table

    priors = told.priors or list(PRIORS)
    if unknown := [name for name in priors if name not in PRIORS]:
        raise ValueError(f"unknown prior {unknown[0]!r}; the priors are {', '.join(map(repr, PRIORS))}")
    settings = {"measurements": told.measurements, "steps": told.steps, "seed": told.seed}
    rows = posterior_table(
        samples=told.samples, priors=priors, **settings,
        say=lambda line: print(line, file=sys.stderr if told.json else sys.stdout, flush=True),
    )  # fmt: skip
    result = posterior_report(rows, **settings)
    if told.out is not None:
        from mezzotint.io.atomic import write_text

        told.out.parent.mkdir(parents=True, exist_ok=True)
        write_text(told.out, json.dumps(result, indent=1) + "\n")
    if told.json:
        print_json(result)
    return 0
