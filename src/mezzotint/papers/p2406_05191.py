"""2406.05191, DiffusionPID: the demonstration of the sheet's section 7, on scenes whose words are planted.

A UNet is told any subset of seven words: two synonyms, two whose exclusive or draws a border, a hat that agrees with
red in 90 % of the scenes (50 % for a second model of the same seed). Information of every word and pair against nothing
told; the truth about the generating factors is enumerated and printed beside. Baseline of the maps: cross-attention of
the same model. Cut to 20 minutes of one core: 16 x 16 pixels, three seeds, 120 s of training a model, 24 scenes, 50
levels. A removed word's effect is the RMS change of the picture from the same noise. Settings fixed before a full run.
"""

from __future__ import annotations

import math
import time
from collections import namedtuple
from collections.abc import Callable
from functools import partial
from itertools import combinations
from pathlib import Path

import torch
from torch import Tensor

from mezzotint.core import Noise, VDenoiser, fold
from mezzotint.interpret import Atoms, InformationLevels, heat, information
from mezzotint.io.picture import grid, pixels, write_png
from mezzotint.papers.claim import Claim, entries_of, mean
from mezzotint.papers.ledger import LedgerEntry
from mezzotint.papers.pid_arms import WORDS, attention_maps, drawn_words, overlap, told, train_words, truth, words_of
from mezzotint.papers.setting import one_thread
from mezzotint.sample import DDIM

PAPER, BIASED, FAIR = "2406.05191", 0.9, 0.5
Budget = namedtuple("Budget", "trials seconds scenes levels steps")
QUICK, FULL = Budget(2, 5.0, 11, 4, 4), Budget(3, 120.0, 24, 50, 20)
SINGLES, PAIRS = (tuple(combinations(range(7), n)) for n in (1, 2))
SYNONYMS, BIAS, XOR, SHAPE = (0, 1), (2, 3), (5, 6), (0, 2)
UNRELATED = tuple(p for p in PAIRS if p not in (SYNONYMS, BIAS, XOR))
Row = dict[str, float]


def demonstrate(
    *, quick: bool, seed: int, device: str, out: Path | None, say: Callable[[str], None]
) -> list[LedgerEntry]:
    """Two models a trial, one biased and one fair, and what their words tell."""
    if device not in ("cpu", "auto"):
        raise ValueError(f"this demonstration counts processor seconds and runs on the cpu, not on {device!r}")
    begun, budget, rows = time.monotonic(), QUICK if quick else FULL, []
    trials = tuple(range(seed, seed + budget.trials))
    with one_thread():
        for trial in trials:
            row, fair = (_told(trial, b, budget, out if trial == seed else None) for b in (BIASED, FAIR))
            row["hat, red: r of the fair model"] = fair["hat, red: r"]
            rows.append(row)
            say(f"seed {trial}: " + ", ".join(f"{key} {value:.4g}" for key, value in row.items()))
    claims = _claims(rows, partial(Claim, seeds=trials, scale="cpu-small", unit="nats"))
    return entries_of(PAPER, claims, quick=quick, device=device, setting=f"{budget}, one thread",
                      seconds=time.monotonic() - begun)  # fmt: skip


def _told(trial: int, bias: float, budget: Budget, out: Path | None) -> Row:
    d = train_words(bias, budget.seconds, trial)
    words = words_of(trial, budget.scenes, bias, "test")
    x, masks = drawn_words(words, trial, "test")
    one, two = (_information(d, x, words, subsets, trial, budget) for subsets in (SINGLES, PAIRS))
    atoms = {p: Atoms.of(one[:, p[0]], one[:, p[1]], two[:, k]) for k, p in enumerate(PAIRS)}
    sums = {p: {n: getattr(a, n).flatten(1).sum(1) for n in ("r", "u1", "u2", "s")} for p, a in atoms.items()}
    row = Row({"red: i": float(one[:, 2].flatten(1).sum(1).mean())})
    for name, pair in (("disc, circle", SYNONYMS), ("hat, red", BIAS), ("p, q", XOR)):
        for atom, true in zip(("r", "u1", "u2", "s"), truth(*pair, bias), strict=True):
            row |= {f"{name}: {atom}": float(sums[pair][atom].mean()), f"{name}: true {atom}": true}
    agree, r = words[:, 2] == words[:, 3], sums[BIAS]["r"]
    row |= {"r where red has a hat": float(r[agree].mean()), "r where it has none": float(r[~agree].mean())}
    row["largest r of unrelated words"] = max(float(sums[p]["r"].mean()) for p in UNRELATED)
    row["largest s of other words"] = max(float(sums[p]["s"].mean()) for p in PAIRS if p != XOR)
    border = (atoms[XOR].s.clamp_min(0) * masks["border"]).sum() / atoms[XOR].s.clamp_min(0).sum().clamp_min(1e-12)
    row["share of synergy of p, q in the border"] = float(border)
    seen = attention_maps(d, x, words, torch.ones_like(words), trial)
    for name, word, u in (("disc", 0, atoms[SHAPE].u1), ("red", 2, atoms[SHAPE].u2)):
        row |= {f"IoU of u({name})": overlap(u, masks["object"]),
                f"IoU of attention to {name}": overlap(seen[:, word], masks["object"])}  # fmt: skip
    row |= _removed(d, words, sums, trial, budget)
    if out is not None and bias == BIASED:
        nats, look = (atoms[SHAPE].u1, atoms[SYNONYMS].r, atoms[XOR].s), seen[:, 0]
        tops = float(look.max()), *[max(float(m.max()) for m in nats)] * 3  # one scale for all nats
        shown = [p for k in range(5) for p in (x[k], *map(heat, (m[k] for m in (look, *nats)), [x[k]] * 4, tops))]
        write_png(out / "words.png", grid(pixels(torch.stack(shown))))
    return row


