"""`mezzotint restore IMAGE --task TASK`: the picture restored, how sure it is, and a `.json` beside it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from mezzotint.cli.options import Parser, count, find_device, print_json

_BLOCK = 16  # of JPEG, where colour is shared by two pixels each way


def main(arguments: Sequence[str]) -> int:
    """Restore and write."""
    if _named(arguments, "--task") in ("mri", "ct"):
        from mezzotint.cli.restore_scan import main as scan

        return scan(arguments)
    told = _parser().parse_args(arguments)
    if told.list:
        return _list(told.json)
    if told.image is None or told.task is None:
        raise ValueError("an image and a task are needed: mezzotint restore photo.png --task deblur (--list tells all)")
    return _restore(told)


def _named(arguments: Sequence[str], option: str) -> str | None:
    """What an option is given, before its command's parser is known."""
    for k, word in enumerate(arguments):
        if word.startswith(option + "="):
            return word[len(option) + 1 :]
        if word == option and k + 1 < len(arguments):
            return arguments[k + 1]
    return None


def _parser() -> Parser:
    parser = Parser("restore", "A degraded picture restored by a diffusion model: inverse problems without training.")
    parser.add_argument("image", nargs="?", type=Path, help="the degraded picture: PNG, TIFF, JPEG, WebP")
    parser.add_argument("--task", help="what happened to it: `--list`; mri and ct: scans, `--task mri --help`")
    parser.add_argument("--list", action="store_true", help="tasks, operators, methods, metrics, data sets")
    parser.add_argument("--method", help="such as red-diff, dps, pigdm (default: the task's first that suits)")
    parser.add_argument("--model", default="photo", help="the prior: a shipped model or a folder (default: photo)")
    parser.add_argument("--prompt", help="what the picture shows, for a model that reads words")
    parser.add_argument("--guidance", type=float, default=1.0, help="towards the prompt; 1 is none")
    parser.add_argument("--mask", type=Path, help="inpaint: a picture, white where it is to be filled in")
    parser.add_argument("--blur", type=float, default=1.5, help="deblur: std of the Gaussian, pixels")
    parser.add_argument("--kernel", type=Path, help="deblur: a picture of the kernel, in place of --blur")
    parser.add_argument("--quality", type=count, help="jpeg: 1 to 100 (default: the file's own tables)")
    parser.add_argument("--gain", type=float, default=2.0, help="hdr: by which the picture was brightened")
    parser.add_argument("--light", type=float, default=0.3, help="low-light: the share of light that is left")
    parser.add_argument("--gamma", type=float, default=1.0, help="low-light: its curve")
    parser.add_argument("--pattern", default="RGGB", help="demosaic: colours of the filter's 2 x 2 block")
    parser.add_argument("--noise", type=float, help="its std in a picture of [0, 1] (default: 0; denoise: estimated)")
    parser.add_argument("--steps", type=count, help="steps of the method (default: its own, --list)")
    parser.add_argument("--samples", type=count, default=1, help="how many; several give their mean and spread")
    parser.add_argument("--uncertainty", action="store_true", help="write the spread map (8 samples unless told)")
    parser.add_argument("--batch", type=count, default=16, help="pictures (tiles times samples) in the network at once")
    parser.add_argument("--out", type=Path, help="the restored picture's file (default: IMAGE-restored.SUFFIX)")
    parser.seed_option()
    parser.device_option()
    parser.json_option()
    return parser


def _list(as_json: bool) -> int:
    from mezzotint.restore.names import METHODS
    from mezzotint.restore.scan import SCANS
    from mezzotint.restore.tasks import TASKS

    if as_json:
        tasks = [
            {"task": t.name, "degradation": t.degradation, "methods": t.methods, "metrics": t.metrics, "data": t.data}
            for t in (*TASKS.values(), *SCANS.values())
        ]
        print_json({"tasks": tasks, "methods": [
            {"method": name, "operators": m.operators, "backward_passes_a_step": m.passes, "steps": m.steps,
             "paper": m.paper}
            for name, m in METHODS.items()
        ]})  # fmt: skip
        return 0
    for t in (*TASKS.values(), *SCANS.values()):
        print(f"{t.name:<10} {t.degradation}")
        print(f"{'':<10} methods {', '.join(t.methods)}; metrics {', '.join(t.metrics)}; data {', '.join(t.data)}")
    print("\nmethods")
    for name, m in METHODS.items():
        costs = f"steps: {m.steps:<4} backward passes a step: {m.passes}"
        print(f"{name:<10} operators: {m.operators:<9} {costs}  {m.paper}")
    return 0


