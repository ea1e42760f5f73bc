"""Peak memory and seconds of deblurring a 24-megapixel photograph of 16 bits, in a process of its own.

    OMP_NUM_THREADS=1 python benchmarks/restore_large.py --model photo --data kodak24.parquet --skip 16
    OMP_NUM_THREADS=1 python benchmarks/restore_large.py --height 160      # a strip: seconds a tile, and what all take

The photograph is made of those in --data, side by side (a Parquet file or a folder; else of discs), blurred by
`mezzotint restore`'s own operator, with noise, and written as a deep TIFF; the extra [photo] is needed. This process
imports nothing large, so that the peak that the system tells is the command's.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

_BLOCK = 256  # rows at once


def main() -> int:
    told = _options()
    if told.part == "make":
        _make(told)
        return 0
    if told.part == "compare":
        _compare(told)
        return 0
    with tempfile.TemporaryDirectory(dir=told.folder) as folder:
        own = [sys.executable, __file__, *sys.argv[1:], "--folder", folder]
        subprocess.run([*own, "--part", "make"], check=True)
        command = [
            sys.executable, "-m", "mezzotint", "restore", f"{folder}/blurred.tif", "--task", "deblur",
            "--blur", str(told.blur), "--noise", str(told.noise), "--steps", str(told.steps), "--method", told.method,
            "--model", told.model, "--batch", str(told.batch), "--samples", str(told.samples), "--device", told.device,
            "--out", f"{folder}/restored.tif",
        ]  # fmt: skip
        start = time.monotonic()
        child = subprocess.Popen(command)
        _, status, usage = os.wait4(child.pid, 0)
        wall = time.monotonic() - start
        if os.waitstatus_to_exitcode(status):
            return 1
        facts = json.loads(subprocess.run([*own, "--part", "compare"], check=True, stdout=subprocess.PIPE).stdout)
        record = json.loads(Path(folder, "restored.json").read_text(encoding="utf-8"))
    scale = 1 if sys.platform == "darwin" else 1024  # ru_maxrss is in KiB, but for macOS
    result = {
        "format": "mezzotint-restore-large-1",
        "pixels": told.height * told.width,
        **{name: record[name] for name in ("size", "task", "method", "model", "steps", "batch", "tiles", "nfe")},
        "samples": told.samples,
        "blur": told.blur,
        "data": None if told.data is None else f"{Path(told.data).stem}, the first {told.skip} left out",
        "noise": told.noise,
        "peak_mib": round(usage.ru_maxrss * scale / 2**20, 1),
        "seconds": round(wall, 1),
        "processor_seconds": round(usage.ru_utime + usage.ru_stime, 1),
        "processor_seconds_a_tile": round((usage.ru_utime + usage.ru_stime) / record["tiles"], 5),
        **facts,
        "torch_threads": record["torch_threads"],
        "versions": record["versions"],
    }
    text = json.dumps(result, indent=2)
    print(text)
    if told.out is not None:
        told.out.write_text(text + "\n", encoding="utf-8")
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--height", type=int, default=4000)
    parser.add_argument("--width", type=int, default=6000)
    parser.add_argument("--data", help="photographs: a Parquet file or a folder")
    parser.add_argument("--skip", type=int, default=0, help="the first photographs, which the prior was trained on")
    parser.add_argument("--model", default="emoji-pixel")
    parser.add_argument("--method", default="ddrm")
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--samples", type=int, default=1)
    parser.add_argument("--blur", type=float, default=1.5)
    parser.add_argument("--noise", type=float, default=0.01, help="std in a picture of [0, 1]")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--folder", help="for the pictures (default: the system's temporary one)")
    parser.add_argument("--out", type=Path, help="also write the result to this JSON file")
    parser.add_argument("--part", choices=["all", "make", "compare"], default="all", help=argparse.SUPPRESS)
    return parser.parse_args()


def _truth(told: argparse.Namespace):
    import torch

    if told.data is None:
        return _discs(told.height, told.width)
    from mezzotint.data.open_source import open_source

    source = open_source(told.data)
    whole = torch.empty(3, told.height, told.width, dtype=torch.uint8)
    top = k = 0
    while top < told.height:
        left, deep = 0, 0
        while left < told.width:
            x = source.pixels(told.skip + k % (len(source) - told.skip))[:, : told.height - top, : told.width - left]
            x = x[:, : deep or x.shape[1]]
            deep = deep or x.shape[1]
            whole[:, top : top + x.shape[1], left : left + x.shape[2]] = x
            left, k = left + x.shape[2], k + 1
        top += deep
    return whole


def _discs(height: int, width: int):
    """Discs of every size and colour on a ramp."""
    import torch

    rng = torch.Generator().manual_seed(0)
    whole = torch.linspace(40, 200, width).expand(3, height, width).byte().clone()
    for _ in range(height * width // 4000):
        r = int(4 + 40 * torch.rand(1, generator=rng) ** 3)
        y, x = (int(n * torch.rand(1, generator=rng)) for n in (height, width))
        part = whole[:, max(0, y - r) : y + r, max(0, x - r) : x + r]
        rows = torch.arange(max(0, y - r), max(0, y - r) + part.shape[1])[:, None] - y
        columns = torch.arange(max(0, x - r), max(0, x - r) + part.shape[2]) - x
        colour = (255 * torch.rand(3, 1, 1, generator=rng)).byte()
        part.copy_(torch.where(rows**2 + columns**2 < r * r, colour, part))
    return whole


def _make(told: argparse.Namespace) -> None:
    import torch

    from mezzotint.core import Noise, fold
    from mezzotint.io.photo import Photo, write_photo
    from mezzotint.restore.operators import ReflectBlur

    truth = _truth(told)
    torch.save(truth, f"{told.folder}/truth.pt")
    blur = ReflectBlur.gaussian(told.blur)
    reach = blur.kernel.shape[0] // 2
    made = torch.empty(truth.shape)
    for top in range(0, told.height, _BLOCK):
        first, last = max(0, top - reach), min(told.height, top + _BLOCK + reach)
        rows = blur(truth[None, :, first:last].float() / 127.5 - 1)[0, :, top - first :][:, :_BLOCK]
        z = Noise([fold(0, "restore large", top)])("measured", 0, tuple(rows.shape))[0]
        made[:, top : top + _BLOCK] = rows + 2 * told.noise * z
    write_photo(f"{told.folder}/blurred.tif", Photo(made.clamp_(-1, 1), dtype="uint16", high=65535.0))


def _compare(told: argparse.Namespace) -> None:
    import math

    import torch

    from mezzotint.io.photo import read_photo

    truth = torch.load(f"{told.folder}/truth.pt").float().div_(127.5).sub_(1)
    found = {}
    for name in ("blurred", "restored"):
        error = (read_photo(f"{told.folder}/{name}.tif").image - truth).square_().mean().item()
        found[f"psnr_{name}"] = round(10 * math.log10(4 / error), 3)
    from mezzotint.bench.overhead import _processor

    print(json.dumps({**found, "hardware": _processor()}))


if __name__ == "__main__":
    sys.exit(main())
