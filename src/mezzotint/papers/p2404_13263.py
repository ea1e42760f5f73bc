"""2404.13263, FilterPrompt: the demonstration of the sheet's section 7, in the style of the paper (no code released).

One of 12 icons in a flat colour is the structure picture, a patch of two colours the appearance, the target the icon
filled with its texture. In half of the training pictures the structure has the target's mean colour: the planted leak.
Tested on prompts that conflict, unfiltered and by each arm; beside it a net trained without that correlation, and one
that saw filtered structures in 30 % of its training. Leaks are beyond chance, over the other pairs' prompts
(`metric.leaks`); below 2 % there is none to remove. Then what a linear probe reads off the conditions. Cut to 15 min
of one core: 16 x 16 pixels that the net sees in 2 x 2, three seeds, 75 s a net in place of 12 to 15 min, 64 pairs in
place of 256, 12 steps, guidance 2, blur of half the texture's period. Settings fixed before a full run.
"""

from __future__ import annotations

import time
from collections import namedtuple
from collections.abc import Callable
from pathlib import Path

import torch

from mezzotint.core import fold
from mezzotint.edit import FilterPrompt
from mezzotint.edit.filters import FilterChain, HueRotate, parse
from mezzotint.io.picture import grid, pixels, write_png
from mezzotint.metric import frechet_distance
from mezzotint.metric.probe import linear_probe
from mezzotint.papers import filter_arms as world
from mezzotint.papers.claim import Claim, entries_of, mean
from mezzotint.papers.ledger import LedgerEntry
from mezzotint.papers.setting import one_thread

PAPER, GUIDANCE, CHANCE, FALL, HUES, LEAKS, COLOURED = "2404.13263", 2.0, 1 / 3, 0.03, 4, 0.02, 20.0
NETS = {"planted": (0.5, 0.0, tuple(world.ARMS)), "clean": (0.0, 0.0, ("none",)),
        "augmented": (0.5, 0.3, ("none", "grey", "chain"))}  # fmt: skip
Budget = namedtuple("Budget", "trials seconds pairs steps probed")
QUICK = Budget(2, 3.0, 12, 3, 30)
FULL = Budget(3, 75.0, 64, 12, 200)
Row = dict[str, float]


def demonstrate(
    *, quick: bool, seed: int, device: str, out: Path | None, say: Callable[[str], None]
) -> list[LedgerEntry]:
    """Train three nets a trial, run the arms and the probes."""
    if device not in ("cpu", "auto"):
        raise ValueError(f"this demonstration counts processor seconds and runs on the cpu, not on {device!r}")
    begun, budget, rows = time.monotonic(), QUICK if quick else FULL, []
    trials = tuple(range(seed, seed + budget.trials))
    with one_thread():
        for trial in trials:
            nets = {n: world.train_prompted(trial, budget.seconds, p, augment) for n, (p, augment, _) in NETS.items()}
            rows.append(_arms(nets, trial, budget, out if trial == seed else None) | _probes(nets, trial, budget))
            say(f"seed {trial}: " + ", ".join(f"{key} {value:.3g}" for key, value in rows[-1].items()))
    return entries_of(PAPER, _claims(rows, trials), quick=quick, device=device, setting=f"{budget}, one thread",
                      seconds=time.monotonic() - begun)  # fmt: skip


def _arms(nets: dict[str, FilterPrompt], trial: int, budget: Budget, out: Path | None) -> Row:
    """Every net and arm on the same conflicting prompts and seeds."""
    f, other = (world.scenes(trial, budget.pairs, split, conflict=True) for split in ("test", "reference"))
    s, a, seeds = world.structure_of(f), world.appearance_of(f), [fold(trial, "draw", i) for i in range(budget.pairs)]
    real = world.features(world.filled(other))
    shown = [s[:8], a[:8], world.filled(f)[:8]]
    row = {"floor Frechet": frechet_distance(world.features(world.filled(f)), real)}
    for name, (_, _, arms) in NETS.items():
        for arm in arms:
            on_s, on_a = world.ARMS[arm]
            y = nets[name](s, a, filters_s=on_s, filters_a=on_a, steps=budget.steps, guidance=GUIDANCE,
                           sampler="dpmpp-2m", seeds=seeds).images  # fmt: skip
            row |= {f"{name}/{arm} {what}": value for what, value in world.measured(y, f).items()}
            row[f"{name}/{arm} Frechet"] = frechet_distance(world.features(y), real)
            shown += [y[:8]]
    if out is not None:
        write_png(out / "arms.png", grid(pixels(torch.cat(shown))))
    return row


