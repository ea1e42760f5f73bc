"""2412.14283, PixelMan: the demonstration of the sheet's section 7.

Sprites on grounds of 32 x 32 pixels whose correct edit is rendered; a small UNet of them; the sprite moved by each arm
in the same 64 edits with the same seeds. Object PSNR is against the pasted sprite, background PSNR against the source,
the hole's error against the rendered ground, all where that region is; the ghost rate is how often a classifier sees a
sprite in the window around the hole. Cut to 15 minutes of one core: one network of 8 minutes, so that intervals are
over edits and not over networks. PSNR is held to 60 dB, finer than 8 bits tell. To leave the sprite where it was, as
the paste does, keeps all else perfectly: where PixelMan leaves half of the ghosts or more, PSNR is not compared, and
both sides are 0. "Clearly below the paste" is taken as half of its error. Settings fixed before a full run; a
first one had a wider net on VP, which left more ghosts, and nothing but the net was changed after it.
"""

from __future__ import annotations

import time
from collections import namedtuple
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch

from mezzotint.core import fold
from mezzotint.io.picture import grid, pixels, write_png
from mezzotint.metric import edit_regions, ghosts
from mezzotint.papers.claim import Claim, entries_of, mean
from mezzotint.papers.ledger import LedgerEntry
from mezzotint.papers.pixelman_arms import ARMS, drawn, edited, plan_of, sprites, train_scenes, train_seer
from mezzotint.papers.setting import one_thread

PAPER, MOST, HALF, SHOWN = "2412.14283", 60.0, 0.5, 10
Budget = namedtuple("Budget", "seconds seer edits steps")
QUICK = Budget(8.0, 40, 4, 16)
FULL = Budget(480.0, 400, 64, 16)
Rows = dict[str, list[float]]  # "measure arm": a value an edit


def demonstrate(
    *, quick: bool, seed: int, device: str, out: Path | None, say: Callable[[str], None]
) -> list[LedgerEntry]:
    """Train a network and a classifier, edit by every arm, and measure."""
    if device not in ("cpu", "auto"):
        raise ValueError(f"this demonstration counts processor seconds and runs on the cpu, not on {device!r}")
    begun, budget = time.monotonic(), QUICK if quick else FULL
    with one_thread():
        rows = _measured(seed, budget, out, say)
    seeds = tuple(range(seed, seed + budget.edits))
    return entries_of(PAPER, _claims(rows, seeds), quick=quick, device=device, setting=f"{budget}, one thread",
                      seconds=time.monotonic() - begun)  # fmt: skip


def _measured(seed: int, budget: Budget, out: Path | None, say: Callable[[str], None]) -> Rows:
    model, seer = train_scenes(budget.seconds, seed), train_seer(budget.seer, seed)
    say(f"seed {seed}: the network and the classifier are trained")
    f = sprites(seed, budget.edits, "test")
    (x, at), (truth, there) = drawn(f, f.place), drawn(f, f.goal)
    plans = [plan_of(x[i], at[i], f.goal[i] - f.place[i]) for i in range(len(x))]
    assert all(torch.equal(plan.gen, mask) for plan, mask in zip(plans, there, strict=True))
    rows, made, asked = Rows(), {}, [0]
    model.denoiser.register_forward_hook(lambda net, args, result: asked.__setitem__(0, asked[0] + len(args[0])))
    for arm in ARMS:
        each = []
        for i, plan in enumerate(plans):
            start, asked[0] = time.process_time(), 0
            y = edited(arm, model, plan, fold(seed, "edit", i), budget.steps)
            told = edit_regions(y, plan.source, plan.image, plan.masks(), truth[i])
            seconds = time.process_time() - start
            each.append((*(min(float(v), MOST) for v in told), float(asked[0]), seconds))
            made.setdefault(arm, []).append(y)
        for name, values in zip(
            ("object", "background", "hole", "NFE", "seconds"), zip(*each, strict=True), strict=True
        ):
            rows[f"{name} {arm}"] = list(values)
    hole, sprite = torch.stack([plan.ipt for plan in plans]), torch.ones(len(x), dtype=torch.long)
    pictures = {arm: torch.cat(images) for arm, images in made.items()} | {"truth": truth, "source": x}
    for arm, images in pictures.items():
        fires = ghosts(lambda w: seer(w)[0], images, hole, sprite)
        rows[f"ghost {arm}"] = fires.double().tolist()
        say(f"{arm}: {_told(rows, arm)}")
    if out is not None:
        shown = [pictures[name][:SHOWN] for name in ("source", "truth", *ARMS)]
        write_png(out / "arms.png", grid(pixels(torch.cat(shown))))
    return rows


def _told(rows: Rows, arm: str) -> str:
    units = {"object": "dB", "background": "dB", "hole": "", "ghost": "", "NFE": "", "seconds": ""}
    found = {name: rows[f"{name} {arm}"] for name in units if f"{name} {arm}" in rows}
    return ", ".join(f"{name} {mean(values):.3g} {units[name]}".rstrip() for name, values in found.items())


def _claims(rows: Rows, seeds: tuple[int, ...]) -> list[Claim]:
    make = partial(Claim, seeds=seeds, scale="cpu-small")
    note = "One network, so that the interval is over edits alone. Means: " + "; ".join(
        f"{arm}: {_told(rows, arm)}" for arm in (*ARMS, "truth", "source")
    )
    done = mean(rows["ghost full"]) < HALF

    def claim(text: str, measure: str, name: str, base: str, more: int = 0, times: float = 1.0) -> Claim:
        ours, other = rows[f"{name} full"], [times * value + more for value in rows[f"{name} {base}"]]
        lower = name in ("hole", "ghost")
        if not lower and not done:
            ours, other = [0.0] * len(ours), [0.0] * len(ours)
        holds = mean(ours) < mean(other) if lower else mean(ours) > mean(other)
        unit, way = ("1", "lower") if lower else ("dB", "higher")
        return make(text, measure, other, ours, holds, note, direction=way, unit=unit)

    error, ghost, equal = "root mean squared error in the hole", "share of edits with a ghost", "inversion, 64"
    here, there = "object PSNR", "background PSNR"
    return [
        claim("background PSNR 2 dB above DDIM inversion's at as many steps", there, "background", "inversion", 2),
        claim("object PSNR 3 dB above DDIM inversion's at as many steps", here, "object", "inversion", 3),
        claim("background PSNR above DDIM inversion's at equal evaluations", there, "background", equal),
        claim("object PSNR above DDIM inversion's at equal evaluations", here, "object", equal),
        claim("hole nearer to the truth than DDIM inversion's at equal evaluations", error, "hole", equal),
        claim("hole's error at most half of the paste's, which is the ghost itself", error, "hole", "paste", times=0.5),
        claim("leak-proof attention lowers the ghost rate", ghost, "ghost", "no leak-proof"),
        claim("the energy lowers the hole's error by 5 %", error, "hole", "no energy", times=0.95),
    ]  # fmt: skip
