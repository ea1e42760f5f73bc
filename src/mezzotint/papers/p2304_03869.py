"""2304.03869, spatial-temporal attention: the demonstration of the sheet's section 7.

A UNet told captions as "red ring left of blue cross", a layout predictor, and a contrastive scorer of pictures and
captions, all trained on scenes of two icons. What a picture shows is read off by comparing patches with the icons,
which is not what the weights are optimised by. Every arm draws the same captions from the same noise; boxes come from
the predictor unless an arm says otherwise. Cut to 20 minutes of one core: 8 x 8 pixels, three seeds, 48 captions.
Settings fixed before a full run: guidance 3 and 20 steps of DDIM for all; a first run had another network.
"""

from __future__ import annotations

import time
import warnings
from collections import namedtuple
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from mezzotint.core import Noise, VDenoiser, fold, uniform_t
from mezzotint.edit import SpaceTimeAttention
from mezzotint.guide import CFG, Disc
from mezzotint.io.picture import grid, pixels, write_png
from mezzotint.metric import frechet_distance, layout_agreement
from mezzotint.papers.claim import Claim, entries_of, mean
from mezzotint.papers.ledger import LedgerEntry
from mezzotint.papers.setting import one_thread
from mezzotint.papers.spacetime_arms import (
    SIDE,
    Scene,
    Scorer,
    condition,
    drawn,
    found,
    layouts,
    loss_of,
    scenes,
    train_scenes,
    train_scorer,
)
from mezzotint.sample import DDIM

PAPER, WEIGHT = "2304.03869", 3.0
Budget = namedtuple("Budget", "trials seconds scorer captions steps layouts long")
QUICK = Budget(2, 4.0, 20, 8, 4, 256, 2)
FULL = Budget(3, 200.0, 400, 48, 20, 20000, 10)
Row = dict[str, float]
ARMS = {  # name: (method without its scorer, where the regions come from)
    "convex": ({"rounds": 1}, "predicted"),
    "boost": ({"mode": "boost", "rounds": 1}, "predicted"),
    "convex, optimised": ({}, "predicted"),
    "boost, optimised": ({"mode": "boost"}, "predicted"),
    "boost, constant": ({"mode": "boost", "over": "objects"}, "predicted"),
    "boost, long": ({"mode": "boost", "rounds": 0}, "predicted"),
    "boost, true": ({"mode": "boost", "rounds": 1}, "true"),
    "boost, random": ({"mode": "boost", "rounds": 1}, "random"),
}


