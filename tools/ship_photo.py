"""Measure a finished photo run and ship it: python tools/ship_photo.py RUN PICTURES

Writes src/mezzotint/weights/photo (float16 weights, config, model card README.md, grid.png, metrics.json). PICTURES is
what the recipe was given as data.path; what comes after the recipe's first pictures is measured on.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch
from ship_emoji import minutes_of

from mezzotint import Model
from mezzotint.cli.picture import grid, pixels, write_png
from mezzotint.core import Noise
from mezzotint.data.open_source import open_source
from mezzotint.metric import psnr
from mezzotint.model import WEIGHTS, load
from mezzotint.restore.match import denoise
from mezzotint.train.overrides import with_overrides
from mezzotint.train.recipes import photo
from mezzotint.train.staged import trained_model

NAME, LEVELS = "photo", (15, 25, 50)  # noise in 255ths, as tables of denoising have it


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("pictures")
    told = parser.parse_args()
    recipe = with_overrides(photo(), {"data.path": told.pictures})
    model = trained_model(recipe, told.run)
    assert model is not None
    out = WEIGHTS / NAME
    model.defaults = {"sampler": "dpmpp-2m", "steps": 50, "guidance": 1.0}
    model.save(out, torch.float16)
    model = load(out)  # what is measured is what is shipped
    first: int = getattr(recipe.data, "first")  # noqa: B009
    figures = {"psnr": measure(model, told.pictures, first), "minutes": minutes_of(told.run)}
    figures = json.loads(json.dumps(figures))  # so that keys are strings
    model.card = card(model, figures, recipe)
    model.save(out, torch.float16)
    write_png(out / "grid.png", grid(pixels(model.sample(seeds=range(16)))))
    (out / "metrics.json").write_text(json.dumps(figures, indent=1) + "\n")
    print(json.dumps(figures, indent=1))


@torch.no_grad()
def measure(model: Model, path: str, first: int) -> dict[int, dict[str, float]]:
    """PSNR of whole pictures, noisy and denoised in one step: the mean over the held-out ones."""
    source = open_source(path)
    told: dict[int, dict[str, float]] = {}
    for level in LEVELS:
        std, rows = 2 * level / 255, []
        for i in range(first, len(source)):
            x = source.pixels(i).float()[None] / 127.5 - 1
            y = x + std * Noise([i])("measured", 0, tuple(x.shape[1:]))
            d, c = model.prior()
            rows.append([float(psnr(z.clamp(-1, 1), x)) for z in (y, denoise(d, y, std, c=c))])
        noisy, clean = torch.tensor(rows).mean(0).tolist()
        told[level] = {"noisy": noisy, "denoised": clean, "pictures": len(rows)}
    return told


def card(model: Model, f: dict, recipe: Recipe) -> str:
    """The model card."""
    count = sum(p.numel() for p in model.denoiser.parameters())
    rows = "\n".join(
        f"| PSNR of {r['pictures']} whole pictures never seen in training, noise of standard deviation {level} of 255: "
        f"noisy, denoised in one evaluation | {r['noisy']:.2f}, {r['denoised']:.2f} dB |"
        for level, r in f["psnr"].items()
    )
    return f"""# photo

A prior for restoration: an unconditional denoiser of photographs, 64x64 crops; pixel space, flow matching.

![samples](grid.png)

- **Data**: the first 16 of the 24 Kodak pictures (PhotoCD PCD0992, released for unrestricted use), crops at full and at
  half size. The last 8 (kodim17 to kodim24) were not seen, and are what the library's tables are measured on.
- **Licence** of the weights: Apache-2.0. **Files**: float16; the arithmetic is float32.
- **Parameters**: denoiser {count:,}.
- **Recipe**: `mezzotint train photo --set data.path=FOLDER` ({recipe.budget.steps} steps of {recipe.budget.batch}), seed 0;
  the weights are averaged (EMA).
- **Hardware**: one thread of a 2-core CPU (AVX2), shared with other work; minutes of wall time: {f["minutes"]:.0f}.

| measure | value |
| --- | --- |
{rows}

No Frechet distance is given: 24 pictures are too few for one.

**Limits**: 16 pictures are a narrow idea of photographs. It denoises; drawn from noise it gives texture and soft shapes, no
scenes. Where much is missing (large holes, factors of 4 and more) expect little. A model of CPU hours, not of GPU days.
"""  # noqa: E501


if __name__ == "__main__":
    main()
