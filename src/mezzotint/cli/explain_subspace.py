"""`mezzotint explain subspace`: the directions of a model at a picture, as a sheet of edits and a `.json` beside it."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path

from mezzotint.cli.options import Parser, count, find_device, print_json
from mezzotint.cli.output import check_outputs


def main(arguments: Sequence[str]) -> int:
    """Find, draw and write."""
    told = _parser().parse_args(arguments)
    strengths = _strengths(told.strengths)
    if told.out.suffix.lower() != ".png":
        raise ValueError(f"--out {told.out}: expected a file that ends in .png")
    record = told.out.with_suffix(".json")
    check_outputs((told.out, record), (told.image, told.mask))
    image = None if told.image is None else _read(told.image)
    mask = None if told.mask is None else _read(told.mask).mean(0) > 0

    from mezzotint import load
    from mezzotint.cli.picture import write_png
    from mezzotint.interpret.subspace_picture import directions_sheet, explain_subspace
    from mezzotint.io.atomic import write_text
    from mezzotint.papers.setting import versions

    model = load(told.model, find_device(told.device))
    made = explain_subspace(model, image, prompt=told.prompt, guidance=told.guidance, seed=told.seed, t=told.t,
                            rank=told.rank, strengths=strengths, steps=told.steps, mask=mask)  # fmt: skip
    found = made.directions
    facts = {
        "format": "mezzotint-subspace-1", "model": told.model, "prompt": told.prompt, "guidance": told.guidance,
        "image": None if told.image is None else str(told.image), "seed": told.seed, "t": told.t, "steps": told.steps,
        "mask": None if told.mask is None else str(told.mask), "strengths": list(made.strengths),
        "values": found.values[0].tolist(), "gap": _finite(float(found.gap[0])), "iterations": found.iterations,
        "products": found.products, "converged": bool(found.converged[0]), "versions": versions(),
    }  # fmt: skip
    write_png(told.out, directions_sheet(made))
    write_text(record, json.dumps(facts, indent=2) + "\n")
    if told.json:
        print_json({**facts, "out": str(told.out)})
        return 0
    print(f"{told.out}  a row a direction, strengths {', '.join(f'{a:g}' for a in made.strengths)}")
    values = ", ".join(f"{s:.3g}" for s in facts["values"])
    state = "converged" if facts["converged"] else "not converged: close values turn into one another"
    print(f"{record}  singular values {values}; gap {float(found.gap[0]):.3g}, {state}")
    return 0


def _parser() -> Parser:
    parser = Parser("explain subspace", "Directions in which a picture changes as a whole, found without training.")
    parser.add_argument("prompt", nargs="?", help="for a model that reads words")
    parser.add_argument("--image", type=Path, help="a picture of the model's size (default: a sample of the seed)")
    parser.add_argument("--mask", type=Path, help="a picture, white where changes shall be")
    parser.add_argument("--model", default="emoji-pixel", help="a shipped model or a folder")
    parser.add_argument("--guidance", type=float, default=1.0, help="towards the prompt; 1 is none")
    parser.add_argument("--t", type=float, default=0.7, help="where: 0 is the data, 1 is noise")
    parser.add_argument("--rank", type=count, default=5, help="how many directions")
    parser.add_argument("--strengths", default="-4,-2,0,2,4", help="of the edits; write --strengths=-4,0,4")
    parser.add_argument("--steps", type=count, default=50, help="from noise to data")
    parser.add_argument("--out", type=Path, default=Path("directions.png"), help="the sheet's file")
    parser.seed_option(help="of the sample and of the search")
    parser.device_option()
    parser.json_option()
    return parser


def _strengths(text: str) -> list[float]:
    try:
        values = [float(part) for part in text.split(",")]
    except ValueError:
        values = []
    if not values or not all(math.isfinite(a) for a in values):
        raise ValueError(f"--strengths {text!r}: expected numbers with commas, as -4,-2,0,2,4")
    return values


def _read(path: Path):
    from mezzotint.io.photo import read_photo

    image = read_photo(path).image
    return image.expand(3, -1, -1) if image.shape[0] == 1 else image


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