def _restore(told: Any) -> int:
    from mezzotint.io.photo import check_photo_path, read_photo, write_photo
    from mezzotint.restore.tasks import Given, find_task

    task = find_task(told.task)
    if "mask" in task.needs and told.mask is None:
        raise ValueError(f"{task.name} needs --mask FILE: a picture, white where the image is to be filled in")
    photo = read_photo(told.image)
    out = told.out or told.image.with_name(f"{told.image.stem}-restored{told.image.suffix}")
    check_photo_path(out, replace(photo, alpha=None) if task.scale != 1 else photo)
    samples = told.samples if told.samples > 1 or not told.uncertainty else 8
    record, spread = out.with_suffix(".json"), out.with_name(f"{out.stem}-spread.png")
    for path in (out, record, *([spread] if samples > 1 else [])):
        if path.is_dir() or not path.parent.is_dir():
            raise ValueError(
                f"cannot write {path}: {'it is a folder' if path.is_dir() else 'its folder does not exist'}"
            )

    import torch

    from mezzotint import load
    from mezzotint.cli.progress import Progress
    from mezzotint.papers.setting import versions
    from mezzotint.restore.names import METHODS
    from mezzotint.restore.picture import restore_mean, windows_of
    from mezzotint.restore.strips import Strips

    model = load(told.model, find_device(told.device))
    channels = photo.image.shape[0]
    y = _measured(photo.image, task.channels)
    height, width = round(y.shape[1] / task.scale), round(y.shape[2] / task.scale)
    if task.name == "jpeg":  # filled up to whole blocks, as the encoder does
        y = torch.nn.functional.pad(y, (0, -width % _BLOCK, 0, -height % _BLOCK), mode="replicate")
    mask = None if told.mask is None else _mask(told.mask, photo.image.shape[1:])
    given = Given(
        mask=mask, kernel=None if told.kernel is None else _kernel(told.kernel), blur=told.blur,
        **(_compression(told) if task.name == "jpeg" else {}), gain=told.gain, light=told.light, gamma=told.gamma,
        pattern=told.pattern,
    )  # fmt: skip
    std = _std(told.noise, task.name, y)
    size = round(y.shape[1] / task.scale), round(y.shape[2] / task.scale)
    window = windows_of(size, model, task)[0]
    method, name = _method(told.method, task, given, window, model, samples > 1)
    steps = told.steps or METHODS[name].steps
    made = restore_mean(Strips(
        model, task, method, y, given, std=std, steps=steps, seeds=tuple(range(told.seed, told.seed + samples)),
        prompt=told.prompt, guidance=told.guidance, batch=told.batch, on_tile=Progress("tile"),
    ))  # fmt: skip
    best = made.mean[:, :height, :width]
    if channels == 1 and task.channels is None:
        best = best.mean(0, keepdim=True)
    facts = {
        "format": "mezzotint-restore-1", "image": str(told.image), "task": task.name, "method": name,
        "model": told.model, "prompt": told.prompt, "guidance": told.guidance,
        "steps": steps, "seeds": [told.seed + i for i in range(samples)],
        "noise": std / 2,
        "size": list(best.shape[1:]), "tiles": made.tiles, "batch": told.batch, "nfe": made.nfe, "misfit": made.misfit,
        "posterior_samples": method.spread, "torch_threads": torch.get_num_threads(), "versions": versions(),
        "options": {key: str(value) if isinstance(value, Path) else value for key, value in vars(told).items()
                    if key in ("mask", "blur", "kernel", "quality", "gain", "light", "gamma", "pattern")},
    }  # fmt: skip
    if made.spread is not None:
        shown = made.spread[..., :height, :width]
        facts["mean_spread"] = float(shown.mean()) / 2
        _write_spread(spread, shown)
    write_photo(out, photo.with_image(best))
    from mezzotint.io.atomic import write_text

    write_text(record, json.dumps(facts, indent=2) + "\n")
    if told.json:
        print_json({**facts, "out": str(out), "spread": str(spread) if samples > 1 else None})
        return 0
    print(out)
    if samples > 1:
        note = "" if method.spread else "  (of restarts: this method gives points, not samples of the posterior)"
        print(f"{spread}  standard deviation over {samples} results{note}")
    print(f"{record}  {name}, {made.nfe} evaluations a tile, {made.tiles} tiles, misfit {made.misfit:.3g}")
    return 0


