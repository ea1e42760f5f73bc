"""The picture book of docs/editing.md: each edit a row, made by the shipped models.

python tools/editing_book.py                  docs/images/editing.png, and the page's table
python tools/editing_book.py --out FILE       another sheet, the page as it is

Columns: before, the mask (or the regions), after, what changed (black: nothing, white: the row's largest change).
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
PAGE, PICTURE = ROOT / "docs" / "editing.md", ROOT / "docs" / "images" / "editing.png"
BEGIN, END = "<!-- book: begin (tools/editing_book.py) -->", "<!-- book: end -->"
COLUMNS, CELL, COLOURS = ("before", "mask", "after", "change"), 64, 64


@dataclass(frozen=True)
class Entry:
    """One edit: a picture (3, h, w) in [-1, 1], a mask (h, w) or None, and () -> the picture after it.

    `call` is what a user writes. An `explains` row shows a map, of which nothing is said to have changed.
    """

    name: str
    call: str
    before: Any
    mask: Any
    edit: Callable[[], Any]
    explains: bool = False


def shrunk(latent: Any, size: tuple[int, int], side: int, at: tuple[int, int]) -> tuple[Any, Any]:
    """A small heart on white, and the mask of it; at: left, top."""
    import torch
    import torch.nn.functional as F

    drawn = latent.sample("red heart, noto", seeds=[0])
    small = F.interpolate(drawn, (side, side), mode="bilinear", antialias=True)[0]
    image = torch.ones(3, *size)
    left, top = at
    image[:, top : top + side, left : left + side] = small
    return image, (image < 0.9).any(0)


def moved(pixel: Any, latent: Any) -> Entry:
    from mezzotint.edit import PixelMan, plan_move

    image, mask = shrunk(latent, pixel.size, 14, (2, 9))
    plan = plan_move(image, mask, (14, 0))
    return Entry("move", "edit move --shift 14,0", image, mask, lambda: PixelMan()(pixel, plan, [0]).images[0])


def pasted(pixel: Any, latent: Any) -> Entry:
    from mezzotint.edit import PixelMan, plan_paste

    source, mask = shrunk(latent, pixel.size, 14, (9, 9))
    before = pixel.sample("grinning face", seeds=[0])[0]
    plan = plan_paste(before, source, mask, at=(22, 22))
    gen = plan.masks()["gen"]
    return Entry("paste", "edit paste --at 22,22", before, gen, lambda: PixelMan()(pixel, plan, [0]).images[0])


def reworded(latent: Any, source: str, target: str) -> Entry:
    from mezzotint.edit import CycleDiffusion

    before = latent.sample(source, seeds=[0])[0]
    method = CycleDiffusion(start=1.0, guidance=latent.defaults["guidance"])
    call = f'edit prompt --from "{source}" --to "{target}" --start 1'
    return Entry(
        "prompt", call, before, None, lambda: method(latent, before, [0], source=source, target=target).images[0]
    )


def translated(pixel: Any, photo: Any) -> Entry:
    from mezzotint.edit import CycleDiffusion

    before, method = pixel.sample("red heart", seeds=[0])[0], CycleDiffusion(start=0.5)
    call = "edit translate --source emoji-pixel --target photo --start 0.5"
    return Entry("translate", call, before, None, lambda: method(pixel, before, [0], onto=photo).images[0])


def resized(latent: Any) -> Entry:
    def drawn(rescale: bool) -> Any:
        return latent.sample("grinning face, noto", seeds=[0], size=(96, 96), rescale=rescale)[0]

    call = 'sample "grinning face, noto" --size 96x96 (before: --no-rescale)'
    return Entry("size", call, drawn(False), None, lambda: drawn(True))


def placed(latent: Any) -> Entry:
    from mezzotint.edit import SpaceTimeAttention
    from mezzotint.guide import Box

    caption, right = "red heart and yellow star", Box(0.5, 0, 1, 1)
    layout = {"red heart": Box(0, 0, 0.5, 1), "yellow star": right}
    method = SpaceTimeAttention(mode="boost", rounds=1, template="{}")
    call = 'SpaceTimeAttention, "red heart" left, "yellow star" right (mask)'
    before, mask = latent.sample(caption, seeds=[0])[0], right.mask(*latent.size) > 0
    return Entry("places", call, before, mask, lambda: method(latent, caption, layout, seeds=[0]).images[0])


def explained(latent: Any) -> Entry:
    from mezzotint.interpret import explain_pid
    from mezzotint.interpret.pid_picture import heat

    image = latent.sample("a red heart", seeds=[0])

    def only_red() -> Any:
        only = explain_pid(latent, image, "a red heart", ["red", "heart"]).atoms.maps.u1
        assert only is not None
        return heat(only[0], image[0], float(only.abs().max()))

    call = 'explain pid "a red heart" --concepts red,heart (what only "red" tells)'
    return Entry("words", call, image[0], None, only_red, explains=True)


def along(pixel: Any) -> Entry:
    from mezzotint.interpret import explain_subspace

    def strip(strength: float) -> Any:
        return explain_subspace(pixel, prompt="grinning face", rank=1, strengths=(strength,)).strips[0, 0]

    call = 'explain subspace "grinning face" (the first, strength 4)'
    return Entry("direction", call, strip(0.0), None, lambda: strip(4.0))


def book() -> list[tuple[str, Callable[..., Entry], tuple[Any, ...]]]:
    """What is shown: the model's name, what makes the row, and with what."""
    from mezzotint import load

    pixel, latent, photo = (load(name) for name in ("emoji-pixel", "emoji", "photo"))
    return [
        ("emoji-pixel", moved, (pixel, latent)),
        ("emoji-pixel", pasted, (pixel, latent)),
        ("emoji", reworded, (latent, "red heart, noto", "blue heart, noto")),
        ("emoji", reworded, (latent, "red apple, noto", "green apple, noto")),
        ("emoji-pixel, photo", translated, (pixel, photo)),
        ("emoji", resized, (latent,)),
        ("emoji", placed, (latent,)),
        ("emoji", explained, (latent,)),
        ("emoji-pixel", along, (pixel,)),
    ]