def demonstrate(
    *, quick: bool, seed: int, device: str, out: Path | None, say: Callable[[str], None]
) -> list[LedgerEntry]:
    """Train, draw and look, for each trial."""
    if device not in ("cpu", "auto"):
        raise ValueError(f"this demonstration counts processor seconds and runs on the cpu, not on {device!r}")
    begun, budget, rows = time.monotonic(), QUICK if quick else FULL, []
    trials = tuple(range(seed, seed + budget.trials))
    with one_thread(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for trial in trials:
            rows.append(_trial(trial, budget, out if trial == seed else None))
            say(f"seed {trial}: " + ", ".join(f"{key} {value:.4g}" for key, value in rows[-1].items()))
    return entries_of(PAPER, _claims(rows, trials), quick=quick, device=device, setting=f"{budget}, one thread",
                      seconds=time.monotonic() - begun)  # fmt: skip


def _trial(trial: int, budget: Budget, out: Path | None) -> Row:
    d, scorer = train_scenes(budget.seconds, trial), train_scorer(budget.scorer, trial)
    some = scenes(trial, budget.captions, "test")
    places, row = layouts(trial, budget.layouts, some)
    shown = [drawn(some[:16])]
    noise = Noise([fold(trial, "arm", i) for i in range(len(some))])
    x_T = noise("x_T", 0, (3, SIDE, SIDE))
    times = uniform_t(d.schedule, budget.steps)
    c = condition([scene.caption for scene in some])
    with torch.no_grad():
        plain = DDIM()(CFG(WEIGHT)(d), x_T, grid=times, c=c)
    made = {"plain": (plain, 0.0)}
    row["plain loss"] = float(loss_of(scorer, some, places["true"])(plain).mean())
    for name, (settings, where) in ARMS.items():
        rounds = settings.get("rounds", 3) or budget.long
        method = SpaceTimeAttention(scorer, **{**settings, "rounds": rounds})  # type: ignore[arg-type]
        x, row_ = _arm(method, d, scorer, some, places[where], x_T, times)
        made[name] = (x, row_.pop("seconds"))
        row |= {f"{name} {key}": value for key, value in row_.items()}
    for name, (x, seconds) in made.items():
        seen = layout_agreement(found(x), [scene.wanted for scene in some])
        row |= {f"{name} recall": seen.recall, f"{name} attribute": seen.attribute, f"{name} pairs": float(seen.pairs)}
        row |= {f"{name} relation": seen.relation if seen.pairs else 0.0, f"{name} seconds": seconds / len(some)}
        row[f"{name} FD"] = frechet_distance(*(F.adaptive_avg_pool2d(p, 2).flatten(1) for p in (x, drawn(some))))
        shown.append(x[:16].clamp(-1, 1))
    if out is not None:
        write_png(out / "icons-by-arm.png", grid(pixels(torch.cat(shown))))
    return row


def _arm(
    method: SpaceTimeAttention, d: VDenoiser, scorer: Scorer, some: Sequence[Scene], places: Tensor, x_T: Tensor,
    times: Tensor,
) -> tuple[Tensor, Row]:  # fmt: skip
    regions = [[Disc(*place) for place in row.tolist()] for row in places.unbind(1)]
    told = [condition([scene.phrases[k] for scene in some]) for k in range(2)]
    begun = time.process_time()
    made = method.optimised(
        d, x_T, DDIM(), times, c=condition([s.caption for s in some]), locals=told, regions=regions, w=WEIGHT,
        loss=loss_of(scorer, some, places),
    )  # fmt: skip
    row = {"seconds": time.process_time() - begun, "loss": float(made.losses[-1].mean())}
    if method.rounds > 1:
        w = made.weights.mean((0, 1))  # over samples and objects: by step
        row |= {"gained": float((made.losses[0] - made.losses[-1]).mean()), "moved": float((w - w.mean()).abs().max()),
                "w first": float(w[0]), "w last": float(w[-1])}  # fmt: skip
    return made.latents, row


def _claims(rows: list[Row], trials: tuple[int, ...]) -> list[Claim]:
    make = partial(Claim, seeds=trials, scale="cpu-small")
    note = "Means: " + "; ".join(f"{key} {mean([row[key] for row in rows]):.4g}" for key in rows[0])

    def claim(text: str, measure: str, ours: str, base: str | float, more: float = 0.0) -> Claim:
        made = [row[ours] for row in rows]
        other = [more + (row[base] if isinstance(base, str) else base) for row in rows]
        return make(text, measure, other, made, mean(made) >= mean(other), note, direction="higher")

    share, sides, icon, side = "share of objects", "share of pairs found", "attribute", "relation"
    return [  # an object is there if its kind and its colour are
        claim("boosted regions find 10 points more objects", share, f"boost {icon}", f"plain {icon}", 0.1),
        claim("so do convex ones, the paper's formula", share, f"convex {icon}", f"plain {icon}", 0.1),
        claim("boosted regions put 10 points more pairs right", sides, f"boost {side}", f"plain {side}", 0.1),
        claim("optimising the boost helps", share, f"boost, optimised {icon}", f"boost {icon}"),
        claim("optimising the convex shares helps", share, f"convex, optimised {icon}", f"convex {icon}"),
        claim("ten rounds help more than three", share, f"boost, long {icon}", f"boost, optimised {icon}"),
        claim("a weight a step beats one for all", share, f"boost, optimised {icon}", f"boost, constant {icon}"),
        claim("predicted places beat random ones", sides, f"boost {side}", f"boost, random {side}"),
        claim("and find as much as the true ones", share, f"boost {icon}", f"boost, true {icon}"),
        claim("predicted places fit 95 % of the captions", "share of captions", "predictor relation", 0.95),
    ]
