"""`mezzotint explain pid`: what two words of a prompt tell of its pictures, as a sheet of maps and a `.json`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mezzotint.cli.options import Parser, count, find_device, print_json
from mezzotint.cli.output import check_outputs

NAMES = {"i1": "information", "i2": "information", "i12": "both words", "r": "redundant", "u1": "only", "u2": "only",
         "s": "synergy"}  # fmt: skip


def main(arguments: Sequence[str]) -> int:
    """Sample (or read) pictures, explain them, draw and write."""
    told = _parser().parse_args(arguments)
    concepts = tuple(part.strip() for part in told.concepts.split(","))
    if len(concepts) != 2 or not all(concepts):
        raise ValueError(f"--concepts {told.concepts!r}: expected two words of the prompt with a comma, as king,queen")
    if told.image is not None and told.count != 1:
        raise ValueError("--count is of pictures to sample; with --image there is one")
    if told.out.suffix.lower() != ".png":
        raise ValueError(f"--out {told.out}: expected a file that ends in .png")
    record = told.out.with_suffix(".json")
    check_outputs((told.out, record), (told.image,))

    from mezzotint import load
    from mezzotint.cli.picture import write_png
    from mezzotint.interpret import InformationLevels, conditions_of, explain_pid, prompts_of
    from mezzotint.interpret.pid_picture import pid_sheet
    from mezzotint.io.atomic import write_text
    from mezzotint.papers.setting import versions

    levels = InformationLevels(count=told.levels)
    prompts = prompts_of(told.prompt, concepts, not told.alone)
    image = None if told.image is None else _read(told.image)
    model = load(told.model, find_device(told.device))
    conditions_of(model, prompts)  # before any sampling
    seeds = list(range(told.seed, told.seed + told.count))
    if image is None:
        images = model.sample(told.prompt, seeds=seeds, steps=told.steps, guidance=told.guidance)
    elif tuple(image.shape[1:]) == model.size:
        images = image[None]
    else:
        shown, own = (" x ".join(map(str, size)) for size in (image.shape[1:], model.size))
        raise ValueError(f"the image is {shown} but {model.name} works at {own}; resize it")
    made = explain_pid(model, images, told.prompt, concepts, conditional=not told.alone, seeds=seeds, levels=levels,
                       form=told.form)  # fmt: skip
    facts: dict[str, Any] = {
        "format": "mezzotint-pid-1", "model": told.model, "prompt": told.prompt, "concepts": list(concepts),
        "prompts": list(made.prompts), "conditional": not told.alone, "form": told.form, "levels": told.levels,
        "interval": list(made.interval), "missing": made.missing, "unit": "nats",
        "image": None if told.image is None else str(told.image), "guidance": told.guidance, "steps": told.steps,
        "evaluations": 4 * levels.count * levels.draws * len(seeds),
        "images": [_image(made.atoms, row, seed) for row, seed in enumerate(seeds)], "versions": versions(),
    }  # fmt: skip
    write_png(told.out, pid_sheet(images, made.atoms, concepts))
    write_text(record, json.dumps(facts, indent=2) + "\n")
    if told.json:
        print_json({**facts, "out": str(told.out)})
        return 0
    print(f"{told.out}  the picture, then nats of each word, of both, redundant, unique, synergy; below, their errors")
    for kept in facts["images"]:
        print(f"seed {kept['seed']}: " + ", ".join(_line(name, kept, concepts) for name in NAMES))
    if made.missing > 0.01:
        print(f"{made.missing:.0%} of the levels asked for lie outside the model's schedule and are left out")
    print(f"{record}  the same as numbers, and every map")
    return 0


def _parser() -> Parser:
    parser = Parser("explain pid", "What each of two words tells of a picture: alone, either, only both together.")
    parser.add_argument("prompt", help="of the picture, in quotes")
    parser.add_argument("--concepts", required=True, help="two words (or groups of words) of the prompt: king,queen")
    parser.add_argument("--model", default="emoji", help="a shipped model or a folder; it reads words")
    parser.add_argument("--image", type=Path, help="a picture of the model's size (default: samples of the prompt)")
    parser.add_argument("--count", type=count, default=1, help="how many samples")
    parser.add_argument("--steps", type=count, help="of the samples")
    parser.add_argument("--guidance", type=float, help="of the samples; the estimate has none")
    parser.add_argument("--alone", action="store_true", help="each word by itself, not given the rest of the prompt")
    parser.add_argument("--levels", type=count, default=100, help="of noise, an even number; 4 evaluations each")
    parser.add_argument("--form", choices=("orthogonal", "standard"), default="orthogonal", help="of the estimate")
    parser.add_argument("--out", type=Path, default=Path("pid.png"), help="the sheet's file")
    parser.seed_option(help="of the first sample and of the estimate's noise")
    parser.device_option()
    parser.json_option()
    return parser


def _image(told: Any, row: int, seed: int) -> dict[str, Any]:
    kept: dict[str, Any] = {"seed": seed}
    for name in NAMES:
        kept[name] = {
            "nats": float(getattr(told.totals, name)[row]), "error": float(getattr(told.total_errors, name)[row]),
            "map": [[round(v, 6) for v in line] for line in getattr(told.maps, name)[row].tolist()],
        }  # fmt: skip
    return kept


def _line(name: str, kept: dict[str, Any], concepts: Sequence[str]) -> str:
    word = f" {concepts[int(name[1]) - 1]}" if name in ("i1", "i2", "u1", "u2") else ""
    return f"{NAMES[name]}{word} {kept[name]['nats']:.3g} +- {kept[name]['error']:.2g}"


def _read(path: Path) -> Any:
    from mezzotint.io.photo import read_photo

    image = read_photo(path).image
    return image.expand(3, -1, -1) if image.shape[0] == 1 else image
