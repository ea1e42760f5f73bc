"""2305.04391, RED-diff: the demonstration of the sheet's section 7.

A: mixtures over 64 numbers, of which 4 noisy projections are measured: the posterior is known. B: held-out emoji, the
shipped pixel-space model under its null condition, equal network calls, paired by image; measurements without noise,
but for the blur's (0.05).
RED-diff has the sheet's settings (lam 0.25; lr 0.1, 0.25 for inpainting, 0.5 for the clip); DPS has the zeta that is
best on other images (problems in A), which favours it. Our choices: sizes, masks, Gaussian blur.
"""

from __future__ import annotations

import math
import time
from collections import namedtuple
from collections.abc import Callable
from functools import partial
from itertools import product
from pathlib import Path

from mezzotint.core import fold
from mezzotint.model import load
from mezzotint.papers.claim import Claim, entries_of, mean
from mezzotint.papers.interval import paired_interval
from mezzotint.papers.ledger import LedgerEntry
from mezzotint.papers.mixture_posterior import MixtureProblem
from mezzotint.papers.restoration_arms import Bench, Scores
from mezzotint.papers.setting import one_thread
from mezzotint.restore import DDRM, DPS, RED_WEIGHTS, GuessPiGDM, PiGDM, REDDiff, Restorer

PAPER = "2305.04391"
TASKS = {"inpaint": REDDiff(lr=0.25), "sr4": REDDiff(), "blur": REDDiff(), "hdr": REDDiff(lr=0.5)}
ZETAS = (0.1, 0.3, 1.0, 3.0, 10.0)
# A: problems, seeds a problem, steps. B: steps; images to compare on, to choose zeta on, to sweep weights on.
Budget = namedtuple("Budget", "problems draws toy_steps steps images chosen swept")
QUICK, FULL = Budget(8, 16, 50, 16, 4, 2, 2), Budget(40, 64, 100, 100, 40, 8, 24)
Table = dict[tuple[str, str], Scores]  # (task, method) -> one number an image
Toy = dict[str, dict[str, list[float]]]  # method -> measure -> one number a bed


def demonstrate(
    *, quick: bool, seed: int, device: str, out: Path | None, say: Callable[[str], None]
) -> list[LedgerEntry]:
    """Run A and B and state what they showed."""
    if device not in ("cpu", "auto"):
        raise ValueError(f"this demonstration counts processor seconds and runs on the cpu, not on {device!r}")
    begun, budget, beds = time.monotonic(), QUICK if quick else FULL, tuple(range(seed, seed + (2 if quick else 3)))
    model = load("emoji-pixel").eval()
    bench = Bench(model, seed, budget.steps, {"test": budget.images, "val": budget.chosen})
    few = Bench(model, seed, budget.steps, {"test": budget.swept, "val": 0})
    with one_thread():
        toy = _toy(beds, budget, say)
        table, zetas = _images(bench, say)
        sweep = _sweep(few, say)
    a, b = partial(Claim, seeds=beds), partial(Claim, seeds=bench.seeds("test"), scale="cpu-small")
    swept = partial(Claim, seeds=few.seeds("test"), scale="cpu-small", direction="higher", unit="dB")
    claims = [*_known(a, toy), *_restored(b, table), *_ablated(swept, sweep)]
    return entries_of(PAPER, claims, quick=quick, device=device, seconds=time.monotonic() - begun,
                      setting=f"{budget}, zeta of DPS {zetas}")  # fmt: skip


def _toy(beds: tuple[int, ...], budget: Budget, say: Callable[[str], None]) -> Toy:
    told: Toy = {}
    other = MixtureProblem.draw(fold(beds[0], "zeta"), budget.problems)
    size = (budget.draws, budget.toy_steps)
    zeta = min(ZETAS, key=lambda z: other.judge(DPS(z), *size, beds[0])["error"])
    methods = {"RED-diff": REDDiff(), "DPS": DPS(zeta), "PiGDM": PiGDM(), "DDRM": DDRM()}
    for seed, (name, method) in product(beds, methods.items()):
        for measure, value in MixtureProblem.draw(seed, budget.problems).judge(method, *size, seed).items():
            told.setdefault(name, {}).setdefault(measure, []).append(value)
    for name, measures in told.items():
        say(f"A {name}: " + ", ".join(f"{measure} {mean(values):.3g}" for measure, values in measures.items()))
    return told