def rows() -> list[dict[str, Any]]:
    """Each row with the evaluations of its edit (rows of a batch that went through a network) and its seconds."""
    import torch

    found = []
    for name, make, models in book():
        calls: list[int] = []
        with torch.no_grad():
            entry = make(*models)
        hooks = [
            model.denoiser.net.register_forward_pre_hook(lambda _, args: calls.append(len(args[0])))  # noqa: B023
            for model in models
            if not isinstance(model, str)
        ]
        begun = time.perf_counter()
        with torch.no_grad():
            after = entry.edit()
        seconds = time.perf_counter() - begun
        for hook in hooks:
            hook.remove()
        change = None if entry.explains else (after.clamp(-1, 1) - entry.before.clamp(-1, 1)).abs().mean(0)
        found.append({
            "entry": entry, "after": after, "model": name, "nfe": sum(calls), "seconds": seconds, "change": change
        })  # fmt: skip
        print(f"{entry.name}: {sum(calls)} evaluations, {seconds:.1f} s", file=sys.stderr, flush=True)
    return found


def draw(path: Path, found: list[dict[str, Any]]) -> None:
    """The sheet, few colours: it travels with the repository."""
    import torch
    from PIL import Image, ImageDraw

    from mezzotint.io.atomic import atomic_file
    from mezzotint.io.picture import pixels

    gap, text = 6, 16
    sheet = Image.new("RGB", (gap + 4 * (CELL + gap), text + len(found) * (CELL + text + gap)), "white")
    pen = ImageDraw.Draw(sheet)
    for j, name in enumerate(COLUMNS):
        pen.text((gap + j * (CELL + gap), 2), name, fill="black")
    for i, row in enumerate(found):
        entry, top = row["entry"], text + i * (CELL + text + gap)
        change = row["change"]
        if change is not None:
            change = (2 * change / change.max().clamp_min(1e-6) - 1).expand(3, -1, -1)
        mask = None if entry.mask is None else (entry.mask.float() * 2 - 1).expand(3, -1, -1)
        for j, shown in enumerate((entry.before, mask, row["after"], change)):
            if shown is None:
                continue
            one = Image.fromarray(pixels(torch.as_tensor(shown)[None].clamp(-1, 1).cpu())[0].numpy())
            way = Image.Resampling.NEAREST if CELL % one.width == 0 else Image.Resampling.BICUBIC
            left = gap + j * (CELL + gap)
            sheet.paste(one.resize((CELL, CELL), way), (left, top))
            pen.rectangle((left - 1, top - 1, left + CELL, top + CELL), outline=(190, 190, 190))
        pen.text((gap, top + CELL + 2), f"{i + 1}  {entry.name}: {row['nfe']} evaluations", fill="black")
    with atomic_file(path) as temporary:
        # Refined: the first cut of so few colours alone turns one picture's blue into another's grey.
        sheet.quantize(COLOURS, kmeans=4, dither=Image.Dither.NONE).save(temporary, format="PNG", optimize=True)


def table(found: list[dict[str, Any]]) -> str:
    """A row an edit."""
    lines = ["| row | what a user writes | model | evaluations | seconds | changed inside | outside |"]
    lines.append("| " + " | ".join(["---"] * 7) + " |")
    for i, row in enumerate(found):
        entry, change = row["entry"], row["change"]
        inside, outside = "", ""
        if change is not None and entry.mask is None:
            inside = f"{float(change.mean()) / 2:.3f}"
        elif change is not None:
            inside, outside = (f"{float(change[part].mean()) / 2:.3f}" for part in (entry.mask, ~entry.mask))
        lines.append(
            f"| {i + 1} {entry.name} | `{entry.call}` | `{row['model']}` | {row['nfe']} | {row['seconds']:.1f} | "
            f"{inside} | {outside} |"
        )
    return "\n".join(lines)


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=PICTURE)
    told = parser.parse_args(arguments)
    found = rows()
    draw(told.out, found)
    if told.out == PICTURE:
        head, begin, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
        _, end, tail = rest.partition(END)
        if not begin or not end:
            raise ValueError(f"{PAGE.name} has lost the marks {BEGIN!r} and {END!r}")
        PAGE.write_text(f"{head}{BEGIN}\n\n{table(found)}\n\n{END}{tail}", encoding="utf-8")
    print(told.out)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
