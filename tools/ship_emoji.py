"""Measure a finished emoji run and ship it: python tools/ship_emoji.py NAME RUN [--samples N] [--measured]

Writes src/mezzotint/weights/NAME (float16 weights, config, model card README.md, grid.png, metrics.json). Guidance is
chosen on 200 captions that the reported figures do not use.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch
from torch import Tensor

from mezzotint import Model
from mezzotint.cli.picture import grid, pixels, write_png
from mezzotint.data import Emoji, indices
from mezzotint.metric import frechet_distance, load_features, psnr, retrieval, weights_hash
from mezzotint.model import WEIGHTS, load
from mezzotint.train import Recipe, read_log
from mezzotint.train.recipes import emoji, emoji_pixel
from mezzotint.train.staged import LatentRecipe, trained_model

GUIDANCES = (1.0, 2.0, 3.0, 5.0)
GRID = (
    "red heart", "grinning face", "dog face", "cat", "pizza", "rocket", "tree", "rainbow",
    "house", "bicycle", "guitar", "sun", "moon", "fire", "ghost", "robot",
    "apple", "banana", "strawberry", "hamburger", "birthday cake", "hot beverage", "beer mug", "ice cream",
    "red car", "airplane", "sailboat", "key", "light bulb", "umbrella", "crown", "soccer ball",
)  # fmt: skip
RECIPES = {"emoji": emoji, "emoji-pixel": emoji_pixel}
STYLES = {"noto": "noto", "fluent": "fluent 3d"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", choices=list(RECIPES))
    parser.add_argument("run", type=Path)
    parser.add_argument("--samples", type=int, default=1000)
    parser.add_argument("--measured", action="store_true", help="keep the figures of metrics.json, write the card anew")
    told = parser.parse_args()
    recipe: Recipe | LatentRecipe = RECIPES[told.name]()
    minutes = (
        {"diffusion": minutes_of(told.run)}
        if isinstance(recipe, Recipe)
        else {part: minutes_of(told.run / part) for part in ("autoencoder", "diffusion")}
    )
    model = trained_model(recipe, told.run)
    assert model is not None
    size = model.size[0]
    out = WEIGHTS / told.name
    file = out / "metrics.json"
    figures = json.loads(file.read_text()) if told.measured else None
    model.save(out, torch.float16)
    model = load(out)  # what is measured is what is shipped
    if figures is None:  # through JSON, so that keys are strings either way
        figures = json.loads(json.dumps(measure(model, size, told.samples) | {"minutes": minutes}))
    model.defaults = {"sampler": "dpmpp-2m", "steps": 20, "guidance": figures["guidance"]}
    model.card = card(told.name, model, figures, recipe)
    model.save(out, torch.float16)
    pictures = model.sample([f"{word}, {style}" for style in STYLES.values() for word in GRID[:32]], seeds=[*range(64)])
    write_png(out / "grid.png", grid(pixels(pictures)))
    file.write_text(json.dumps(figures, indent=1) + "\n")
    print(json.dumps(figures, indent=1))


def minutes_of(run: Path) -> float:
    return round(read_log(run / "log.jsonl")[-1]["seconds"] / 60, 1)


@torch.no_grad()
def measure(model: Model, size: int, samples: int) -> dict:
    """Every figure of the card."""
    net = load_features()
    train, val = Emoji(size), Emoji(size, "val")
    rows = one_a_concept(train)
    choose, report = rows[:200], rows[200:400]
    by_guidance = {w: _find(model, net, train, choose, w, 10**6)[5] for w in GUIDANCES}
    guidance = max(by_guidance, key=lambda w: by_guidance[w])
    order = indices(1, 0, len(train), len(train))
    fake_rows, real_rows = order[:samples], order[samples : 2 * samples]
    fake = net.features(_sample(model, train, fake_rows, guidance, 2 * 10**6))
    real, own = (net.features(train.batch(r)[0]) for r in (real_rows, fake_rows))
    x = val.batch(range(len(val)))[0]
    held = one_a_concept(val)[:200]
    return {
        "guidance": guidance,
        "top5_by_guidance": by_guidance,
        "frechet": frechet_distance(fake, real),
        "frechet_floor": frechet_distance(own, real),
        "samples": samples,
        "retrieval_train": _find(model, net, train, report, guidance, 3 * 10**6),
        "retrieval_unseen": _find(model, net, val, held, guidance, 4 * 10**6),
        "unseen": len(held),
        "psnr_val": float(psnr(model.autoencoder(x).clamp(-1, 1), x).mean())
        if model.autoencoder.spec.factor > 1
        else None,
        "extractor": weights_hash(net),
    }


def one_a_concept(source: Emoji) -> Tensor:
    """Rows in a fixed shuffled order, one for each concept (skin tones and styles of one thing count once)."""
    seen: set[str] = set()
    rows = []
    for i in indices(0, 0, len(source), len(source)).tolist():
        if source.base_hexcodes[i] not in seen:
            seen.add(source.base_hexcodes[i])
            rows.append(i)
    return torch.tensor(rows)


def _sample(model: Model, source: Emoji, rows: Tensor, guidance: float, seed: int) -> Tensor:
    captions = [source.captions[i] for i in rows.tolist()]
    return model.sample(captions, guidance=guidance, steps=20, seeds=range(seed, seed + len(rows)))


def _find(model: Model, net, source: Emoji, rows: Tensor, guidance: float, seed: int) -> dict[int, float]:
    made = _sample(model, source, rows, guidance, seed)
    return retrieval(net.features(made), net.features(source.batch(rows)[0]))


def card(name: str, model: Model, f: dict, recipe: Recipe | LatentRecipe) -> str:
    """The model card."""
    stages = [recipe.autoencoder, recipe.diffusion] if isinstance(recipe, LatentRecipe) else [recipe]
    counts = {k: sum(p.numel() for p in m.parameters()) for k, m in model.named_children()}
    size, spec = model.size[0], model.autoencoder.spec
    space = f"latent {size // spec.factor}x{size // spec.factor}x{spec.channels}" if spec.factor > 1 else "pixel space"
    seen, unseen = f["retrieval_train"], f["retrieval_unseen"]
    recon = (
        ""
        if f["psnr_val"] is None
        else f"| reconstruction PSNR of the autoencoder, 255 validation images | {f['psnr_val']:.1f} dB |\n"
    )
    minutes = ", ".join(f"{stage} {value:.0f}" for stage, value in f["minutes"].items())
    chosen = ", ".join(f"w {w} {share:.1%}" for w, share in f["top5_by_guidance"].items())
    steps = "; ".join(f"{s.name}: {s.budget.steps} steps of {s.budget.batch}" for s in stages)
    return f"""# {name}

