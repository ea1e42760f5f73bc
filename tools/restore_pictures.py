"""The picture of docs/restoration-pictures.md: each task a row, as measured, restored and as it was.

python tools/restore_pictures.py                              docs/images/restored-emoji.png, and the page's table
python tools/restore_pictures.py --model M --data PATH --out FILE

Columns: the measurement, the mean of 8 samples, one of them, their spread (white: the row's largest), the truth.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "restoration-pictures.md"
PICTURE = ROOT / "docs" / "images" / "restored-emoji.png"
BEGIN, END = "<!-- rows: begin (tools/restore_pictures.py) -->", "<!-- rows: end -->"
# task -> method; those that draw samples of the posterior
ROWS = {
    "inpaint": "repaint", "sr4": "pigdm", "deblur": "diffpir", "denoise": "ddrm", "jpeg": "dps", "colourise": "ddnm",
}  # fmt: skip
SAMPLES, COLUMNS = 8, ("measured", "mean of 8", "one sample", "spread", "truth")


def rows(model: Any, x: Any, nfe: int) -> list[dict[str, Any]]:
    """What each row shows, (3, h, w) in [-1, 1], and its numbers."""
    import torch

    from mezzotint.bench.restore_case import Case, Prior, case_of
    from mezzotint.bench.restore_ours import restored
    from mezzotint.core import fold
    from mezzotint.metric import psnr

    denoiser, c = model.prior()
    found = []
    for k, (task, method) in enumerate(ROWS.items()):
        case = case_of(task, x[k : k + 1].to(model.device))
        seeds = tuple(fold(0, "restored pictures", task, i) for i in range(SAMPLES))
        many = Case(task, case.operator, case.std, case.x, case.y, seeds)
        prior = Prior(denoiser, c)
        with torch.no_grad():
            made = restored(method, prior, many, nfe).clamp(-1, 1).cpu()
            seen = _seen(case).cpu()
        truth, mean = case.x.cpu(), made.mean(0, keepdim=True)
        spread = made.var(0).mean(0).sqrt()
        found.append({
            "task": task, "method": method, "nfe": prior.calls, "std": case.std,
            "psnr": [float(psnr(shown, truth)) for shown in (seen, mean, made[:1])],
            "spread": float(spread.mean()) / 2, "error": float((mean - truth).square().mean().sqrt()) / 2,
            "shown": [seen[0], mean[0], made[0], (2 * spread / spread.max() - 1).expand(3, -1, -1), truth[0]],
        })  # fmt: skip
        print(_line(found[-1]), file=sys.stderr, flush=True)
    return found


def _seen(case: Any) -> Any:
    """The measurement as a picture of the truth's size: small ones enlarged, one channel in all three."""
    import torch

    y = case.y.clamp(-1, 1).expand(-1, 3, -1, -1)
    return torch.nn.functional.interpolate(y, case.x.shape[2:], mode="nearest")


def _line(row: dict[str, Any]) -> str:
    return (
        f"{row['task']}, {row['method']}: PSNR {row['psnr'][0]:.1f} measured, {row['psnr'][1]:.1f} mean, "
        f"{row['psnr'][2]:.1f} one sample; NFE {row['nfe']}"
    )


def draw(path: Path, found: list[dict[str, Any]], scale: int) -> None:
    """The sheet: what it shows above, its numbers below each row."""
    import torch
    from PIL import Image, ImageDraw

    from mezzotint.io.atomic import atomic_file
    from mezzotint.io.picture import pixels

    height, width = (n * scale for n in found[0]["shown"][0].shape[1:])
    gap, text = 6, 16
    sheet = Image.new("RGB", (gap + len(COLUMNS) * (width + gap), text + len(found) * (height + text + gap)), "white")
    pen = ImageDraw.Draw(sheet)
    for j, name in enumerate(COLUMNS):
        pen.text((gap + j * (width + gap), 2), name, fill="black")
    for i, row in enumerate(found):
        top = text + i * (height + text + gap)
        shown = pixels(torch.stack(row["shown"]))
        for j, picture in enumerate(shown):
            one = Image.fromarray(picture.numpy()).resize((width, height), Image.Resampling.NEAREST)
            sheet.paste(one, (gap + j * (width + gap), top))
        pen.text((gap, top + height + 2), _line(row), fill="black")
    with atomic_file(path) as temporary:
        sheet.save(temporary, format="PNG", optimize=True)


def table(found: list[dict[str, Any]]) -> str:
    """A row a task."""
    lines = ["| task | method | noise | NFE | measured | mean | one sample | mean spread | error of the mean |"]
    lines += ["| " + " | ".join(["---"] * 9) + " |"]
    for row in found:
        numbers = " | ".join(f"{value:.2f}" for value in row["psnr"])
        lines.append(
            f"| {row['task']} | `{row['method']}` | {row['std']:g} | {row['nfe']} | {numbers} | {row['spread']:.3f} | "
            f"{row['error']:.3f} |"
        )
    return "\n".join(lines)


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="emoji-pixel")
    parser.add_argument("--data", default="emoji", help="as of `mezzotint bench restore`")
    parser.add_argument("--nfe", type=int, default=100)
    parser.add_argument("--scale", type=int, default=3, help="of a picture's pixel on the sheet")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--out", type=Path, default=PICTURE)
    told = parser.parse_args(arguments)
    import torch

    from mezzotint import load
    from mezzotint.bench.restore_data import pictures

    model = load(told.model, torch.device(told.device))
    found = rows(model, pictures(told.data, model.size, len(ROWS)).x, told.nfe)
    draw(told.out, found, told.scale)
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
