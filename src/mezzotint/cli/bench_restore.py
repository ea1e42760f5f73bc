"""`mezzotint bench restore`: how well every method restores and what it costs, beside deepinv's."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mezzotint.cli.options import Parser, count, find_device, print_json, whole


def main(arguments: Sequence[str]) -> int:
    """Measure, print tables, write JSON if asked; the goal is printed, not enforced."""
    parser = Parser("bench restore", "Restoration: quality and cost of each method on each task, beside deepinv's.")
    parser.add_argument("--model", default="emoji-pixel", help="the prior: a shipped model or a folder, in pixel space")
    parser.add_argument(
        "--data", default="emoji", help="emoji (the test split), or photographs: a Parquet file, folder"
    )
    parser.add_argument("--skip", type=whole, help="leave out the first photographs (default: 16 of kodak*, else 0)")
    parser.add_argument("--images", type=count, default=16, help="how many pictures, 2 at least")
    parser.add_argument("--tasks", nargs="+", help="inpaint, sr4, deblur, denoise, jpeg, colourise (all)")
    parser.add_argument("--methods", nargs="+", help="of `mezzotint restore --list` (all)")
    parser.add_argument("--nfe", type=count, default=100, help="network calls a picture, of every method")
    parser.add_argument("--batch", type=count, default=16, help="pictures at once")
    parser.add_argument("--no-peers", action="store_true", help="leave deepinv's out")
    parser.add_argument("--out", type=Path, help="also write the result to this JSON file")
    parser.seed_option(help="of the measurements and of what the methods draw")
    parser.device_option()
    parser.json_option()
    told = parser.parse_args(arguments)
    device = find_device(told.device)
    if told.out is not None and told.out.is_dir():
        raise ValueError(f"cannot write {told.out}: it is a folder")
    from mezzotint import load
    from mezzotint.bench.restore import measure, report
    from mezzotint.bench.restore_case import CASES
    from mezzotint.bench.restore_data import pictures
    from mezzotint.restore.names import METHODS

    model = load(told.model, device)
    given = pictures(told.data, model.size, told.images, skip=told.skip, seed=told.seed)
    rows, pairs = measure(
        model,
        given,
        tasks=told.tasks or list(CASES),
        methods=told.methods or list(METHODS),
        nfe=told.nfe,
        batch=told.batch,
        seed=told.seed,
        peers=not told.no_peers,
        say=lambda line: print(line, file=sys.stderr, flush=True),
    )
    settings = {"nfe": told.nfe, "batch": told.batch, "seed": told.seed, "device": device}
    result = report(rows, pairs, model=told.model, given=given, **settings)
    if told.out is not None:
        from mezzotint.io.atomic import write_text

        told.out.parent.mkdir(parents=True, exist_ok=True)
        write_text(told.out, json.dumps(result, indent=2) + "\n")
    if told.json:
        print_json(result)
    else:
        _print(result)
    return 0


def _print(result: dict[str, Any]) -> None:
    print(f"{result['data']}; prior {result['model']}; {result['nfe']} network calls; {result['hardware']}")
    print("  ".join(f"{name} {number or '(missing)'}" for name, number in result["versions"].items()) + "\n")
    print(f"{'task':<10} {'method':<16} {'whose':<27} {'PSNR':>6} {'+-':>5} {'SSIM':>6} {'perc.':>7} {'Frechet':>8} "
          f"{'misfit':>7} {'NFE':>4} {'s/image':>8} {'MiB':>5}")  # fmt: skip
    for row in result["rows"]:
        start = f"{row['task']:<10} {row['method']:<16} {row['side']:<27}"
        if row["psnr"] is None:
            print(f"{start} {'-':>6}  {row['note']}")
            continue
        memory = "-" if row["memory"] is None else f"{row['memory']:.0f}"
        print(
            f"{start} {row['psnr']:>6.2f} {row['psnr_error']:>5.2f} {row['ssim']:>6.3f} {row['perceptual']:>7.4f} "
            f"{row['frechet']:>8.3f} {row['consistency']:>7.4f} {row['nfe']:>4} {row['seconds']:>8.3f} {memory:>5}"
        )
    if not result["ours less deepinv's"]:
        return
    print(f"\nours less deepinv's, decibels (95 % of the mean); the goal is {result['goal']:+g} or more")
    for pair in result["ours less deepinv's"]:
        verdict = "" if pair["goal_met"] else "  BEHIND"
        print(
            f"{pair['task']:<10} {pair['method']:<8} {pair['levels'] + ' levels':<17} {pair['difference']:+.2f} "
            f"({pair['low']:+.2f} to {pair['high']:+.2f}){verdict}"
        )
