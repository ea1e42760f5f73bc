"""2509.15342, LowDiff: sampling a small image first, with one network for both resolutions (the sheet's section 7).

Procedural 16x16 scenes, levels 8 and 16. One model, one model of both levels, and two networks of half the size train
for the same processor seconds; a fourth, of both levels, without noise on its condition. The cascade that is ours was
named before any run: Heun, 18 steps below and 6 above, a warm start at 3, s_aug = 0.05. Its method could not be read
in the paper: this is in its style, after the sheet. Cut to 25 minutes of one core: 0.4 M parameters and a few hundred
steps, where the sheet has 0.7 M; some hundred samples for its 5,000. Our choices: the scenes, the feature network.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from mezzotint.core import AveragePool
from mezzotint.data import Scenes
from mezzotint.io.picture import grid, pixels, write_png
from mezzotint.metric import FeatureNet, frechet_distance
from mezzotint.metric.train_classifier import train as train_features
from mezzotint.papers.cascade_arms import CascadeArms, between
from mezzotint.papers.claim import Claim, entries_of, mean
from mezzotint.papers.ledger import LedgerEntry
from mezzotint.papers.pooled_oracle import covariance_error, signal
from mezzotint.papers.setting import one_thread
from mezzotint.sample import CascadeSampler

PAPER, SINGLE = "2509.15342", (4, 6, 9, 12, 18)
Rows = dict[str, list[dict[str, float]]]  # arm -> what each seed measured: FD, rate, apart


def _cascade(low: int, high: int, start: str = "warm", aug: float = 0.05, smax: float = 3.0) -> CascadeSampler:
    if start == "cold":
        return CascadeSampler("heun", (low, high), aug=aug)
    return CascadeSampler("heun", (low, high), smax=(80.0, smax), start="warm", aug=aug)


OURS = _cascade(18, 6)
CASCADES = {"9+3": _cascade(9, 3), "12+4": _cascade(12, 4), "18+6": OURS, "18+9": _cascade(18, 9),
            "18+6 cold": _cascade(18, 6, "cold")}  # fmt: skip


@dataclass(frozen=True)
class Budget:
    """Seeds; scenes; steps of the feature network; processor seconds of an arm's training; samples compared."""

    seeds: int
    scenes: int
    features: int
    seconds: float
    samples: int


QUICK, FULL = Budget(2, 600, 15, 1.0, 12), Budget(3, 6000, 250, 75.0, 256)


def demonstrate(
    *, quick: bool, seed: int, device: str, out: Path | None, say: Callable[[str], None]
) -> list[LedgerEntry]:
    """Train every arm, sample it at every setting, and state what that showed."""
    if device not in ("cpu", "auto"):
        raise ValueError(f"this demonstration counts processor seconds and runs on the cpu, not on {device!r}")
    begun, budget, rows = time.monotonic(), QUICK if quick else FULL, Rows()
    beds = tuple(range(seed, seed + budget.seeds))
    with one_thread():
        scenes = Scenes(16, budget.scenes + budget.samples, seed=seed)
        net = train_features(scenes, scenes.attributes[:, 0], (6, 8, 3), steps=budget.features, size=16)
        x, held = scenes.batch(range(len(scenes)))[0].split([budget.scenes, budget.samples])
        real = _features(net, held)
        for trial in beds:
            for name, made in _measured(CascadeArms(x, trial, budget.seconds), budget.samples):
                found = frechet_distance(_features(net, made.x.clamp(-1, 1)), real)
                rows.setdefault(name, []).append({"FD": found, "rate": made.rate, "apart": made.consistency()})
                say(f"seed {trial} {name}: FD {found:.4g}, {made.rate:.3g} images/s, apart {made.consistency():.3g}")
                if out is not None and name == "18+6" and trial == seed:
                    small = AveragePool(2).pinv(made.low[:8])
                    write_png(out / "levels.png", grid(pixels(torch.cat([small, made.x[:8]]))))
        floor = frechet_distance(_features(net, x[: budget.samples]), real)
    told = "; ".join(f"{k}: {_mean(v, 'FD'):.4g} at {_mean(v, 'rate'):.3g}/s, {_mean(v, 'apart'):.2g} apart"
                     for k, v in rows.items())  # fmt: skip
    setting = f"Frechet distances at images a processor second, distance of pool(x) from the level below: {told}. "
    setting += f"Real against real {floor:.3g}. {budget}, one thread, in the style of the paper, far below its scale"
    claims, spent = _claims(rows, beds), time.monotonic() - begun
    return entries_of(PAPER, claims, quick=quick, device=device, seconds=spent, setting=setting)