def _information(
    d: VDenoiser, x: Tensor, words: Tensor, subsets: tuple[tuple[int, ...], ...], trial: int, budget: Budget
) -> Tensor:
    """(scenes, subsets, h, w): what each subset of the words tells beyond nothing."""
    keep = torch.zeros(len(subsets) + 1, 7, dtype=torch.bool)
    for k, subset in enumerate(subsets):
        keep[k + 1, list(subset)] = True
    levels, pairs = InformationLevels(count=budget.levels), [(0, k + 1) for k in range(len(subsets))]
    return torch.cat([
        information(d, x[i : i + 1], told(words[i].expand(len(keep), 7), keep), pairs, Noise([fold(trial, "pid", i)]),
                    levels=levels, batch=128).maps for i in range(len(x))
    ])  # fmt: skip


@torch.no_grad()
def _removed(d: VDenoiser, words: Tensor, sums: dict, trial: int, budget: Budget) -> Row:
    """How much a picture changes without a word: the one that is chosen in each scene, and the mean over all."""
    start = Noise([fold(trial, "draw", i) for i in range(len(words))])("x_T", 0, (3, 16, 16))
    full = torch.ones_like(words)
    whole = DDIM()(d, start, steps=budget.steps, c=told(words, full))
    change, share, excess = (torch.full((7, len(words)), -math.inf, dtype=torch.float64) for _ in range(3))
    for k in range(7):
        keep = full.clone()
        keep[:, k] = False
        gone = DDIM()(d, start, steps=budget.steps, c=told(words, keep))
        change[k] = (gone - whole).square().flatten(1).mean(1).sqrt()
    for (a, b), atom in sums.items():
        for k, u in ((a, atom["u1"]), (b, atom["u2"])):
            share[k] = share[k].maximum(atom["r"] / (atom["r"] + u).clamp_min(1e-12))
            excess[k] = excess[k].maximum(atom["r"] - u)
    row = Row({f"change without {word}": float(v.mean()) for word, v in zip(WORDS, change, strict=True)})
    row["change without a random word"] = float(change.mean())
    for name, score in (("r / (r + u)", share), ("r - u", excess)):
        row[f"change without the word of largest {name}"] = float(change.gather(0, score.argmax(0)[None]).mean())
    return row


def _claims(rows: list[Row], small: Callable[..., Claim]) -> list[Claim]:
    note = "Means: " + "; ".join(f"{key} {mean([row[key] for row in rows]):.4g}" for key in rows[0])

    def claim(text: str, measure: str, ours: str, base: str, lower: bool = False, **more: str) -> Claim:
        made, other = ([row[key] for row in rows] for key in (ours, base))
        holds = mean(made) < mean(other) if lower else mean(made) > mean(other)
        told = note if ours == "disc, circle: r" else "All means: with the first claim"
        return small(text, measure, other, made, holds, told, direction="lower" if lower else "higher", **more)

    off = [abs(row["red: i"] / math.log(2) - 1) for row in rows]
    without, change = "change without the word of largest ", "RMS change of the picture"
    return [
        claim("Synonyms are the most redundant words", "redundancy", "disc, circle: r", "largest r of unrelated words"),
        claim("Words of an exclusive or have the most synergy", "synergy", "p, q: s", "largest s of other words"),
        claim("A planted bias raises redundancy", "redundancy", "hat, red: r", "hat, red: r of the fair model"),
        claim("Hat is redundant with red, more than with blue", "redundancy", "r where red has a hat",
              "r where it has none"),
        *(claim(f"Uniqueness of {w} lies on the object, more than attention", "IoU of the largest pixels",
                f"IoU of u({w})", f"IoU of attention to {w}", unit="1") for w in ("disc", "red")),
        *(claim(f"The word of largest {s} can go: the picture changes less than without a random word", change,
                without + s, "change without a random word", True, unit="1") for s in ("r / (r + u)", "r - u")),
        small("Information of a colour is its entropy within 30 %", "relative error", [0.3] * len(off), off,
              mean(off) <= 0.3, "ln 2 expected", unit="1"),
    ]  # fmt: skip
