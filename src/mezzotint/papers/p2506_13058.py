"""2506.13058, DualFast: stages A and B of the sheet, in the style of the paper (its schedule of c could not be had).

A: a mixture over one number, its exact denoiser and two that are wrong in a known way; W2 to the data is taken between
quantiles, so nothing is random. B: small networks for 16x16 scenes, trained for two budgets of processor seconds; c > 0
is chosen by one seed and judged by the others. The decisive control: does any c > 0 come below the floor, the network's
own converged samples at c = 0? Only that is approximation error. Our choices: scenes, sizes, tau, the ramp of c; the
floor of B is 200 steps of DPM-Solver++ 2M, nearer to the network's ODE than 1000 of DDIM.
"""

from __future__ import annotations

import time
from collections import namedtuple
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mezzotint.core import VP, Denoiser, GaussianMixture, Noise, fold
from mezzotint.core.exact import probability_flow
from mezzotint.data import Scenes
from mezzotint.metric import frechet_distance
from mezzotint.metric.train_classifier import train as train_features
from mezzotint.papers.claim import Claim, entries_of, mean
from mezzotint.papers.ledger import LedgerEntry
from mezzotint.papers.setting import one_thread
from mezzotint.papers.small_net import train_small
from mezzotint.sample import DDIM, DPMSolverPP, DualFast, Sampler, calibrate_c, error_split

PAPER, F64, SEEDS, TRIED = "2506.13058", torch.float64, 3, (0.05, 0.1, 0.2, 0.3)
TWO_M = DPMSolverPP(order=2)
TOY: dict[str, Sampler] = {
    "DDIM": DDIM(), "first .1": DualFast(DDIM(), 0.1), "first .25": DualFast(DDIM(), 0.25),
    "first .5": DualFast(DDIM(), 0.5), "prev .5": DualFast(DDIM(), 0.5, tau="prev", shape="constant"), "2M": TWO_M,
    "2M first .1": DualFast(TWO_M, 0.1), "2M prev .1": DualFast(TWO_M, 0.1, tau="prev"),
}  # fmt: skip
# Scenes; steps of the feature network; processor seconds of the two networks; samples a seed; steps: few, many, floor.
Budget = namedtuple("Budget", "scenes feature_steps short long samples few many floor")
QUICK = Budget(1200, 40, 2.0, 4.0, 100, 5, 8, 10)
FULL = Budget(6000, 400, 30.0, 120.0, 192, 10, 50, 200)


def demonstrate(
    *, quick: bool, seed: int, device: str, out: Path | None, say: Callable[[str], None]
) -> list[LedgerEntry]:
    """Run A and B and state what they showed."""
    if device not in ("cpu", "auto"):
        raise ValueError(f"this demonstration counts processor seconds and runs on the cpu, not on {device!r}")
    begun, budget, seeds = time.monotonic(), QUICK if quick else FULL, tuple(range(seed + 1, seed + 1 + SEEDS))
    with one_thread(), torch.no_grad():
        toy = {name: _toy(name, say) for name in SCALES}
    with one_thread():
        scenes = Scenes(16, budget.scenes, seed=seed)
        nets = [train_small(scenes, seconds, seed) for seconds in (budget.short, budget.long)]
        score = _score(scenes, budget, seed)
    with one_thread(), torch.no_grad():
        trained = list(zip(("shortly", "longer"), [_compare(d, score, seed, seeds, budget, say) for d in nets]))
        held = scenes.batch(range(len(scenes) - 64, len(scenes)))[0]
        splits = [error_split(nets[0], held, [4], fine=2, fine_whole=8, reference=nets[1], seed=s)[0] for s in seeds]
    say(f"B error split, 4 steps of DDIM, the longer-trained network as reference:\n{splits[0]}")
    noisy, clean = ([s.steps[i].network or 0.0 for s in splits] for i in (0, -1))
    known, model = partial(_lower, measure="W2 to the data"), partial(_lower, seeds=seeds, scale="cpu-small")
    fd, exact = "Frechet distance on features of a classifier", toy["exact"]
    facts = "; ".join(f"{name}: floor {t['DDIM', 1000][0]:.3g}, N=200 {_line(t, 200)}" for name, t in toy.items())
    claims = [
        known("A: with an exact denoiser c_max=0.1, tau=first brings DDIM at 10 steps nearer to the data",
              exact["DDIM", 10], exact["first .1", 10], "such a gain at few steps says nothing of a network's error"),
        *(known(f"A: with an exact denoiser c_max=0.1, tau=first brings ++2M at {n} steps nearer to the data",
                exact["2M", n], exact["2M first .1", n], _line(exact, n)) for n in (10, 20)),
        *(known(f"A: for a network that is too {name} c_max=0.1, tau=first at 200 steps is below its 1000-step floor",
                toy[name]["DDIM", 1000], toy[name]["first .1", 200], facts) for name in ("narrow", "wide")),
        *(model(f"B: {who} trained, {solver} at {budget.few} steps: the best c > 0 (tau=first) lowers the distance",
                *pair[kind][:2], _facts(pair), measure=fd) for who, pair in trained
          for solver, kind in (("DDIM", "ddim first"), ("2M", "2m first"))),
        *(model(f"B: {who} trained, decisive control: the best c > 0 (tau=first) at {budget.many} steps of 2M is below "
                f"{of}", *pair[kind][:2], _facts(pair), measure=fd) for who, pair in trained
          for kind, of in (("control first", f"the floor, c = 0 at {budget.floor}"), ("alike", "c = 0 at as many"))),
        model("B: the shortly trained network's noise estimate is less wrong at the noisiest of 4 steps (ours) than at "
              "the last (baseline)", clean, noisy, "error against another network, not against the truth",
              measure="RMS of eps minus the longer-trained network's"),
    ]  # fmt: skip
    return entries_of(PAPER, claims, quick=quick, device=device, seconds=time.monotonic() - begun,
                      setting=f"{budget}, {SEEDS} seeds of samples, one training a budget: small scale")  # fmt: skip


