"""2211.07804, the survey of diffusion models for medical images: its theses on phantoms (the sheet's section 7).

1: one prior and PiGDM against zero-filling or FBP, total variation, and a net supervised at R = 4. 2: anomalies,
Gaussian against simplex noise. 3: three annotators, an ensemble of masks. Nothing here is a medical device.
Heads of random ellipses, 32x32, in [-1, 1]; networks of one size, equal processor seconds. Cut to 25 minutes of one
core: 60 s of training each, three seeds. Images are real, which all methods know: a column that is not sampled has a
twin that may be, so that R = 4 is mild. TV has the weight that is best on other slices, for each measurement. Anomalies
have t* = 0.25 and a blur of 1 pixel. All settings were fixed before any full run; MRI and CT are synthetic.
"""

from __future__ import annotations

import time
from collections import namedtuple
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from mezzotint.core import Condition, Denoiser, Noise, Simplex, fold
from mezzotint.io.picture import grid, pixels, write_png
from mezzotint.metric import auprc, auroc, consistency, dice, ged, psnr, spread_correlation
from mezzotint.papers.claim import Claim, entries_of, mean
from mezzotint.papers.ledger import LedgerEntry
from mezzotint.papers.medical_arms import Measured, MedicalArms, at_once, body_psnr, measured, reread, told, tossed
from mezzotint.papers.setting import one_thread
from mezzotint.restore import PartialDiffusion, PiGDM, posterior, segment, total_variation

PAPER, TASKS = "2211.07804", ("mri 2", "mri 4", "mri 8", "ct 20")
SIZES = {"2 to 3.5": (2.0, 3.5), "3.5 to 5": (3.5, 5.0), "5 to 6": (5.0, 6.0)}  # radii of lesions, pixels
LAWS, WEIGHTS = {"normal": Noise, "simplex": Simplex()}, (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0)
# seeds; seconds of a training; phantoms to train on; steps. 1: slices, samples of each. 2: slices of a size, repeats.
# 3: slices, masks of each.
Budget = namedtuple("Budget", "seeds seconds pool steps slices samples lesions repeats ill masks")
QUICK, FULL = Budget(2, 1.5, 64, 4, 3, 2, 4, 1, 4, 4), Budget(3, 60.0, 1500, 30, 12, 6, 32, 4, 24, 16)
PARTS = (("mri", "ct", "all"), ("AUPRC",), ("Dice", "GED", "AUROC"))
Row = dict[str, float]


def demonstrate(
    *, quick: bool, seed: int, device: str, out: Path | None, say: Callable[[str], None]
) -> list[LedgerEntry]:
    """Run the three parts for each seed."""
    if device not in ("cpu", "auto"):
        raise ValueError(f"this demonstration counts processor seconds and runs on the cpu, not on {device!r}")
    begun, budget, rows = time.monotonic(), QUICK if quick else FULL, []
    beds, label = tuple(range(seed, seed + budget.seeds)), torch.zeros(0)
    say("synthetic phantoms, in [-1, 1] as they are drawn; nothing here is a medical device")
    with one_thread():
        for trial in beds:
            arms, folder = MedicalArms(trial, budget.seconds, budget.pool), out if trial == seed else None
            prior = arms.prior()
            row = _reconstructed(arms, prior, arms.supervised(), budget, folder)
            row |= _anomalies(arms, {"normal": prior, "simplex": arms.prior(LAWS["simplex"])}, budget)
            found, label = _segmented(arms, arms.segmenter(), arms.deterministic(), budget)
            rows.append(row | found)
            say(f"seed {trial}: " + ", ".join(f"{key} {value:.4g}" for key, value in rows[-1].items()))
    off = reread(label)
    say(f"labels written as NIfTI and read again: the affines differ by {off:.2g} mm")
    claims = _claims(rows, partial(Claim, seeds=beds, scale="cpu-small", direction="higher"))
    claims.append(Claim("labels written as NIfTI lie where their volume does when they are read again",
                        "greatest difference of the affines", [1e-6], [off], off <= 1e-6, "labels are equal",
                        unit="mm"))  # fmt: skip
    return entries_of(PAPER, claims, quick=quick, device=device, seconds=time.monotonic() - begun,
                      setting=f"{budget}, one thread; phantoms, no clinical claim")  # fmt: skip


