"""`mezzotint bench accuracy`: error against network evaluations."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mezzotint.cli.options import Parser, count, print_json


def main(arguments: Sequence[str]) -> int:
    """Solve one problem with every solver at hand, print the table, write the numbers and the chart."""
    parser = Parser("bench accuracy", "Error against network evaluations, for our solvers and the peers'.")
    parser.add_argument("--on", default="mixture", help="mixture (its flow is known) or a model (its fine solution)")
    parser.add_argument("--nfe", type=count, nargs="+", help="numbers of evaluations (5 to 160 if left out)")
    parser.add_argument("--samples", type=count, default=256, help="samples (a model: at most 16 are plenty)")
    parser.add_argument("--truth-steps", type=count, default=1000, help="steps of a model's own fine solution")
    parser.add_argument("--prompt", default="a red heart", help="for a model with a text conditioner")
    parser.add_argument("--guidance", type=float, default=1.0, help="for a model with a text conditioner")
    parser.add_argument("--out", type=Path, help="folder for accuracy-NAME.json and .png")
    parser.json_option()
    told = parser.parse_args(arguments)
    from mezzotint.bench.accuracy import NFES, measure, report

    problem = _problem(told)
    nfes = tuple(told.nfe or NFES)
    rows = measure(problem, nfes, say=lambda line: None if told.json else print(line, flush=True))
    found = report(problem, rows)
    if told.out is not None:
        from mezzotint.bench.chart import draw
        from mezzotint.io.atomic import write_text

        told.out.mkdir(parents=True, exist_ok=True)
        stem = f"accuracy-{Path(told.on).name}"
        draw(problem, rows, told.out / f"{stem}.png")
        write_text(told.out / f"{stem}.json", json.dumps(found, indent=1) + "\n")
    if told.json:
        print_json(found)
    else:
        _print(found, nfes)
    return 0


def _problem(told: Any):
    from mezzotint.bench.problem import known_mixture, of_denoiser

    if told.on == "mixture":
        return known_mixture(told.samples)
    from mezzotint.core import Noise
    from mezzotint.guide import CFG
    from mezzotint.model import load

    model = load(told.on).requires_grad_(False)
    seeds, c, denoiser = Noise(range(told.samples)), None, model.denoiser
    if model.conditioner is not None:
        c = model.conditioner(model.conditioner.prepare([told.prompt] * told.samples))
        denoiser = CFG(told.guidance)(denoiser)
    spec, (height, width) = model.autoencoder.spec, model.size
    shape = (spec.channels, height // spec.factor, width // spec.factor)
    return of_denoiser(denoiser, seeds, shape, c, model.name, told.truth_steps)


def _print(found: dict[str, Any], nfes: Sequence[int]) -> None:
    slopes = {(row["library"], row["solver"]): row["slope"] for row in found["slopes"]}
    table: dict[tuple[str, str], dict[int, float]] = {}
    for row in found["rows"]:
        table.setdefault((row["library"], row["solver"]), {})[row["nfe"]] = row["rmse"]
    print(f"\n{found['problem']}: root mean square error at sigma/alpha = {found['levels']['low']}, "
          f"truth: {found['truth']}; {found['samples']} samples; {found['hardware']}")  # fmt: skip
    print(" ".join(f"{k} {v}" for k, v in found["versions"].items()))
    print(f"{'library':<14} {'solver':<20} {'slope':>5} " + " ".join(f"{n:>8}" for n in nfes))
    for who, errors in table.items():
        cells = " ".join(f"{errors[n]:8.1e}" if n in errors else " " * 8 for n in nfes)
        print(f"{who[0]:<14} {who[1]:<20} {slopes.get(who, float('nan')):5.2f} {cells}")
