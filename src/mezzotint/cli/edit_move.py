"""`mezzotint edit move` and `mezzotint edit paste`: the picture, its masks if wanted, and a `.json` beside them."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mezzotint.cli.options import Parser, count, find_device, print_json
from mezzotint.cli.output import check_outputs

FORMAT = "mezzotint-edit-1"


def move(arguments: Sequence[str]) -> int:
    """Move or resize the object under a mask."""
    parser = _parser("edit move", "The object under a mask moved or resized; what it leaves is filled in.")
    parser.add_argument("--mask", type=Path, required=True, help="a picture of the same size, white on the object")
    parser.add_argument("--shift", type=_pair, default=(0, 0), help="DX,DY in pixels, right and down, as 40,-10")
    parser.add_argument("--scale", type=float, default=1.0, help="of the object, from 1/16 to 16")
    parser.add_argument(
        "--about", choices=("object", "centre"), default="object", help="what resizing leaves where it is"
    )
    told = parser.parse_args(_joined(arguments))
    if told.shift == (0, 0) and told.scale == 1:
        raise ValueError("nothing to do: give --shift DX,DY, or --scale, or both")

    def plan(image: Any) -> Any:
        from mezzotint.edit import plan_move

        return plan_move(image, _mask(told.mask), told.shift, told.scale, about=told.about)

    how = {"mask": str(told.mask), "shift": list(told.shift), "scale": told.scale, "about": told.about}
    return _edit("move", told, plan, how)


def paste(arguments: Sequence[str]) -> int:
    """Lay an object of another picture onto this one."""
    parser = _parser("edit paste", "An object of another picture laid onto this one and blended in.")
    parser.add_argument("--from", dest="source", type=Path, required=True, help="the picture that has the object")
    parser.add_argument("--mask", type=Path, required=True, help="a picture of its size, white on the object")
    parser.add_argument("--at", type=_pair, help="X,Y of the object's centre in IMAGE (default: as in --from)")
    parser.add_argument("--scale", type=float, default=1.0, help="of the object, from 1/16 to 16")
    told = parser.parse_args(_joined(arguments))

    def plan(image: Any) -> Any:
        from mezzotint.edit import plan_paste

        return plan_paste(image, _opaque(told.source)[1], _mask(told.mask), told.at, told.scale)

    how = {"from": str(told.source), "mask": str(told.mask), "at": list(told.at) if told.at else None}
    return _edit("paste", told, plan, how | {"scale": told.scale})


def _parser(command: str, description: str) -> Parser:
    parser = Parser(command, description)
    parser.add_argument("image", type=Path, help="the picture: PNG, TIFF, JPEG, WebP")
    parser.add_argument("--model", default="emoji-pixel", help="a shipped model or a folder; it has self-attention")
    parser.add_argument("--prompt", help="what the picture shows, for a model that reads words")
    parser.add_argument("--guidance", type=float, default=4.0, help="towards the prompt")
    parser.add_argument("--steps", type=count, default=16, help="8, 16 and 50 steps cost 28, 64 and 206 evaluations")
    parser.add_argument("--masks", action="store_true", help="also write the masks and the picture before the network")
    parser.add_argument("--out", type=Path, help="the file of the result (default: IMAGE-moved or IMAGE-pasted)")
    parser.seed_option(help="of the noise")
    parser.device_option()
    parser.json_option()
    return parser


def _edit(name: str, told: Any, plan_of: Any, how: dict[str, Any]) -> int:
    from mezzotint.io.photo import Photo, check_photo_path, write_photo

    photo, image = _opaque(told.image)
    out = told.out or told.image.with_name(f"{told.image.stem}-{name}d{told.image.suffix}")
    check_photo_path(out, photo)
    names = ("gud", "tar", "gen", "ipt", "share") if told.masks else ()
    before = out.with_name(f"{out.stem}-before.png")
    masks = {mask: out.with_name(f"{out.stem}-{mask}.png") for mask in names}
    record = out.with_suffix(".json")
    made_of = (told.image, told.mask, getattr(told, "source", None))
    check_outputs((out, record, *masks.values(), before if told.masks else None), made_of)

    import torch

    from mezzotint import load
    from mezzotint.edit import PixelMan
    from mezzotint.io.atomic import write_text
    from mezzotint.papers.setting import versions

    method = PixelMan(steps=told.steps)
    plan = plan_of(image)  # bad masks are told before a model is loaded
    model = load(told.model, find_device(told.device))
    start = time.perf_counter()
    made = method(model, plan, [told.seed], prompt=told.prompt, guidance=told.guidance)
    seconds = time.perf_counter() - start
    result = made.images[0].cpu()
    facts = {
        "format": FORMAT, "edit": name, "image": str(told.image), **how, "model": told.model, "prompt": told.prompt,
        "guidance": told.guidance if told.prompt is not None else 1.0, "method": "PixelMan (arXiv 2412.14283)",
        "steps": told.steps, "seed": told.seed, "size": list(plan.size), "nfe": made.nfe, "seconds": round(seconds, 3),
        "lost": plan.lost, "areas": {mask: int(m.sum()) for mask, m in plan.masks().items()},
        "deltas": [float(d[0]) for d in made.trace.deltas], "torch_threads": torch.get_num_threads(),
        "versions": versions(),
    }  # fmt: skip
    grey = photo.image.shape[0] == 1
    for mask, path in masks.items():
        write_photo(path, Photo(plan.masks()[mask][None].float() * 2 - 1))
    if told.masks:
        write_photo(before, Photo(plan.image.clamp(-1, 1)))
    write_photo(out, photo.with_image(result.mean(0, keepdim=True) if grey else result))
    write_text(record, json.dumps(facts, indent=2) + "\n")
    files = {mask: str(path) for mask, path in masks.items()} | ({"before": str(before)} if told.masks else {})
    if told.json:
        print_json({**facts, "out": str(out), "masks": files})
        return 0
    if plan.lost > 0:
        print(f"mezzotint: {100 * plan.lost:.0f} % of the object fell out of the frame", file=sys.stderr)
    print(out)
    for path in files.values():
        print(path)
    print(f"{record}  {made.nfe} evaluations, {seconds:.1f} s")
    return 0


def _opaque(path: Path) -> tuple[Any, Any]:
    """A photograph, and its picture in three channels.

    Raises:
        ValueError: for one with transparency: what would move of it is not clear.
    """
    from mezzotint.io.photo import read_photo

    photo = read_photo(path)
    if photo.alpha is not None and float(photo.alpha.min()) < float(photo.alpha.max()):
        raise ValueError(f"{path} is transparent in places, which an edit does not move; flatten it first")
    return photo, photo.image.expand(3, -1, -1) if photo.image.shape[0] == 1 else photo.image


def _mask(path: Path) -> Any:
    from mezzotint.io.photo import read_photo

    return read_photo(path).image.mean(0) > 0


def _pair(text: str) -> tuple[int, int]:
    parts = text.split(",")
    try:
        x, y = (int(part) for part in parts)
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected two whole numbers of pixels as 40,-10, got {text!r:.40}") from None
    return x, y


def _joined(arguments: Sequence[str]) -> list[str]:
    """--shift -10,5 as --shift=-10,5: argparse takes what begins with a minus, and is no number, for an option."""
    made: list[str] = []
    for argument in arguments:
        if made and made[-1] in ("--shift", "--at") and argument.startswith("-") and argument[1:2].isdigit():
            made[-1] += f"={argument}"
        else:
            made.append(argument)
    return made
