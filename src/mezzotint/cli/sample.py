"""`mezzotint sample PROMPT`: images, a contact sheet, and the `.json` that regenerates them."""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

from mezzotint.cli.options import Parser, count, find_device, print_json, whole
from mezzotint.cli.record import Record, read_record
from mezzotint.cli.rescale import rescaled, tell
from mezzotint.cli.sample_many import sample_many, wanted

_MISSING = "a prompt is missing: mezzotint sample 'a red heart' (or --prompts FILE, --from FILE.json)"
_CHOICES = (
    "prompts",
    "model",
    "sampler",
    "grid",
    "steps",
    "guidance",
    "count",
    "size",
    "seed",
    "batch",
    "format",
    "rescale",
)


def main(arguments: Sequence[str]) -> int:
    """Sample and write; status 1 where `--from` gave other pixels than recorded."""
    told = _parser().parse_args(arguments)
    if told.source is not None:
        return _again(told)
    if told.prompt is not None and told.prompts is not None:
        raise ValueError("give a prompt or --prompts FILE, not both")
    prompts = [told.prompt] if told.prompts is None else _lines(told.prompts)
    if prompts == [None] and told.model is None:  # the default model reads words: no need to load it to know
        raise ValueError(_MISSING)
    if not all(prompt is None or prompt.strip() for prompt in prompts):
        raise ValueError("the prompt is empty; give some words")
    if any("\ud800" <= letter <= "\udfff" for prompt in prompts for letter in prompt or ""):  # no record could hold it
        raise ValueError("the prompt is not valid text: the terminal gave bytes that are not UTF-8")
    return _sample(told, prompts)


def _parser() -> Parser:
    parser = Parser("sample", "Images from a prompt, and a .json beside them that regenerates them bit for bit.")
    parser.formatter_class = argparse.HelpFormatter
    parser.add_argument("prompt", nargs="?", help="what to draw, in quotes (a class number for a class model)")
    parser.add_argument("--prompts", type=Path, metavar="FILE", help="a text file with a prompt on each line")
    parser.add_argument("--model", help="a shipped model or a folder (default: emoji)")
    parser.add_argument(
        "--sampler", help="such as dpmpp-2m, ddim, euler: `mezzotint models samplers` (default: the model's)"
    )
    parser.add_argument("--grid", help="time grid, such as uniform-lambda, karras, trailing (default: the sampler's)")
    parser.add_argument("--steps", type=count, help="sampling steps (default: the model's)")
    parser.add_argument("--guidance", type=float, help="guidance weight w; 1 is none (default: the model's)")
    parser.add_argument("--count", type=count, help="images a prompt (default: 4; 1 of each with --prompts)")
    parser.add_argument("--size", type=_size, help="pixels: 64 or 64x96, height first (default: the model's)")
    parser.add_argument(
        "--no-rescale", dest="rescale", action="store_const", const=False,
        help="leave attention as trained at another --size (default: scaled to its number of keys)",
    )  # fmt: skip
    parser.add_argument("--seed", type=whole, help="seed of the first image; image i has seed + i (default: 0)")
    parser.add_argument("--batch", type=count, help="images computed at once (default: 64)")
    parser.add_argument(
        "--format", choices=("png", "parquet"), help="many images: a file each, or in parts; goes on where it stopped"
    )
    parser.add_argument("--out", type=Path, help="folder, or a name ending in .png (default: samples)")
    parser.add_argument("--from", dest="source", type=Path, metavar="FILE.json", help="regenerate what it records")
    parser.device_option()
    parser.json_option()
    return parser


def _lines(file: Path) -> list[str]:
    """The prompts of a file, one a line; empty lines do not count."""
    try:
        prompts = [line.strip() for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]
    except UnicodeDecodeError as error:
        raise ValueError(f"{file} is not a UTF-8 text file ({error.reason})") from None
    if not prompts:
        raise ValueError(f"{file} holds no prompt; write one on each line")
    return prompts


def _sample(told: argparse.Namespace, prompts: list[str] | list[None]) -> int:
    first = told.seed or 0
    each = told.count or (4 if len(prompts) == 1 else 1)
    n = len(prompts) * each
    if wanted(told, n):
        return sample_many(told, prompts, each)
    out = told.out or Path("samples")
    if out.suffix.lower() == ".png":
        folder, stem = out.parent, out.stem
    else:
        folder, stem = out, f"{_slug(told.prompts.stem if told.prompts else prompts[0] or told.model or '')}-{first}"
    digits = len(str(n - 1))
    names = [f"{stem}.png"] if n == 1 else [f"{stem}-{i:0{digits}d}.png" for i in range(n)]
    sheet = None if n == 1 else f"{stem}.png"
    with _ready(folder, [*names, *([sheet] if sheet else []), f"{stem}.json"]):
        device = find_device(told.device)
        import torch

        import mezzotint as mz
        from mezzotint.papers.setting import versions

        name = told.model or "emoji"
        model = mz.load(name, device)
        if model.conditioner is not None and prompts == [None]:
            raise ValueError(_MISSING)
        record = Record(
            prompt=prompts[0] if told.prompts is None else tuple(prompt for prompt in prompts if prompt is not None),
            model=str(Path(name).resolve()) if Path(name).is_dir() else name,
            sampler=told.sampler or model.defaults["sampler"],
            steps=told.steps or model.defaults["steps"],
            guidance=model.defaults["guidance"] if told.guidance is None else told.guidance,
            size=told.size or model.size,
            seeds=tuple(range(first, first + n)),
            batch=told.batch or 64,
            device=device,
            threads=torch.get_num_threads(),
            images=dict.fromkeys(names, ""),
            grid=sheet,
            versions=versions(),
            time_grid=told.grid,
            rescale=rescaled(told, model, told.size or model.size),
        )
        pictures, record = _draw(model, record)
        _write(pictures, record, folder, stem, told.json)
        if record.rescale:
            tell(model)
        return 0