@torch.no_grad()
def _reconstructed(arms: MedicalArms, prior: Denoiser, net: Denoiser, budget: Budget, out: Path | None) -> Row:
    row, shown = Row(), []
    test, other = arms.slices("test", budget.slices), arms.slices("validation", budget.slices)

    def smooth(seen: Measured, weight: float) -> Tensor:
        return total_variation(seen.operator, seen.y, weight, low=-1.0, high=1.0)

    for task in TASKS:
        seen, held = (measured(part.t1, task, [fold(arms.seed, task, name, i) for i in range(budget.slices)])
                      for name, part in (("test", test), ("validation", other)))  # fmt: skip
        score = {weight: float(psnr(smooth(held, weight), other.t1).mean()) for weight in WEIGHTS}
        many = posterior(PiGDM(arms.data_std), prior, seen.operator, seen.y, range(budget.samples), std=seen.std,
                         steps=budget.steps)  # fmt: skip
        made = {"plain": seen.plain, "TV": smooth(seen, max(score, key=lambda w: score[w])), "prior": many.mean}
        if task.startswith("mri"):
            made["supervised"] = at_once(net, Condition({"concat": seen.plain}))
        for name, x in made.items():
            row[f"{task} {name}"] = float(psnr(x.clamp(-1, 1), test.t1).mean())
            row[f"{task} {name} in the body"] = body_psnr(x.clamp(-1, 1), test)
        row[f"{task} consistency"] = float(consistency(seen.operator, many.mean, seen.y).mean())
        row[f"{task} spearman"] = float(spread_correlation(many.std, many.mean - test.t1).mean())
        shown += [test.t1[:1], *(made[name][:1] for name in ("plain", "TV", "prior")), 8 * many.std[:1] - 1]
    row |= {f"all {name}": mean([row[f"{task} {name}"] for task in TASKS]) for name in ("prior", "TV")}
    if out is not None:
        write_png(out / "reconstruction.png", grid(pixels(torch.cat(shown))))
    return row


def _anomalies(arms: MedicalArms, models: dict[str, Denoiser], budget: Budget) -> Row:
    row = Row()
    for size, radius in SIZES.items():
        ill = arms.slices(f"lesions {size}", budget.lesions, 1.0, radius)
        seeds = [fold(arms.seed, "noise", i) for i in range(budget.lesions)]
        for name, d in models.items():
            find = PartialDiffusion(0.25, LAWS[name], budget.repeats, max(budget.steps // 2, 1))
            score = find(d, ill.t1, seeds, mask=ill.body).score
            row[f"AUPRC {size} {name}"] = auprc(score[ill.body], ill.lesion[ill.body])
    return row


@torch.no_grad()
def _segmented(arms: MedicalArms, d: Denoiser, net: Denoiser, budget: Budget) -> tuple[Row, Tensor]:
    test = arms.slices("test", budget.ill, 1.0)
    truth, c = test.annotations, told(test)
    most = truth.float().mean(1, keepdim=True) > 0.5
    many = segment(d, c["concat"], range(budget.masks), steps=max(budget.steps // 2, 1))
    p = at_once(net, c).sigmoid()
    masks, coins = many.samples[:, :, 0], tossed(p[:, 0], budget.masks, arms.seed)
    row = {"Dice one": float(torch.stack([dice(m, most[:, 0]) for m in masks.unbind(1)]).mean()),
           "Dice many": float(dice(many.label, most).mean()), "Dice deterministic": float(dice(p > 0.5, most).mean()),
           "GED many": float(ged(masks, truth).mean()), "GED coins": float(ged(coins, truth).mean()),
           "GED deterministic": float(ged(p > 0.5, truth).mean()),
           "AUROC of variance": auroc(many.variance, many.label ^ most)}  # fmt: skip
    return row, many.label[:, 0]


def _claims(rows: list[Row], claim: Callable[..., Claim]) -> list[Claim]:
    def above(text: str, measure: str, ours: str, base: str | float, by: float = 0.0, **more: str) -> Claim:
        kind = next(part for part in PARTS if ours.startswith(part))
        told = "; ".join(f"{key} {mean([row[key] for row in rows]):.4g}" for key in rows[0] if key.startswith(kind))
        found, other = [row[ours] for row in rows], [row[base] + by if isinstance(base, str) else base for row in rows]
        better = (mean(found) - mean(other)) * (-1 if more.get("direction") == "lower" else 1)
        text = f"{text} (baseline: {base}, moved by {by:g})" if by else text
        return claim(text, measure, other, found, better > 0, f"Means: {told}", **more)

    last, area = [f"AUPRC {list(SIZES)[-1]} {name}" for name in LAWS], "area under precision and recall, in the body"
    return [
        above("R = 4: a prior beats zero-filling by 4 dB", "PSNR", "mri 4 prior", "mri 4 plain", 4.0, unit="dB"),
        above("R = 8: it is at most 1 dB below a net supervised at R = 4", "PSNR", "mri 8 prior", "mri 8 supervised",
              -1.0, unit="dB"),
        above("one prior beats TV in the mean of R = 2, 4, 8 and CT of 20 views (ours)", "PSNR", "all prior", "all TV",
              unit="dB"),
        above("R = 4: the spread of samples tells the error", "Spearman correlation", "mri 4 spearman", 0.3),
        above("simplex noise finds lesions of 5 to 6 pixels better than normal noise", area, last[1], last[0]),
        above("the label of many masks is better than one mask by 0.01", "Dice", "Dice many", "Dice one", 0.01),
        above("masks vary as annotators do, more than a deterministic net with coins", "squared energy distance",
              "GED many", "GED coins", direction="lower"),
    ]  # fmt: skip