def _lower(claim: str, baseline: list[float], ours: list[float], note: str, measure: str, **of: Any) -> Claim:
    return Claim(claim, measure, baseline, ours, mean(ours) < mean(baseline), note, **of)


def _line(found: dict[tuple[str, int], list[float]], n: int) -> str:
    return ", ".join(f"{kind} {w:.3g}" for (kind, of), (w,) in found.items() if of == n)


SCALES = {"exact": (1.0, 1.0), "narrow": (0.95, 0.85), "wide": (1.05, 1.15)}  # of means and of standard deviations


def _toy(name: str, say: Callable[[str], None]) -> dict[tuple[str, int], list[float]]:
    mean, std, weights = torch.tensor([[-1.0], [0.4], [1.2]]), torch.tensor([0.35, 0.5, 0.4]), torch.tensor([3.0, 4, 3])
    x_T = torch.special.ndtri((torch.arange(512, dtype=F64) + 0.5) / 512)[:, None]  # quantiles: alpha(1) = 0.007
    data = probability_flow(GaussianMixture(mean, std, weights), VP(), x_T, 1.0, 0.0)
    d, found = GaussianMixture(SCALES[name][0] * mean, SCALES[name][1] * std, weights).denoiser(VP()), {}
    for n in (5, 10, 20, 50, 200, 1000):
        for kind, sampler in TOY.items() if n < 1000 else (("DDIM", DDIM()),):
            found[kind, n] = [float((sampler(d, x_T, steps=n).sort(0).values - data).square().mean().sqrt())]
        say(f"A {name} N={n}: {_line(found, n)}")
    return found


def _score(scenes: Scenes, budget: Budget, seed: int) -> Callable[[Denoiser, Sampler, int, int], float]:
    """(denoiser, sampler, steps, seed) -> distance of its samples to the scenes that no network was trained on."""
    net = train_features(scenes, scenes.attributes[:, 0], (6, 8, 3), steps=budget.feature_steps, size=16, seed=seed)
    with torch.no_grad():
        real = net.features(scenes.batch(range(len(scenes) // 2, len(scenes)))[0])

    def score(d: Denoiser, sampler: Sampler, steps: int, of: int) -> float:
        x_T: Tensor = Noise([fold(of, "x_T", i) for i in range(budget.samples)])("x_T", 0, (3, 16, 16))
        return frechet_distance(net.features(sampler(d, x_T, steps=steps).clamp(-1, 1)), real)

    return score


def _compare(
    d: Denoiser, score: Callable[..., float], held: int, seeds: tuple[int, ...], budget: Budget, say: Callable
) -> dict[str, tuple[list[float], list[float], float]]:
    """Distances without and with c, a seed each, and the c that the held-out seed chose."""
    floor, found = [score(d, TWO_M, budget.floor, s) for s in seeds], {}
    for kind, sampler, n in (
        ("ddim first", DualFast(DDIM()), budget.few), ("ddim prev", DualFast(DDIM(), tau="prev"), budget.few),
        ("2m first", DualFast(TWO_M), budget.few), ("control first", DualFast(TWO_M), budget.many),
        ("control prev", DualFast(TWO_M, tau="prev"), budget.many),
    ):  # fmt: skip
        chosen = calibrate_c(sampler, lambda s, n=n: score(d, s, n, held), TRIED)
        ours = [score(d, chosen.best, n, s) for s in seeds]
        none = replace(chosen.best, c_max=0.0)
        plain = floor if kind.startswith("control") else [score(d, none, n, s) for s in seeds]
        found[kind] = (plain, ours, chosen.best.c_max)
        if kind == "control first":  # fewer steps alone may already score below the floor
            found["alike"] = ([score(d, none, n, s) for s in seeds], ours, chosen.best.c_max)
        say(f"B {kind} N={n}: {mean(plain):.4g} without, {mean(ours):.4g} with\n{chosen}")
    return found


def _facts(found: dict[str, tuple[list[float], list[float], float]]) -> str:
    return "; ".join(
        f"{kind}: {mean(a):.4g} without, {mean(b):.4g} with c_max={c:g}" for kind, (a, b, c) in found.items()
    )