def _again(told: argparse.Namespace) -> int:
    given = [f"--{name}" for name in _CHOICES if getattr(told, name) is not None]
    if given or told.prompt is not None:
        raise ValueError(f"--from repeats a recorded call; leave out {', '.join(given) or 'the prompt'}")
    old = read_record(told.source)
    if told.out is not None and told.out.suffix:
        raise ValueError(f"--out with --from is a folder (the record names the files), got {told.out}")
    folder = told.out or told.source.parent
    stem = told.source.stem
    with _ready(folder, [*old.images, f"{stem}.json"]):
        device = find_device(old.device if told.device == "auto" else told.device)
        import torch

        import mezzotint as mz
        from mezzotint.papers.setting import versions

        torch.set_num_threads(max(1, old.threads))  # the order of a sum depends on it
        model = mz.load(old.model, device)
        pictures, new = _draw(model, replace(old, device=device, versions=versions()))
        same = new.images == old.images
        if not same and told.out is None:
            raise ValueError(
                f"the images come out different from those that {told.source} records (device {device}, "
                f"torch {new.versions.get('torch')} against {old.device}, {old.versions.get('torch')}); "
                "nothing was overwritten; --out FOLDER keeps the new ones"
            )
        _write(pictures, new, folder, stem, told.json, note="bit for bit as recorded" if same else "NOT as recorded")
        return 0 if same else 1


def _draw(model, record: Record):
    """The pictures, and the record with their digests."""
    from mezzotint.cli.picture import digest, pixels

    images = model.sample(
        understood(record.prompt, model),
        count=len(record.seeds) // record.prompts,
        steps=record.steps,
        sampler=record.sampler,
        grid=record.time_grid,
        guidance=record.guidance,
        seeds=list(record.seeds),
        size=record.size,
        batch=record.batch,
        rescale=record.rescale,
    )
    pictures = pixels(images)
    return pictures, replace(record, images={name: digest(p) for name, p in zip(record.images, pictures, strict=True)})


def understood(prompt: str | tuple[str, ...] | None, model):
    """The prompt as the model reads it: class models take numbers."""
    from mezzotint.nn.conditioner import ClassConditioner

    if prompt is None or not isinstance(model.conditioner, ClassConditioner):
        return prompt
    words = [prompt] if isinstance(prompt, str) else prompt
    names = getattr(model.conditioner, "names", {})  # of a diffusers DiT
    if not all(word.strip().isdecimal() or word in names for word in words):
        raise ValueError(f"{model.name} draws classes by their number, such as 3; got {prompt!r}")
    return [word if word in names else int(word) for word in words]


def _write(pictures, record: Record, folder: Path, stem: str, as_json: bool, note: str = "") -> None:
    """Images first, the record last: where there is a record, its images are there."""
    from mezzotint.cli.picture import grid, write_png
    from mezzotint.io.atomic import write_text

    for name, picture in zip(record.images, pictures, strict=True):
        write_png(folder / name, picture)
    if record.grid is not None:
        write_png(folder / record.grid, grid(pictures))
    write_text(folder / f"{stem}.json", json.dumps(record.to_dict(), indent=2, ensure_ascii=False) + "\n")
    if as_json:
        print_json({"folder": str(folder), "record": f"{stem}.json", **record.to_dict()})
        return
    for name in [*([record.grid] if record.grid else []), *record.images]:
        print(folder / name)
    print(f"{folder / stem}.json  regenerates them: mezzotint sample --from {folder / stem}.json")
    if note:
        print(note)


@contextmanager
def _ready(folder: Path, names: Sequence[str]) -> Iterator[None]:
    """Find out before minutes of sampling that the result cannot be written; a call that fails leaves no folder."""
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    try:
        _probe(folder, names)
        yield
    except BaseException:
        for path in made:
            with suppress(OSError):  # not empty: images were written
                path.rmdir()
        raise


def _probe(folder: Path, names: Sequence[str]) -> None:
    for name in names:
        if (folder / name).is_dir():
            raise ValueError(f"{folder / name} is a folder; choose another --out")
    probe = folder / f".{names[-1]}.probe"
    probe.touch()
    probe.unlink()


def _slug(prompt: str) -> str:
    words = re.sub(r"[^a-z0-9]+", "-", prompt.lower()).strip("-")
    return words[:40].rstrip("-") or "sample"


def _size(text: str) -> tuple[int, int]:
    if not (found := re.fullmatch(r"(\d+)(?:x(\d+))?", text)):
        raise argparse.ArgumentTypeError(f"expected pixels such as 64 or 64x96, got {text!r}")
    return int(found[1]), int(found[2] or found[1])
