"""2406.11138, the survey of diffusion models in low-level vision: its statements on drawn digits (section 7).

Digits of 16x16 in [-1, 1]: made smaller by 2, half of the pixels missing, or blurred (1 pixel); without noise and with
noise of 0.05. One prior for all methods that need no training; SR3, ResShift and a regression for "sr2", one more
regression for "blur": networks of one size, equal processor seconds. Settings are the sheet's or the methods' own. Cut
to 25 minutes of one core: 45 s a training, three seeds, 64 digits; 5, 20 and 100 network calls with noise, 20 without.
"DDNM" takes the measurement for noiseless, "DDNM+" is told. RePaint goes twice through each step. SR3 predicts eps and
takes uniform ancestral steps, x0 cut to [-1, 1] as in its released forms (without, its first step divides by alpha,
0.007). Statement (d), latents, is not measured. All was fixed before any full run.
"""

from __future__ import annotations

import time
from collections import namedtuple
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from mezzotint.guide import StaticThreshold
from mezzotint.io.picture import grid, pixels, write_png
from mezzotint.papers.claim import Claim, entries_of, mean
from mezzotint.papers.ledger import LedgerEntry
from mezzotint.papers.low_level_arms import STD, DigitArms, Judge, Seen, operator
from mezzotint.papers.setting import one_thread
from mezzotint.restore import DDNM, DPS, DiffPIR, PiGDM, RePaint, Restorer
from mezzotint.restore.bridge import OneCall, TrainedRestorer
from mezzotint.sample import DDIM

PAPER, TASKS, WRONG = "2406.11138", ("sr2", "inpaint", "blur"), 1.5
FEW = 15  # ResShift's steps
# seeds; seconds of a training; digits to train on; digits to restore; network calls, those in the middle also without
# noise; steps of the classifier
Budget = namedtuple("Budget", "seeds seconds pool digits calls judged")
QUICK, FULL = Budget(2, 1.0, 300, 16, (3, 5, 8), 60), Budget(3, 45.0, 4000, 64, (5, 20, 100), 600)
LOWER = ("frechet", "consistency")
Row = dict[str, float]


def demonstrate(
    *, quick: bool, seed: int, device: str, out: Path | None, say: Callable[[str], None]
) -> list[LedgerEntry]:
    """Train and restore for each seed, then state what showed."""
    if device not in ("cpu", "auto"):
        raise ValueError(f"this demonstration counts processor seconds and runs on the cpu, not on {device!r}")
    begun, budget, rows = time.monotonic(), QUICK if quick else FULL, []
    beds = tuple(range(seed, seed + budget.seeds))
    with one_thread():
        for trial in beds:
            bed = _Bed(DigitArms(trial, budget.seconds, budget.pool), budget)
            rows.append(bed.measured(out if trial == seed else None))
            say(f"seed {trial}: " + ", ".join(f"{key} {value:.4g}" for key, value in rows[-1].items()))
    claims = _claims(rows, partial(Claim, seeds=beds, scale="cpu-small"), budget.calls)
    return entries_of(PAPER, claims, quick=quick, device=device, seconds=time.monotonic() - begun,
                      setting=f"{budget}, one thread")  # fmt: skip


