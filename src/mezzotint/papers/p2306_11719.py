"""2306.11719, diffusion with forward models: whole scenes from lines of pixels (the sheet's section 7, first part).

Flatland: 2 to 4 discs, seen only as lines of 32 pixels. Ours, a field of the context alone, and diffusion of views
train for the same processor seconds. Cut to 25 minutes of one core: 160 s of training each, three seeds, 100 scenes
for its 300. The energy score of each scene stands for the energy distance, since a scene has one true view. How views
of one signal agree is measured on two that are 3 degrees apart: a field fitted again to three lines explains any. The
second demonstration (quadrants of digits) and everything in space are left out. Settings were fixed before any full
run.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from mezzotint.core import Condition, Denoiser, fold
from mezzotint.data.flatland import FlatlandViews, flatland_camera
from mezzotint.io.picture import pixels, write_png
from mezzotint.papers.claim import Claim, entries_of, mean
from mezzotint.papers.flatland_arms import FlatlandArms, drawn, energy_score, hidden, spread_of
from mezzotint.papers.ledger import LedgerEntry
from mezzotint.papers.setting import one_thread

PAPER, APART = "2306.11719", 3  # degrees
Row = dict[str, float]


@dataclass(frozen=True)
class Budget:
    """Seeds; processor seconds of each model; scenes looked at; samples of each, in so many steps."""

    seeds: int
    seconds: float
    scenes: int
    samples: int
    steps: int


QUICK, FULL = Budget(2, 4.0, 6, 3, 5), Budget(3, 160.0, 100, 10, 20)


def demonstrate(
    *, quick: bool, seed: int, device: str, out: Path | None, say: Callable[[str], None]
) -> list[LedgerEntry]:
    """Train the three models for each seed, draw from them, and state what that showed."""
    if device not in ("cpu", "auto"):
        raise ValueError(f"this demonstration counts processor seconds and runs on the cpu, not on {device!r}")
    begun, budget, rows = time.monotonic(), QUICK if quick else FULL, []
    beds = tuple(range(seed, seed + budget.seeds))
    with one_thread():
        for trial in beds:
            rows.append(_measured(FlatlandArms(trial, budget.seconds), budget, out if trial == seed else None))
            say(f"seed {trial}: " + ", ".join(f"{key} {value:.4g}" for key, value in rows[-1].items()))
    setting = "; ".join(f"{key} {mean([row[key] for row in rows]):.4g}" for key in rows[0])
    setting = f"Means: {setting}. {budget}, one thread, in the plane and far below the paper's scale"
    claims = _claims(rows, partial(Claim, seeds=beds, scale="cpu-small"))
    return entries_of(PAPER, claims, quick=quick, device=device, seconds=time.monotonic() - begun, setting=setting)


def _measured(arms: FlatlandArms, budget: Budget, out: Path | None) -> Row:
    ours, fixed, views = arms.forward_model(), arms.deterministic(), arms.views()
    held = FlatlandViews(budget.scenes, fold(arms.seed, "held"))
    (scenes, _), batch = held.scenes(0), held(0)
    c, y = batch.c, batch.x
    assert c is not None
    camera = flatland_camera()

    def many(d: Denoiser, count: int, phi: Tensor | None = None) -> tuple[list, Tensor]:
        """Draws of all scenes: fields, and views (k, b, 3, w); each place has noise of its own."""
        told = Condition({**c, "phi": c["phi"] if phi is None else phi})
        seeds = [[fold(k, i, int(phi is None)) for i in range(budget.scenes)] for k in range(count)]
        fields, seen = zip(*(drawn(d, told, s, budget.steps) for s in seeds), strict=True)
        return list(fields), torch.stack(seen)

    (fields, seen), (_, point), (_, lines) = many(ours, budget.samples), many(fixed, 1), many(views, budget.samples)
    beside = c["phi"] + math.radians(APART)
    with torch.no_grad():
        pairs = {
            "ours": (seen[0], ours.model(fields[0], beside)),
            "views": (lines[0], many(views, 1, beside)[1][0]),
            "true": (y, camera(scenes, beside)),
        }
    side = torch.linspace(-1, 1, 24)
    points = torch.cartesian_prod(side, side)
    points = points[points.norm(dim=1) < 1].expand(budget.scenes, -1, 2)
    spread, dark = spread_of(fields, points), hidden(scenes, points, c["context_phi"], camera)
    if out is not None:
        shown = [torch.stack([line[i] for line in (c["context"], y, *seen[:4], point[0])]) for i in range(3)]
        picture = torch.cat(shown)[:, :, None].repeat_interleave(4, 2).repeat_interleave(4, 3)
        write_png(out / "flatland.png", pixels(picture).flatten(0, 1))
    return {
        "energy ours": float(energy_score(seen, y).mean()),
        "energy deterministic": float(energy_score(point, y).mean()),
        "energy views": float(energy_score(lines, y).mean()),
        "PSNR one": _psnr(seen[0], y),
        "PSNR mean": _psnr(seen.mean(0), y),
        "PSNR deterministic": _psnr(point[0], y),
        **{f"change {name}": float((a - b).square().mean()) for name, (a, b) in pairs.items()},
        "variance hidden": float(spread[dark > 0.9].mean()),
        "variance seen": float(spread[dark < 0.5].mean()),
    }


def _psnr(x: Tensor, y: Tensor) -> float:
    return float((10 * math.log10(4) - 10 * (x - y).square().flatten(1).mean(1).log10()).mean())


def _claims(rows: list[Row], claim: Callable[..., Claim]) -> list[Claim]:
    def of(key: str) -> list[float]:
        return [row[key] for row in rows]

    def ratio(text: str, measure: str, ours: str, other: str, most: float) -> Claim:
        base, found = [most * value for value in of(other)], of(ours)
        note = f"{mean(found) / mean(of(other)):.3g} of {other}, at most {most:.3g} needed"
        measure = f"{measure}; the baseline is {most:.3g} times {other}"
        return claim(text, measure, base, found, mean(found) <= mean(base), note)

    one, many, point = of("PSNR one"), of("PSNR mean"), of("PSNR deterministic")
    return [
        ratio("drawn views are nearer to the law of true views than one deterministic view", "energy score of a view",
              "energy ours", "energy deterministic", 0.7),
        ratio("a field loses nothing against diffusion of views at one view", "energy score of a view", "energy ours",
              "energy views", 1.0),
        ratio(f"views of one drawn signal agree: {APART} degrees change them less than views drawn apart",
              "mean squared change", "change ours", "change views", 1 / 3),
        claim("samples differ where the context does not see (baseline: where it does, times 3)",
              "variance of opacity over samples", [3 * v for v in of("variance seen")], of("variance hidden"),
              mean(of("variance hidden")) > 3 * mean(of("variance seen")), "more than 3 times needed",
              direction="higher"),
        claim("the mean of ten samples is within 0.5 dB of the deterministic view (baseline less 0.5)", "PSNR",
              [value - 0.5 for value in point], many, mean(many) >= mean(point) - 0.5,
              f"one sample has {mean(one):.3g} dB, below the mean's as it should be", direction="higher", unit="dB"),
    ]  # fmt: skip