def _probes(nets: dict[str, FilterPrompt], trial: int, budget: Budget) -> Row:
    """What a linear map reads off the conditions: hue and icon of structures, texture of appearance tokens."""
    row, found = Row(), {}
    for split in ("fit", "held"):
        f = world.scenes(trial, budget.probed, f"probe {split}")
        base = torch.tensor([0.35, -0.25, -0.25]).view(1, 3, 1, 1)  # turned, it stays inside the cube of colours
        hues = [HueRotate(360 / HUES * k)(base) for k in range(HUES)]
        found[split] = f, torch.cat([1 + f.cover * (hue - 1) for hue in hues])
    (f, s), (g, t) = found["fit"], found["held"]
    hue_f, hue_g = (torch.arange(HUES).repeat_interleave(len(x.icon)) for x in (f, g))
    for name, chain in {"none": FilterChain(), "grey": parse("desaturate"), "chain": parse(world.CHAIN)}.items():
        x, y = (chain(p).flatten(1) for p in (s, t))
        row[f"{name} hue probed"] = linear_probe(x, hue_f, y, hue_g)
        row[f"{name} icon probed"] = linear_probe(x, f.icon.repeat(HUES), y, g.icon.repeat(HUES))
    encoder = nets["planted"].appearance
    assert encoder is not None
    for name, chain in {"none": FilterChain(), "blur": parse("blur:3"), "rank": parse("rank:3,0.5")}.items():
        with torch.no_grad():
            x, y = (encoder.encoder(chain(world.appearance_of(p))).flatten(1) for p in (f, g))
        row[f"{name} texture probed"] = linear_probe(x, f.texture, y, g.texture)
    return row


def _claims(rows: list[Row], trials: tuple[int, ...]) -> list[Claim]:
    def of(key: str, times: float = 1.0, plus: float = 0.0) -> list[float]:
        return [times * row[key] + plus for row in rows]

    def claim(
        text: str, measure: str, ours: list[float], base: list[float], about: str | tuple[str, ...],
        lower: bool = True, when: bool = True,
    ) -> Claim:  # fmt: skip
        """Where there was nothing to be changed (`when`), nothing is compared: both sides are 0."""
        ours, base = (ours, base) if when else ([0.0] * len(rows), [0.0] * len(rows))
        holds = mean(ours) <= mean(base) if lower else mean(ours) >= mean(base)
        note = "; ".join(f"{k} {mean([r[k] for r in rows]):.3g}" for k in rows[0] if k.endswith(about))
        way = "lower" if lower else "higher"
        return Claim(text, measure, base, ours, holds, f"Means: {note}", trials, "cpu-small", way)

    def halved(net: str, arm: str, what: str, text: str) -> Claim:
        ours, base = of(f"{net}/{arm} {what}"), of(f"{net}/none {what}", 0.5)
        about = (what, "shape_leak", "colour_error")
        return claim(text, f"{what.replace('_', ' ')} beyond chance", ours, base, about, when=mean(base) >= LEAKS / 2)

    def kept(net: str, arm: str, text: str) -> Claim:
        ours, base = of(f"{net}/{arm} IoU"), of(f"{net}/none IoU", 1.0, -FALL)
        return claim(text, "IoU with the icon", ours, base, ("IoU", "Frechet"), False, mean(base) >= 0.5)

    same, worn = "... while the icon's IoU falls by less than 3 points", [
        abs(row["planted/blur palette error"] - row["planted/none palette error"]) for row in rows]  # fmt: skip
    read, hue = mean(of("planted/none texture")) >= CHANCE + 0.2, mean(of("none hue probed")) >= 1 / HUES + 0.1
    return [
        claim("The planted leak is there: unfiltered, more colour than by the net trained without it", "chroma_leak",
              of("planted/none chroma_leak"), of("clean/none chroma_leak"), "chroma_leak", False),
        halved("planted", "grey", "chroma_leak", "Desaturating the structure at least halves its leak of chroma"),
        halved("planted", "grey", "colour_leak", "... and of colour with its lightness"),
        kept("planted", "grey", same),
        halved("planted", "chain", "chroma_leak", "Desaturated, inverted, stretched: the leak of chroma is halved too"),
        kept("planted", "chain", same),
        claim("Blurring the appearance takes its texture to within 10 points of chance", "share of textures read",
              of("planted/blur texture"), [CHANCE + 0.1] * len(rows), "texture", when=read),
        claim("... while the palette's error changes by less than 10 %", "change of the error, Lab", worn,
              of("planted/none palette error", 0.1), "palette error",
              when=mean(of("planted/none palette error")) < COLOURED),
        halved("augmented", "grey", "chroma_leak", "Trained with filtered structures too: the leak is at least halved"),
        kept("augmented", "chain", "... and after the whole chain the IoU falls by less than 3 points"),
        claim("A linear probe of the desaturated structure names the hue no better than chance", "accuracy",
              of("grey hue probed"), [1 / HUES + 0.01] * len(rows), "hue probed", when=hue),
        claim("... and the icon within 3 points of before", "accuracy", of("grey icon probed"),
              of("none icon probed", 1.0, -FALL), "icon probed", False, mean(of("none icon probed")) >= 0.2),
    ]  # fmt: skip