def _measured(arms: CascadeArms, count: int):
    """(arm, samples) of every setting."""
    single = arms.single()
    for n in SINGLE:
        yield f"single {n}", arms.made(single, CascadeSampler("heun", (n,)), count)
    unified = arms.unified()
    for name, sampler in CASCADES.items():
        made = arms.made(unified, sampler, count)
        yield name, made
        if sampler is OURS:
            yield "shuffled", replace(arms.upper(unified, OURS, made.low.roll(1, 0), count), low=made.low)
    yield "dropped", arms.upper(unified, _cascade(1, 18, "cold"), None, count)
    yield "two networks", arms.made(arms.separate(), OURS, count)
    yield "no noise", arms.made(arms.unified(corrupted=False), _cascade(18, 6, aug=0.0), count)


def _claims(rows: Rows, seeds: tuple[int, ...]) -> list[Claim]:
    claim = partial(Claim, seeds=seeds, scale="cpu-small")
    fd, ours = "Frechet distance on features of a classifier", [row["FD"] for row in rows["18+6"]]

    def curve(place: Callable[[int, int], float], at: Callable[[int], float]) -> list[float]:
        """The single model's FD of each seed where its curve reaches a place."""
        return [between([place(i, n) for n in SINGLE], [rows[f"single {n}"][i]["FD"] for n in SINGLE], at(i))
                for i in range(len(seeds))]  # fmt: skip

    def less(text: str, other: str | list[float], part: float = 1.0, mine: list[float] = ours) -> Claim:
        base = [row["FD"] for row in rows[other]] if isinstance(other, str) else other
        ratio = mean(mine) / mean(base)
        return claim(text, fd, base, mine, ratio <= part, f"{ratio:.3g} of the baseline, at most {part:g} needed")

    by_rate = curve(lambda i, n: rows[f"single {n}"][i]["rate"], lambda i: rows["18+6"][i]["rate"])
    by_cost = curve(lambda i, n: float(n), lambda i: 10.5)
    apart = [[row["apart"] for row in rows[name]] for name in ("shuffled", "18+6")]
    dropped = [row["FD"] for row in rows["dropped"]]
    exact = [covariance_error(*pair) for pair in ((CascadeSampler("heun", (15,)), signal((16,))),
                                                  (_cascade(18, 6, aug=0.0, smax=2.0), signal()))]  # fmt: skip
    return [
        less("18 small and 6 large steps have 10 % less FD than one model at equal measured images/s", by_rate, 0.9),
        less("the same at equal cost by pixels, 10.5 full steps", by_cost, 0.9),
        less("one network is within 10 % of two of half the size (baseline: theirs times 1.1)",
             [1.1 * row["FD"] for row in rows["two networks"]]),
        less("noise on the condition, in training and sampling, lowers FD", "no noise"),
        less("a warm start lowers FD at equal steps", "18+6 cold"),
        less("without its condition the high level is within 10 % of the single model, 18 steps (baseline times 1.1)",
             [1.1 * row["FD"] for row in rows["single 18"]], mine=dropped),
        claim("the large image pools to the small one it was told of, not to another", "root mean square", apart[0],
              apart[1], mean(apart[1]) < 0.5 * mean(apart[0]), "at most half of the baseline needed"),
        Claim("exact Gaussian of 16 pixels: 18 small and 6 large steps beat 15 full ones, of equal cost there",
              "relative error of the covariance", exact[:1], exact[1:], exact[1] < exact[0], "no sampling; warm at 2"),
    ]  # fmt: skip


@torch.no_grad()
def _features(net: FeatureNet, x: Tensor) -> Tensor:
    return torch.cat([net.features(part) for part in x.split(256)])


def _mean(rows: list[dict[str, float]], what: str) -> float:
    return mean([row[what] for row in rows])
