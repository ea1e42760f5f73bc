"""Measure a finished emoji-fast run and ship it: python tools/ship_fast.py RUN [--samples N] [--measured]

Writes src/mezzotint/weights/emoji-fast (float16 weights, config, model card README.md, grid.png, metrics.json). The
protocol is that of tools/ship_emoji.py: same captions, same seeds, so that the teacher's figures compare.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch
from ship_emoji import GRID, STYLES, minutes_of, one_a_concept

from mezzotint import Model
from mezzotint.cli.picture import grid, pixels, write_png
from mezzotint.data import Emoji, indices
from mezzotint.io.folder import Parts, write_folder
from mezzotint.metric import frechet_distance, load_features, retrieval, weights_hash
from mezzotint.model import WEIGHTS, load
from mezzotint.train.recipes import emoji_fast

NAME, TEACHER = "emoji-fast", "emoji"
GUIDANCES = (1.0, 2.0, 3.0, 4.0, 5.0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("--samples", type=int, default=1000)
    parser.add_argument("--measured", action="store_true", help="keep the figures of metrics.json, write the card anew")
    told = parser.parse_args()
    recipe = emoji_fast()
    out = WEIGHTS / NAME
    file = out / "metrics.json"
    figures = json.loads(file.read_text()) if told.measured else None
    recipe.model(told.run).save(out, torch.float16)
    model = load(out)  # what is measured is what is shipped
    if figures is None:  # through JSON, so that keys are strings either way
        stages = ["guided", *(f"steps-{n:04d}" for n in recipe.numbers)]
        made = measure(model, recipe.students(told.run), told.samples)
        figures = json.loads(json.dumps(made | {"minutes": {s: minutes_of(told.run / s) for s in stages}}))
    model.defaults = {"sampler": "distilled", "steps": recipe.end, "guidance": figures["guidance"]}
    model.card = card(model, figures)
    ship(model, out)
    pictures = model.sample([f"{word}, {style}" for style in STYLES.values() for word in GRID[:32]], seeds=[*range(64)])
    write_png(out / "grid.png", grid(pixels(pictures)))
    file.write_text(json.dumps(figures, indent=1) + "\n")
    print(json.dumps(figures, indent=1))


def ship(model: Model, out: Path) -> None:
    """Write the folder without what the teacher's has: both travel with the package."""
    parts = Parts(model.denoiser, model.autoencoder, model.conditioner, model.size, model.defaults, model.card)
    write_folder(parts, out, torch.float16, shared={"autoencoder": TEACHER, "conditioner": TEACHER})


@torch.no_grad()
def measure(model: Model, students: dict[int | None, Model], samples: int) -> dict:
    """Every figure of the card."""
    net, train = load_features(), Emoji(model.size[0])
    rows = one_a_concept(train)
    choose, report = rows[:200], rows[200:400]
    order = indices(1, 0, len(train), len(train))
    fake_rows, real_rows = order[:samples], order[samples : 2 * samples]
    real = net.features(train.batch(real_rows)[0])

    def find(m: Model, which: torch.Tensor, seed: int, **settings) -> dict[int, float]:
        return retrieval(net.features(_sample(m, train, which, seed, **settings)), net.features(train.batch(which)[0]))

    def distance(m: Model, **settings) -> float:
        return frechet_distance(net.features(_sample(m, train, fake_rows, 2 * 10**6, **settings)), real)

    by_guidance = {w: find(model, choose, 10**6, guidance=w)[5] for w in GUIDANCES}
    guidance = max(by_guidance, key=lambda w: by_guidance[w])
    teacher = load(TEACHER)
    return {
        "guidance": guidance,
        "top5_by_guidance": by_guidance,
        "frechet_by_guidance": {w: distance(model, guidance=w) for w in GUIDANCES},
        "frechet_students": {n: distance(m, guidance=guidance) for n, m in students.items() if n is not None},
        "frechet_teacher": {n: distance(teacher, steps=n, guidance=teacher.defaults["guidance"]) for n in (2, 4, 20)},
        "teacher_guidance": teacher.defaults["guidance"],
        "samples": samples,
        "retrieval_train": find(model, report, 3 * 10**6, guidance=guidance),
        "extractor": weights_hash(net),
    }


def _sample(model: Model, source: Emoji, rows: torch.Tensor, seed: int, **settings) -> torch.Tensor:
    return model.sample([source.captions[i] for i in rows.tolist()], seeds=range(seed, seed + len(rows)), **settings)


def card(model: Model, f: dict) -> str:
    """The model card."""
    w, size = f["guidance"], model.size[0]
    own, teacher, seen = f["frechet_by_guidance"], f["frechet_teacher"], f["retrieval_train"]
    ours, goal = own[str(w)], teacher["20"]
    other = {n: v for n, v in f["frechet_students"].items() if n != "2"}
    count = sum(p.numel() for p in model.denoiser.parameters())
    minutes = ", ".join(f"{stage} {value:.0f}" for stage, value in f["minutes"].items())
    return f"""# {NAME}

`{TEACHER}` in two steps: text to {size}x{size} emoji on white, with guidance 1 to 5 inside the network (one evaluation a step).

![samples](grid.png)

- **Distilled** from `{TEACHER}` by guided distillation (arXiv 2210.03142): stage 1 learns the guided prediction of any weight, then
  students of 16, 8, 4 and 2 steps. Autoencoder and text encoder are the teacher's.
- **Data**: training split of this repository's emoji (4,891 images): Noto Emoji (art Apache-2.0) and Fluent 3D (MIT).
- **Licence** of the weights: Apache-2.0. **Files**: float16; the arithmetic is float32. **Parameters**: denoiser {count:,}.
- **Recipe**: `mezzotint train {NAME}`, seed 0. **Hardware**: one thread of a 2-core CPU (AVX2), shared with other work, resumed twice;
  minutes of wall time: {minutes}.

| Frechet distance, {f["samples"]} samples of training captions against {f["samples"]} other training images | value |
| --- | --- |
| this model, 2 steps (2 evaluations), guidance {w:g} | {ours:.2f} |
| by guidance | {", ".join(f"w {k} {v:.2f}" for k, v in own.items())} |
| its earlier students, guidance {w:g}, by steps | {", ".join(f"{n} steps {v:.2f}" for n, v in other.items())} |
| the teacher, DPM-Solver++ 2M, 20 steps (40 evaluations), guidance {f["teacher_guidance"]:g} | {goal:.2f} |
| the teacher, 4 and 2 steps | {teacher["4"]:.2f}, {teacher["2"]:.2f} |

That is {ours / goal:.2f} times the teacher's distance of 20 steps (the aim was 1.3 times). Caption retrieval among 200 concepts,
training captions not used to choose the guidance: top-1 {seen["1"]:.1%}, top-5 {seen["5"]:.1%}. Guidance {w:g} was chosen by top-5
retrieval on 200 other training captions ({", ".join(f"w {k} {v:.1%}" for k, v in f["top5_by_guidance"].items())}).
Features: `emoji-features` (hash `{f["extractor"]}`); the distance is not FID.

**Limits**: those of `{TEACHER}`. It samples in the two steps that it was distilled for; other numbers of steps are refused.
"""  # noqa: E501


if __name__ == "__main__":
    main()