Text (and style: end the prompt with ", noto" or ", fluent 3d") to {size}x{size} emoji on white; {space}, flow matching.

![samples](grid.png)

- **Data**: training split of this repository's emoji (4,891 images): Noto Emoji (art Apache-2.0) and Fluent 3D (MIT).
- **Licence** of the weights: Apache-2.0. **Files**: float16; the arithmetic is float32.
- **Parameters**: {", ".join(f"{k} {v:,}" for k, v in counts.items() if v)}. The text encoder is ours, trained jointly.
- **Recipe**: `mezzotint train {name}` ({steps}), seed 0; the weights are averaged (EMA).
- **Hardware**: one thread of a 2-core CPU (AVX2), shared with other work; minutes of wall time: {minutes}.

| measure | value |
| --- | --- |
| Frechet distance, {f["samples"]} samples of training captions against {f["samples"]} other training images | {f["frechet"]:.2f} |
| the same of real images (floor) | {f["frechet_floor"]:.2f} |
| caption retrieval among 200 concepts, training captions not used to choose the guidance: top-1 / top-5 | {seen["1"]:.1%} / {seen["5"]:.1%} |
| the same among {f["unseen"]} concepts never seen in training | {unseen["1"]:.1%} / {unseen["5"]:.1%} |
{recon}
Features: `emoji-features` (hash `{f["extractor"]}`), a small classifier of emoji groups trained on the same training split; the
distance is not FID. Guidance {f["guidance"]:g} was chosen by top-5 retrieval on 200 other training captions ({chosen}).
DPM-Solver++ 2M, 20 steps. Chance is 0.5 % / 2.5 % among 200.

**Limits**: it knows the emoji it was trained on and their names and keywords; concepts outside the training split mostly
come out as something else. Fine detail (faces in crowds, text, flags) is lost. A model of CPU hours, not of GPU days.
"""  # noqa: E501


if __name__ == "__main__":
    main()
