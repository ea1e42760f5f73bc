"""2310.13268, DPM-Solver-v3: the demonstration of the sheet's section 7.

A: a mixture over one number, whose flow is known, on grids uniform in lambda to t = 0.01; each seed has a calibration
and draws of its own. B: the shipped latent model against a fine run, paired by sample, after a calibration of its null
branch on its own samples; grids uniform in t to 0, pseudo corrector (true in A). Our choices: all sizes, prompts.
"""

from __future__ import annotations

import math
import time
from collections import namedtuple
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from itertools import product
from pathlib import Path

import torch

from mezzotint.core import VP, GaussianMixture, Noise, fold, uniform_lambda
from mezzotint.core.exact import probability_flow
from mezzotint.guide import CFG
from mezzotint.model import load
from mezzotint.papers.claim import Claim, entries_of, mean
from mezzotint.papers.ledger import LedgerEntry
from mezzotint.papers.setting import one_thread
from mezzotint.sample import DDIM, EMS, DPMSolverPP, DPMSolverV3, Sampler, UniPC, calibrate_ems

PAPER, F64, T_END, WEIGHT = "2310.13268", torch.float64, 0.01, 3.0
MEASURE = {"A": f"RMSE at t={T_END}", "B": "MSE to the fine run"}
FEW, NFE, TOY_NFE = {"A": (5, 6, 8, 10), "B": (5, 6, 7, 8)}, (5, 6, 7, 8, 10, 20), (5, 6, 8, 10, 15, 20)
PROMPTS = ("a red heart", "a slice of pizza", "a green apple, noto", "a blue car, fluent 3d")
Errors = dict[tuple[str, int], list[float]]  # (solver, evaluations) -> one number a seed
# A: levels, samples a level, draws. B: levels, samples a level, data, its steps, samples, fine steps.
Budget = namedtuple("Budget", "levels per_level draws model_levels model_per_level data data_steps samples fine")
QUICK = Budget(120, 512, 256, 48, 12, 16, 10, 2, 30)
FULL = Budget(1200, 4096, 1024, 48, 256, 256, 30, 32, 200)
GAIN, SIZE = "log2 of how many times less error than ++2M", {"A": "", "B": "The paper calibrates 10 times longer; "}


def demonstrate(
    *, quick: bool, seed: int, device: str, out: Path | None, say: Callable[[str], None]
) -> list[LedgerEntry]:
    """Run A and B and state what they showed."""
    if device not in ("cpu", "auto"):
        raise ValueError(f"this demonstration runs on one thread of the cpu, not on {device!r}")
    begun, budget, beds = time.monotonic(), QUICK if quick else FULL, tuple(range(seed, seed + (2 if quick else 3)))
    samples = tuple(fold(seed, "compared", i) for i in range(budget.samples))
    with one_thread(), torch.no_grad():
        toy = _toy(beds, budget, say)
        plain, guided = _model(samples, budget, seed, say)
    a, b = partial(Claim, seeds=beds), partial(Claim, seeds=samples, scale="cpu-small")
    claims = [
        _nearer("A", "", a, toy, "2M", "at least 2 times ", 1 / 2), *_others("A", a, toy),
        _nearer("B", "without guidance ", b, plain, "2M", "at least 25 % ", 0.75), *_others("B", b, plain),
        _nearer("B", f"with guidance {WEIGHT:g} ", b, guided, "2M", "at least 25 % ", 0.75),
        _nearer("B", "without guidance ", b, plain, "UniPC-2", "", 1.0),
    ]  # fmt: skip
    return entries_of(PAPER, claims, quick=quick, device=device, seconds=time.monotonic() - begun, setting=f"{budget}")


def _nearer(part: str, at: str, claim: partial[Claim], errors: Errors, other: str, much: str, most: float) -> Claim:
    ratio = max(mean(errors["v3-2", n]) / mean(errors[other, n]) for n in FEW[part])
    return claim(f"{part}: {at}order 2 has {much}less error than {other} at each of {FEW[part]} evaluations",
                 f"{MEASURE[part]}, mean over these", _over(errors, part, other), _over(errors, part, "v3-2"),
                 ratio <= most, f"{SIZE[part]}v3's part of {other}'s error is at most {ratio:.3g}, its geometric mean "
                 f"{2 ** -mean(_gain(errors, FEW[part], 'v3-2', other)):.3g}. {_rows(errors)}")  # fmt: skip


def _others(part: str, claim: partial[Claim], errors: Errors) -> list[Claim]:
    ours, late, at = _gain(errors, FEW[part], "v3-2"), _gain(errors, (20,), "v3-2"), f"at {FEW[part]} evaluations"
    shuffled, plain = _gain(errors, FEW[part], "shuffled"), _gain(errors, FEW[part], "plain")
    return [
        claim(f"{part}: order 1 has less error than DDIM at 10 evaluations", MEASURE[part], errors["DDIM", 10],
              errors["v3-1", 10], mean(errors["v3-1", 10]) < mean(errors["DDIM", 10]), _rows(errors, "v3-1", "DDIM")),
        claim(f"{part}, control: statistics shuffled over lambda (baseline) have no gain over ++2M {at}", "gain",
              shuffled, ours, mean(shuffled) <= 0, _rows(errors, "shuffled"), direction="higher", unit=GAIN),
        claim(f"{part}, control: l = 1, s = b = 0 with the same corrector (baseline) have less gain {at}", "gain",
              plain, ours, mean(plain) < mean(ours), _rows(errors, "v3-2", "plain"), direction="higher", unit=GAIN),
        claim(f"{part}: the gain over ++2M is gone at 20 evaluations (within 1.1 times)", f"gain at 20, not {at}",
              ours, late, abs(mean(late)) < math.log2(1.1), _rows(errors, "v3-2", "2M"), unit=GAIN),
    ]  # fmt: skip