def _known(a: partial[Claim], toy: Toy) -> list[Claim]:
    rows = "; ".join(f"{n}: " + " ".join(f"{m} {mean(v):.3g}" for m, v in told.items()) for n, told in toy.items())
    ours, error, one = toy["RED-diff"], "distance to the posterior's mean", [1.0] * len(toy["RED-diff"]["width"])
    best = min(("DPS", "PiGDM", "DDRM"), key=lambda n: mean(toy[n]["error"]))
    made = [a("A: the spread of RED-diff's restarts is less than a fifth of the posterior's", "width", one,
              ours["width"], mean(ours["width"]) < 0.2, rows, unit="of the posterior's")]  # fmt: skip
    made.append(a(f"A: one result of RED-diff is nearer to the posterior's mean than one of the best sampler ({best})",
                  error, toy[best]["error"], ours["error"], mean(ours["error"]) < mean(toy[best]["error"]), rows,
                  unit="of its width"))  # fmt: skip
    for name in ("PiGDM", "DDRM"):
        off, own = ([abs(math.log2(w)) for w in toy[n]["width"]] for n in (name, "RED-diff"))
        made.append(a(f"A: {name} has the posterior's spread within 20 %, which RED-diff has not",
                      "|log2 of the width|", own, off, mean(off) < math.log2(1.2) < mean(own), rows,
                      unit="octaves"))  # fmt: skip
    return made


def _images(bench: Bench, say: Callable[[str], None]) -> tuple[Table, dict[str, float]]:
    table, zetas = Table(), {}
    for task, red in TASKS.items():
        zetas[task] = max(ZETAS, key=lambda z: mean(bench.scores(DPS(z), task, "val")["psnr"]))
        methods: dict[str, Restorer] = {"RED-diff": red, "DPS": DPS(zetas[task])}
        methods |= {"PiGDM": PiGDM(), "DDRM": DDRM()} if task != "hdr" else {"PiGDM": GuessPiGDM()}
        for name, method in methods.items():
            table[task, name] = bench.scores(method, task)
            say(f"B {task}, {_row(table, task, name)}")
    return table, zetas


def _row(table: Table, task: str, name: str) -> str:
    return f"{name}: " + " ".join(f"{measure} {mean(v):.4g}" for measure, v in table[task, name].items())


def _restored(b: partial[Claim], table: Table) -> list[Claim]:
    made = []
    for task, other, least in (("inpaint", "DPS", 1.0), ("hdr", "DPS", 1.0), ("inpaint", "PiGDM", 0.0),
                               ("inpaint", "DDRM", 0.0), ("sr4", "DPS", 0.0), ("blur", "DPS", 0.0)):  # fmt: skip
        ours, theirs = table[task, "RED-diff"], table[task, other]
        rows = "; ".join(_row(table, task, n) for t, n in table if t == task)
        much = f"{least:g} dB or more" if least else "some"
        made.append(b(f"B {task}: RED-diff has a higher PSNR than {other}, by {much}", "PSNR", theirs["psnr"],
                      ours["psnr"], mean(ours["psnr"]) > mean(theirs["psnr"]) + least, rows, direction="higher",
                      unit="dB"))  # fmt: skip
    for other in ("DPS", "PiGDM"):
        of = [task for task, name in table if name == other]
        ours, theirs = ([s for task in of for s in table[task, n]["seconds"]] for n in ("RED-diff", other))
        made.append(b(f"B: a step of {other}, which has a backward pass, takes 1.7 times as long or more",
                      "processor seconds a step and image, of each task and batch", theirs, ours,
                      mean(theirs) >= 1.7 * mean(ours), f"{mean(theirs) / mean(ours):.3g} times", unit="s",
                      seeds=tuple(range(len(ours)))))  # fmt: skip
    theirs, ours = (table["sr4", n]["features"] for n in ("DPS", "RED-diff"))
    made.append(b("B sr4: RED-diff is smoother: its distance in features is larger than that of DPS",
                  "perceptual distance on emoji-features", theirs, ours, mean(ours) > mean(theirs),
                  "; ".join(_row(table, "sr4", n) for n in ("DPS", "RED-diff")), direction="higher"))  # fmt: skip
    return made


def _sweep(bench: Bench, say: Callable[[str], None]) -> dict[str, list[float]]:
    lr = TASKS["inpaint"].lr
    methods = {f"weight {name}": REDDiff(lr=lr, weight=name) for name in RED_WEIGHTS}
    methods |= {"ascending": REDDiff(lr=lr, order="ascending"), "random": REDDiff(lr=lr, order="random")}
    told = {name: bench.scores(method, "inpaint")["psnr"] for name, method in methods.items()}
    say("B inpaint: " + ", ".join(f"{name} {mean(values):.4g} dB" for name, values in told.items()))
    return told


def _ablated(swept: partial[Claim], told: dict[str, list[float]]) -> list[Claim]:
    """Against the best of the others: tied is an interval that reaches 0."""
    ours, made, orders = told["weight inv_snr"], [], ["ascending", "random"]
    rows = "; ".join(f"{name} {mean(values):.4g}" for name, values in told.items())
    weights = [name for name in told if name not in (*orders, "weight inv_snr")]
    for what, names in (("the weight of inverse SNR", weights), ("descending order", orders)):
        best = max(names, key=lambda n: mean(told[n]))
        holds = paired_interval(ours, told[best])[1] >= 0
        made.append(swept(f"B inpaint: {what} is best or tied; next is {best}", "PSNR", told[best], ours, holds, rows))
    return made
