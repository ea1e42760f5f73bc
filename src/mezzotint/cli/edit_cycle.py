"""`mezzotint edit prompt` and `mezzotint edit translate`: the picture, a `.json`, and its noises if wanted."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mezzotint.cli.edit_move import _opaque
from mezzotint.cli.options import Parser, count, find_device, print_json
from mezzotint.cli.output import check_outputs

FORMAT = "mezzotint-edit-1"


def prompt(arguments: Sequence[str]) -> int:
    """Another prompt of one model."""
    parser = _parser("edit prompt", "What the picture shows, changed from one prompt to another.", steps=100)
    parser.add_argument("--from", dest="source_prompt", help="what the picture shows (not needed with --replay)")
    parser.add_argument("--to", dest="target_prompt", required=True, help="what the result is to show")
    parser.add_argument("--model", default="emoji", help="a shipped model, a folder, or a hub id")
    told = parser.parse_args(arguments)
    if told.source_prompt is None and told.replay is None:
        raise ValueError("--from is needed: what the picture shows, as --from 'a red heart'")
    return _edit("prompt", told, told.model, told.model)


def translate(arguments: Sequence[str]) -> int:
    """Another model."""
    parser = _parser("edit translate", "A picture of one model's world drawn again by another model.", steps=250)
    parser.add_argument("--source", required=True, help="the model that knows the picture: shipped, folder or hub id")
    parser.add_argument("--target", required=True, help="the model that draws the result, in the same state space")
    parser.add_argument("--from", dest="source_prompt", help="what the picture shows, for a model that reads words")
    parser.add_argument("--to", dest="target_prompt", help="what the result is to show")
    told = parser.parse_args(arguments)
    return _edit("translate", told, told.source, told.target)


def _parser(command: str, description: str, steps: int) -> Parser:
    parser = Parser(command, description)
    parser.add_argument("image", type=Path, help="the picture: PNG, TIFF, JPEG, WebP")
    parser.add_argument("--steps", type=count, default=steps, help="of the whole grid")
    parser.add_argument("--start", type=float, default=0.85, help="share of it that is run; less stays closer")
    parser.add_argument("--eta", type=float, default=0.1, help="of DDIM, above 0 to 1: how much noise a step draws")
    parser.add_argument("--guidance", type=float, help="towards --to (default: the model's own)")
    parser.add_argument("--source-guidance", type=float, default=1.0, help="towards --from")
    parser.add_argument("--refine", type=float, default=0.0, help="share of the grid for a clean-up afterwards")
    parser.add_argument("--trials", type=count, default=1, help="results to choose from; needs --clip")
    parser.add_argument("--clip", help="a CLIP that chooses: a folder of transformers, or a hub id")
    parser.add_argument("--code", type=Path, help="also write the noises to this file (.safetensors)")
    parser.add_argument("--replay", type=Path, help="draw from the noises in this file; IMAGE only gives the format")
    parser.add_argument("--out", type=Path, help="the file of the result (default: IMAGE-edited or IMAGE-translated)")
    parser.seed_option(help="of the noise")
    parser.device_option()
    parser.json_option()
    return parser


@dataclass(frozen=True)
class _Files:
    out: Path
    record: Path
    code: Path | None

    @classmethod
    def of(cls, name: str, told: Any) -> _Files:
        out = told.out or told.image.with_name(f"{told.image.stem}-{_WORD[name]}{told.image.suffix}")
        made = cls(out, out.with_suffix(".json"), told.code)
        check_outputs((made.out, made.record, made.code), (told.image, told.replay))
        return made


_WORD = {"prompt": "edited", "translate": "translated"}


def _edit(name: str, told: Any, source: str, target: str) -> int:
    from mezzotint.io.photo import check_photo_path, write_photo

    photo, image = _opaque(told.image)
    files = _Files.of(name, told)
    check_photo_path(files.out, photo)
    _check(told)
    code = _read(told.replay)

    import torch

    from mezzotint import load
    from mezzotint.io.atomic import write_text
    from mezzotint.metric import psnr
    from mezzotint.papers.setting import versions

    device = find_device(told.device)
    model = load(source, device)
    onto = model if target == source else load(target, device)
    guidance = onto.defaults["guidance"] if told.guidance is None else told.guidance
    method = _method(told, guidance)
    start = time.perf_counter()
    scores = None
    if code is not None:
        made = method.replay(onto, code, [told.seed], target=told.target_prompt)
    else:
        made, scores = _made(method, told, model, onto, image)
    seconds = time.perf_counter() - start
    result = made.images[0].cpu()
    facts = {
        "format": FORMAT, "edit": name, "image": str(told.image), "source": source, "target": target,
        "from": told.source_prompt, "to": told.target_prompt, "method": "CycleDiffusion (arXiv 2210.05559)",
        "steps": None if code else told.steps, "start": None if code else told.start,
        "steps_run": code.steps if code else method.kept, "eta": told.eta, "guidance": guidance,
        "source_guidance": told.source_guidance, "refine": told.refine, "seed": told.seed, "trials": told.trials,
        "clip": told.clip, "scores": scores, "replay": None if told.replay is None else str(told.replay),
        "code": None if files.code is None else str(files.code), "size": list(result.shape[1:]), "nfe": made.nfe,
        "seconds": round(seconds, 3), "torch_threads": torch.get_num_threads(), "versions": versions(),
    }  # fmt: skip
    if result.shape == image.shape:
        level = float(psnr(result[None], image[None].clamp(-1, 1))[0])
        facts["psnr_to_image"] = round(level, 3) if level < 1000 else None  # JSON has no infinity
    if files.code is not None and made.code is not None:
        made.code.to("cpu").save(files.code)
    write_photo(files.out, photo.with_image(result.mean(0, keepdim=True) if photo.image.shape[0] == 1 else result))
    write_text(files.record, json.dumps(facts, indent=2) + "\n")
    if told.json:
        print_json({**facts, "out": str(files.out)})
        return 0
    if tuple(result.shape[1:]) != onto.size:
        shown = " x ".join(map(str, onto.size))
        print(f"mezzotint: {onto.name} was trained on pictures of {shown}; it knows others less well", file=sys.stderr)
    for path in (files.out, files.code):
        if path is not None:
            print(path)
    print(f"{files.record}  {made.nfe} evaluations, {seconds:.1f} s")
    return 0


def _check(told: Any) -> None:
    """What needs no model; settings out of range too, by making them."""
    if told.trials > 1 and told.clip is None:
        raise ValueError(f"--trials {told.trials} needs --clip: a CLIP that chooses among the results")
    if told.clip is not None and (told.source_prompt is None or told.target_prompt is None):
        raise ValueError("--clip compares the change with that from --from to --to; give both")
    if told.replay is not None and (told.trials > 1 or told.code is not None):
        raise ValueError("--replay draws from noises that are there already; leave out --trials and --code")
    _method(told, 1.0 if told.guidance is None else told.guidance)


def _method(told: Any, guidance: float) -> Any:
    from mezzotint.edit import CycleDiffusion
    from mezzotint.sample import DDIM

    return CycleDiffusion(
        steps=told.steps, start=told.start, guidance=guidance, source_guidance=told.source_guidance,
        sampler=DDIM(told.eta), refine=told.refine,
    )  # fmt: skip


def _read(path: Path | None) -> Any:
    if path is None:
        return None
    from mezzotint.sample import NoiseCode

    code = NoiseCode.load(path)
    if len(code.x_T) != 1:
        raise ValueError(f"{path} holds the noises of {len(code.x_T)} pictures; the command replays one")
    return code


def _made(method: Any, told: Any, model: Any, onto: Any, image: Any) -> tuple[Any, list[float] | None]:
    options = {"source": told.source_prompt, "target": told.target_prompt, "onto": onto, "keep": told.code is not None}
    if told.clip is None:
        return method(model, image, [told.seed], **options), None
    from mezzotint.edit import BestOf
    from mezzotint.metric import DirectionSimilarity, load_clip

    clip = load_clip(told.clip)
    score = DirectionSimilarity(clip.features, clip.text, clip.name, resize=clip.resize)
    chosen = BestOf(score.towards(told.source_prompt, told.target_prompt), (method,), told.trials)(
        model, image, [told.seed], **options
    )
    return chosen.best, [round(value, 6) for value in chosen.scores[0].tolist()]