def _over(errors: Errors, part: str, name: str) -> list[float]:
    return [mean(values) for values in zip(*(errors[name, n] for n in FEW[part]))]


def _gain(errors: Errors, numbers: tuple[int, ...], name: str, other: str = "2M") -> list[float]:
    pairs = (zip(errors[other, n], errors[name, n]) for n in numbers)
    return [mean(values) for values in zip(*([math.log2(a / b) for a, b in pair] for pair in pairs))]


def _rows(errors: Errors, *names: str) -> str:
    told = {name: [f"{mean(v):.3g}" for (of, _), v in errors.items() if of == name] for name, _ in errors}
    return "; ".join(f"{name}: {' '.join(values)}" for name, values in told.items() if name in names or not names)


def _solvers(ems: EMS, seed: int, pseudo: bool) -> dict[str, Sampler]:
    order = Noise([seed]).uniform("shuffle", 0, (len(ems.lam),), dtype=F64)[0].argsort()
    mixed = replace(ems, l=ems.l[order], s=ems.s[order], b=ems.b[order], _memo={})
    data = replace(ems, l=torch.ones_like(ems.l), s=0 * ems.s, b=0 * ems.b, _memo={})
    v3 = partial(DPMSolverV3, corrector_pseudo=pseudo)
    return {
        "DDIM": DDIM(), "2M": DPMSolverPP(), "2M high": DPMSolverPP(lower_order_final=False), "UniPC-2": UniPC(order=2),
        "v3-1": v3(ems, order=1), "v3-2": v3(ems), "v3-3": v3(ems, order=3), "plain": v3(data), "shuffled": v3(mixed),
    }  # fmt: skip


def _toy(beds: tuple[int, ...], budget: Budget, say: Callable[[str], None]) -> Errors:
    means, errors = torch.tensor([[-1.0], [0.4], [1.2]]), Errors()
    bed = GaussianMixture(means, torch.tensor([0.35, 0.5, 0.4]), torch.tensor([0.3, 0.4, 0.3]))
    d, k = bed.denoiser(VP()), budget.per_level
    for seed in beds:
        pool = bed.sample(Noise([fold(seed, "pool", i) for i in range(4 * k)]))
        ems = calibrate_ems(d, pool, levels=budget.levels, per_level=k, t_end=T_END, seed=seed, batch=k)
        x_T = Noise([fold(seed, "draw", i) for i in range(budget.draws)])("x_T", 0, (1,), dtype=F64)
        truth = probability_flow(bed, VP(), x_T, 1.0, T_END)
        for (name, solver), n in product(_solvers(ems, seed, pseudo=False).items(), TOY_NFE):
            got = solver(d, x_T, grid=uniform_lambda(VP(), n, t_end=T_END, to_zero=False))
            errors.setdefault((name, n), []).append(float((got - truth).square().mean().sqrt()))
        say(f"A seed {seed}, so far: {_rows(errors)}")
    for n in TOY_NFE:  # ++2M is whichever of its two ends is better
        errors["2M", n] = min(errors["2M", n], errors["2M high", n], key=mean)
    return errors


def _model(samples: tuple[int, ...], budget: Budget, seed: int, say: Callable[[str], None]) -> tuple[Errors, Errors]:
    model = load("emoji")
    spec, d = model.autoencoder.spec, model.denoiser
    assert model.conditioner is not None
    shape = (spec.channels, *(side // spec.factor for side in model.size))
    told = model.conditioner(model.conditioner.prepare(list(PROMPTS)))
    x_T = Noise([fold(seed, "data", i) for i in range(budget.data)])("x_T", 0, shape)
    data = torch.cat([DPMSolverPP()(d, x, steps=budget.data_steps, c=told.null().rows([0] * len(x)))
                      for x in x_T.split(64)])  # fmt: skip
    ems = calibrate_ems(d, data, levels=budget.model_levels, per_level=budget.model_per_level, t_end=T_END, seed=seed,
                        c=told)  # fmt: skip
    solvers, x_T = _solvers(ems, seed, pseudo=True), Noise(samples)("x_T", 0, shape)
    c = told.rows([i % len(PROMPTS) for i in range(len(samples))])

    made, strong = (Errors(), Errors()), ["2M", "UniPC-2", "v3-2"]
    for errors, denoiser, of, names in ((made[0], d, c.null(), list(solvers)), (made[1], CFG(WEIGHT)(d), c, strong)):
        fine = DPMSolverPP()(denoiser, x_T, steps=budget.fine, c=of)
        for name, n in product(names, NFE):
            got = solvers[name](denoiser, x_T, steps=n, c=of)
            errors[name, n] = (got - fine).square().flatten(1).mean(1).tolist()
        say(f"B: {_rows(errors)}")
    return made