def _measured(image, channels: int | None):
    """The picture as the model's measurement: three channels, or the one that the task has."""
    if channels == 1:
        return image.mean(0, keepdim=True)
    return image.expand(3, -1, -1) if image.shape[0] == 1 else image


def _mask(path: Path, size) -> Any:
    from mezzotint.io.photo import read_photo

    mask = read_photo(path).image.mean(0) > 0
    if tuple(mask.shape) != tuple(size):
        shown = " x ".join(map(str, mask.shape))
        raise ValueError(f"the mask {path} is {shown} but the picture {' x '.join(map(str, size))}; give one size")
    if bool(mask.all()) or not bool(mask.any()):
        raise ValueError(
            f"the mask {path} is all {'white: nothing is left' if bool(mask.all()) else 'black: nothing is missing'}"
        )
    return mask


def _kernel(path: Path) -> Any:
    from mezzotint.io.photo import read_photo

    kernel = (read_photo(path).image.mean(0) + 1) / 2
    if float(kernel.sum()) <= 0:
        raise ValueError(f"the kernel {path} is all black")
    return kernel / kernel.sum()


def _compression(told: Any) -> dict[str, Any]:
    """Of a JPEG file its own, else the standard tables of the quality."""
    from mezzotint.restore.operators import JPEG

    if told.quality is not None:
        return {"quality": told.quality}
    if told.image.suffix.lower() in (".jpg", ".jpeg"):
        return {"jpeg": JPEG.of_file(told.image)}
    raise ValueError(f"{told.image} is no JPEG file any more; give --quality, of the file that it once was")


def _std(noise: float | None, task: str, y) -> float:
    """In the model's range, which is twice as wide."""
    if noise is not None:
        if not 0 <= noise <= 1:
            raise ValueError(f"--noise {noise:g}: expected the standard deviation of a picture in [0, 1]")
        return 2 * noise
    if task != "denoise":
        return 0.0
    from mezzotint.restore.measure import estimate_std

    return float(estimate_std(y[None])[0])


def _method(name: str | None, task, given, window, model, several: bool) -> tuple[Any, str]:
    """The method asked for, or the task's first that the operator of a tile lets work; for several samples the first
    that draws samples of the posterior, where there is one."""
    from mezzotint.restore.names import METHODS, find_method
    from mezzotint.restore.operators import LinearOperator, SpectralOperator

    if name is not None:
        return find_method(name), name
    operator = task.build(given, window)
    kinds = {"any"}
    if model.autoencoder.spec.factor == 1:
        kinds |= {"picture"}
        kinds |= {"linear"} if isinstance(operator, LinearOperator) else set()
        kinds |= {"spectral"} if isinstance(operator, SpectralOperator) else set()
    suited = [m for m in (*task.methods, "red-diff") if METHODS[m].operators in kinds]
    drawn = [m for m in suited if find_method(m).spread]
    chosen = drawn[0] if several and drawn else suited[0]
    return find_method(chosen), chosen


def _write_spread(path: Path, spread) -> None:
    """Grey: white is the largest spread of the picture, whose number is in the record."""
    import torch

    from mezzotint.cli.picture import pixels, write_png

    top = max(float(spread.max()), 1e-12)
    rows = [pixels((2 * part / top - 1)[None, None])[0] for part in spread.split(256)]  # no copies of all in floats
    write_png(path, torch.cat(rows))