class _Bed:
    """The networks of one seed, and what each method makes of each task: "blur 0.05 PiGDM 20 psnr"."""

    def __init__(self, arms: DigitArms, budget: Budget) -> None:
        self.arms, self.budget, self.row = arms, budget, Row()
        self.judge: Judge = arms.judge(budget.judged)
        self.prior, self.means = arms.prior(), {task: arms.regressor(task) for task in ("sr2", "blur")}
        self.told = {"SR3": (TrainedRestorer(DDIM(1.0)), StaticThreshold()(arms.sr3())),
                     "ResShift": (TrainedRestorer(), arms.resshift())}  # fmt: skip

    def measured(self, out: Path | None) -> Row:
        """All tasks, without and with noise."""
        shown = [x for task in TASKS for std in (0.0, STD) for x in self._task(task, std)]
        if out is not None:
            write_png(out / "digits.png", grid(pixels(torch.cat(shown).clamp(-1, 1))))
        return self.row

    def _task(self, task: str, std: float) -> list[Tensor]:
        seen, calls = self.arms.seen(task, std, self.budget.digits), self.budget.calls
        guess, shown = seen.a.guess(seen.y), [seen.x[:1]]

        def note(name: str, made: Tensor, at: Seen = seen) -> None:
            told = self.judge.scores(made.detach(), at)
            self.row.update({f"{task} {std:g} {name} {measure}": value for measure, value in told.items()})
            if f" {calls[-1]}" in name or " " not in name:
                shown.append(made[:1].detach())

        note("pinv", guess)
        with torch.no_grad():
            if task in self.means:
                note("regression", OneCall()(self.means[task], guess, seen.noise))
            for steps in (sorted({*calls, FEW}) if std else (FEW,)) if task == "sr2" else ():
                for name, (method, d) in self.told.items():
                    note(f"{name} {steps}", method(d, guess, seen.noise, steps=steps))
        for steps in calls if std else calls[1:2]:
            for name, (method, level, n) in self._free(task, std, steps).items():
                note(f"{name} {steps}", method(self.prior, seen.a, seen.y, seen.noise, std=level, steps=n))
        if task == "blur" and std:
            wide = operator(task, seen.noise, WRONG)
            note("DPS wrong", DPS()(self.prior, wide, seen.y, seen.noise, std=std, steps=calls[-1]))
        return shown if std else []

    def _free(self, task: str, std: float, steps: int) -> dict[str, tuple[Restorer, float, int]]:
        """Methods that need no training, each with the noise that it is told and its steps."""
        width = self.arms.data_std
        made: dict[str, tuple[Restorer, float, int]] = {
            "DDNM": (DDNM(), 0.0, steps), "PiGDM": (PiGDM(width), std, steps), "DPS": (DPS(), std, steps),
            "DiffPIR": (DiffPIR(data_std=width), std, steps),
        }  # fmt: skip
        made |= {"DDNM+": (DDNM(), std, steps)} if std else {}
        return made | ({"RePaint": (RePaint(1, 2), std, (steps + 1) // 2)} if task == "inpaint" else {})


def _claims(rows: list[Row], claim: Callable[..., Claim], calls: tuple[int, ...]) -> list[Claim]:
    few, mid, most = f"ResShift {FEW}", calls[1], calls[-1]

    def versus(text: str, ours: str, base: str, measure: str, by: float = 0.0, tasks: tuple[str, ...] = ("sr2",)):
        keys = [[f"{task} {STD:g} {name} {measure}" for task in tasks] for name in (ours, base)]
        found, other = ([mean([row[key] for key in part]) for row in rows] for part in keys)
        other, sign = [value + by for value in other], -1 if measure in LOWER else 1
        names, where = {ours.split()[0], base.split()[0]}, [f"{task} {STD:g}" for task in tasks]
        near = [key for key in rows[0] if key.endswith(measure) and key.split()[2] in names
                and key.startswith(tuple(where))]  # fmt: skip
        note = "Means: " + "; ".join(f"{key} {mean([row[key] for row in rows]):.4g}" for key in near)
        return claim(text, f"{measure}, {', '.join(where)}", other, found, sign * (mean(found) - mean(other)) > 0, note,
                     direction="lower" if sign < 0 else "higher", unit="dB" if measure == "psnr" else "1")  # fmt: skip

    made, base = [], "regression"
    for name in (f"SR3 {most}", few):
        made += [versus(f"(a) regression has a higher PSNR than {name}", base, name, "psnr"),
                 versus(f"(a) {name} is nearer to digits in features than regression", name, base, "frechet"),
                 versus(f"(a) {name}: digits read right oftener than by {base}", name, base, "accuracy")]  # fmt: skip
    made.append(versus("(b) without training, PiGDM beats the pseudo-inverse by 1 dB over three tasks (ours)",
                       f"PiGDM {mid}", "pinv", "psnr", 1.0, TASKS))  # fmt: skip
    for name in ("PiGDM", "DiffPIR"):
        made.append(versus(f"(b) with noise {name} beats DDNM, which fits the noise, by 1 dB", f"{name} {mid}",
                           f"DDNM {mid}", "psnr", 1.0, TASKS))  # fmt: skip
    for name, other in (("the regression", base), ("DPS told the right one", f"DPS {most}")):
        made.append(versus(f"(b) DPS told a blur {WRONG} times as wide falls below {name}", other, "DPS wrong", "psnr",
                           tasks=("blur",)))  # fmt: skip
    exact = [max(row[f"{task} 0 DDNM {mid} consistency"] for task in ("sr2", "inpaint")) for row in rows]
    made.append(claim("(b) without noise DDNM explains the measurement to rounding", "consistency, sr2 and inpaint",
                      [1e-5] * len(rows), exact, max(exact) < 1e-5, f"each seed: {exact}"))  # fmt: skip
    for other, measure in ((f"SR3 {FEW}", "psnr"), (f"SR3 {FEW}", "frechet"), (f"SR3 {most}", "frechet")):
        made.append(versus(f"(c) {few} is better than {other} ({measure})", few, other, measure))
    return made
