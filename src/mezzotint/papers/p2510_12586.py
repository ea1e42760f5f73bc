"""2510.12586, EPG: the demonstration of the sheet's section 7, on 16x16 scenes, stages 1 and 2a.

Three arms with the same networks, data, order and noise: fine-tuned from scratch, after contrast alone, and after EPG's
contrast with representation consistency. Compared at equal fine-tuning steps; and at equal total compute, where the one
from scratch goes on for as many processor seconds as EPG's pre-training took. Our choices: data, sizes, rates, and the
probe (ridge regression of the front shape on the class token).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch

from mezzotint.data import Scenes
from mezzotint.metric import frechet_distance
from mezzotint.metric.train_classifier import train as train_features
from mezzotint.papers.claim import Claim, entries_of, mean
from mezzotint.papers.ledger import LedgerEntry
from mezzotint.papers.pixel_arms import Arms
from mezzotint.papers.setting import one_thread

PAPER, SIGMAS, HIGH = "2510.12586", (0.05, 0.5, 2.0, 10.0), (2.0, 10.0)
Probes = dict[str, list[list[float]]]  # arm -> seed -> noise level
Distances = dict[tuple[str, str], list[float]]  # (arm, "early" | "late" | "equal") -> seed


@dataclass(frozen=True)
class Budget:
    """Seeds; scenes, held-out ones; steps of features, pre-training, early and late check; samples, Heun's steps."""

    seeds: int
    scenes: int
    held: int
    features: int
    pretrain: int
    early: int
    late: int
    samples: int
    heun: int


QUICK, FULL = Budget(2, 800, 200, 30, 6, 3, 6, 64, 4), Budget(3, 6000, 1000, 400, 140, 50, 140, 384, 9)


def demonstrate(
    *, quick: bool, seed: int, device: str, out: Path | None, say: Callable[[str], None]
) -> list[LedgerEntry]:
    """Run the three arms and state what they showed."""
    if device not in ("cpu", "auto"):
        raise ValueError(f"this demonstration counts processor seconds and runs on the cpu, not on {device!r}")
    begun, budget = time.monotonic(), QUICK if quick else FULL
    seeds = tuple(range(seed, seed + budget.seeds))
    probes, distances = Probes(), Distances()
    with one_thread():
        scenes = Scenes(16, budget.scenes, seed=seed)
        net = train_features(scenes, scenes.attributes[:, 0], (6, 8, 3), steps=budget.features, size=32)
        for trial in seeds:
            arms = Arms(scenes, budget.held, trial)
            real = net.features(arms.real(budget.samples))
            contrast, _ = arms.pretrained(budget.pretrain, consistency=0.0)
            epg, seconds = arms.pretrained(budget.pretrain, consistency=1.0)
            for name, encoder in {"scratch": arms.encoder(), "contrast": contrast, "EPG": epg}.items():
                probes.setdefault(name, []).append([arms.probed(encoder, sigma) for sigma in SIGMAS])
                tasks = arms.tuned(encoder, (budget.early, budget.late), seconds if name == "scratch" else 0.0)
                for when, task in zip(("early", "late", "equal"), tasks):
                    with torch.no_grad():
                        made = net.features(arms.made(task, budget.samples, budget.heun))
                    distances.setdefault((name, when), []).append(frechet_distance(made, real))
            say(f"seed {trial}: {_told(probes, distances)}; EPG's pre-training took {seconds:.0f} s")
    setting = f"{budget}, 16x16 scenes, one thread: far below the paper's scale; stage 2b is no part of it"
    claims, spent = _claims(probes, distances, seeds, budget), time.monotonic() - begun
    return entries_of(PAPER, claims, quick=quick, device=device, seconds=spent, setting=setting)


def _claims(probes: Probes, distances: Distances, seeds: tuple[int, ...], budget: Budget) -> list[Claim]:
    steps = {"early": budget.early, "late": budget.late}
    entry = partial(Claim, note=_told(probes, distances), seeds=seeds, scale="cpu-small")

    def nearer(text: str, ours: str, other: str, theirs: str, least: float = 0.0) -> Claim:
        a, b = distances["EPG", ours], distances[other, theirs]
        holds = mean(a) <= (1 - least) * mean(b) and all(x < y for x, y in zip(a, b))
        return entry(f"{text}, in every seed", "Frechet distance on features of a classifier", b, a, holds)

    high = {arm: [_high(levels) for levels in values] for arm, values in probes.items()}
    gain = {w: [math.log2(a / b) for a, b in zip(distances["scratch", w], distances["EPG", w])] for w in steps}
    after = {when: f"after {count} steps of fine-tuning EPG is" for when, count in steps.items()}
    much = "at least 10 % nearer to the data than from scratch"
    return [
        entry(f"EPG's class token tells more shapes than that of contrast alone, mean of noise levels {HIGH}",
              "accuracy of a linear probe", high["contrast"], high["EPG"], mean(high["EPG"]) > mean(high["contrast"]),
              direction="higher"),
        nearer(f"{after['early']} {much}", "early", "scratch", "early", 0.1),
        nearer(f"{after['late']} {much}", "late", "scratch", "late", 0.1),
        nearer(f"{after['early']} nearer than after contrast alone", "early", "contrast", "early"),
        entry(f"EPG's gain over scratch shrinks from {budget.early} to {budget.late} steps of fine-tuning",
              "log2 of how many times nearer than from scratch", gain["early"], gain["late"],
              mean(gain["late"]) < mean(gain["early"])),
        nearer("at equal total compute EPG is nearer than from scratch", "late", "scratch", "equal"),
    ]  # fmt: skip


def _high(levels: list[float]) -> float:
    """The mean accuracy at high noise."""
    return mean([accuracy for sigma, accuracy in zip(SIGMAS, levels) if sigma in HIGH])


def _told(probes: Probes, distances: Distances) -> str:
    seen = {arm: " ".join(f"{mean(values):.3f}" for values in zip(*found)) for arm, found in probes.items()}
    return (
        f"Probe at {SIGMAS}: " + "; ".join(f"{arm} {values}" for arm, values in seen.items()) + ". Distance: "
        + ", ".join(f"{arm} {when} {mean(values):.4g}" for (arm, when), values in distances.items())
    )  # fmt: skip
