"""2409.02426, diffusion models learn by subspace clustering: the demonstration of the sheet's section 7.

A: subspaces of n = 48 from N samples: PCA, K-subspaces and a trained low-rank denoiser, on the same samples. B: an MLP
(0.3 M parameters, EDM's loss) on two subspaces: from how many samples on it makes new ones; the published copy
detector is replaced by distances. C: directions in pictures of discs whose colour, size and place are known, against
random ones of the same length. The equivalence of A is for the matched denoiser; B's net needs far more data.
Cut to 20 minutes of one core: three trials, 3000 steps of Adam and 10 restarts (A), 10 s of training a net (B) and
60 s (C), 8 pictures a trial, t = 0.7, length 1 in units of |x_t| / sqrt(n). All settings were fixed before a full run.
"""

from __future__ import annotations

import math
import time
from collections import namedtuple
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from mezzotint.core import Noise, fold
from mezzotint.interpret import (
    PCA,
    KSubspaces,
    TrainedSubspaces,
    edit_strip,
    half_point,
    phase_transition,
    semantic_directions,
    state_at,
)
from mezzotint.io.picture import grid, pixels, write_png
from mezzotint.papers.claim import Claim, entries_of, mean
from mezzotint.papers.ledger import LedgerEntry
from mezzotint.papers.setting import one_thread
from mezzotint.papers.subspace_arms import drawn_discs, explained, factors, judged_union, train_discs

PAPER, T, RANK = "2409.02426", 0.7, 5
# trials. A: dimensions, N / d, steps, restarts. B: dimensions, N / d, seconds, samples. C: seconds, pictures, steps.
Budget = namedtuple("Budget", "trials dims ratios adam restarts sizes per seconds drawn disc_seconds pictures ddim")
QUICK = Budget(2, (3,), (0.5, 1, 4), 100, 3, (3, 6), (4, 64), 0.5, 32, 3.0, 2, 4)
FULL = Budget(3, (3, 6), (0.5, 1, 2, 4, 8), 3000, 10, (3, 6, 9), (4, 16, 64, 256), 10.0, 256, 60.0, 8, 30)
Row = dict[str, float]


def demonstrate(
    *, quick: bool, seed: int, device: str, out: Path | None, say: Callable[[str], None]
) -> list[LedgerEntry]:
    """Run the three parts for each trial."""
    if device not in ("cpu", "auto"):
        raise ValueError(f"this demonstration counts processor seconds and runs on the cpu, not on {device!r}")
    begun, budget, rows = time.monotonic(), QUICK if quick else FULL, []
    trials = tuple(range(seed, seed + budget.trials))
    with one_thread():
        for trial in trials:
            row = _recovered(trial, budget) | _new(trial, budget)
            rows.append(row | _edited(trial, budget, out if trial == seed else None))
            say(f"seed {trial}: " + ", ".join(f"{key} {value:.4g}" for key, value in rows[-1].items()))
    exact, small = (partial(Claim, seeds=trials, scale=scale) for scale in ("exact", "cpu-small"))
    return entries_of(PAPER, _claims(rows, exact, small), quick=quick, device=device, setting=f"{budget}, one thread",
                      seconds=time.monotonic() - begun)  # fmt: skip


def _recovered(trial: int, budget: Budget) -> Row:
    """A: errors of each solver, mean over dimensions, and how far the trained one is from the direct one."""
    row, trained = Row(), TrainedSubspaces(steps=budget.adam, restarts=budget.restarts)
    for k, direct in ((1, PCA()), (2, KSubspaces(budget.restarts))):
        run = partial(phase_transition, dims=budget.dims, ratios=budget.ratios, components=k, trials=1, seed=trial)
        ours, theirs = (run(solve).errors[..., 0] for solve in (trained, direct))
        row[f"A K={k} apart"] = float((ours / theirs - 1).abs().max())
        for name, errors in (("trained", ours), ("direct", theirs)):
            row |= {f"A K={k} {name} {r:g}": v for r, v in zip(budget.ratios, errors.mean(0).tolist(), strict=True)}
    return row


def _new(trial: int, budget: Budget) -> Row:
    """B: the share of new samples, and where it passes one half, which must lie in the range that was measured."""
    row, points = Row(), {}
    for d in budget.sizes:
        told = [judged_union(trial, d, ratio, budget.seconds, budget.drawn) for ratio in budget.per]
        for ratio, (new, off) in zip(budget.per, told, strict=True):
            row |= {f"B new d={d} N/d={ratio}": new, f"B off d={d} N/d={ratio}": off}
        points[d] = half_point(budget.per, [new for new, _ in told])
        row[f"B half d={d}"] = points[d].point
    found = [(p.point, p.point * d) for d, p in points.items()]
    spread, in_n = (max(column) / min(column) for column in zip(*found, strict=True))
    seen = all(p.bracketed for p in points.values())
    if not seen:  # no spread was measured: the criterion stands in, an effect of nothing
        spread = in_n = 2.0
    return row | {"B found": float(seen), "B spread N/d": spread, "B spread N": in_n}


def _edited(trial: int, budget: Budget, out: Path | None) -> Row:
    """C: by how much directions move D and the finished picture, and how often one factor explains the change."""
    d, f = train_discs(budget.disc_seconds, trial), factors(trial, budget.pictures, "test")
    with torch.no_grad():
        x_t = state_at(d, drawn_discs(f).float(), T, steps=budget.ddim)
    found = semantic_directions(d, x_t, T, RANK)
    random = Noise([fold(trial, "random", i) for i in range(len(f))])("random", 0, (RANK, *x_t.shape[1:]))
    random = random / random.flatten(2).norm(dim=2)[..., None, None, None]
    row, shown = Row({"C gap": float(found.gap.mean()), "C converged": float(found.converged.double().mean())}), []
    for name, v in (("top", found.vectors), ("random", random)):
        told: dict[str, list[Tensor]] = {"jump": [], "edit": [], "one factor": []}
        for i in range(RANK):
            with torch.no_grad():
                strip = edit_strip(d, x_t, T, v[:, i], [-1, 0, 1], steps=budget.ddim)
                level = x_t.flatten(1).norm(dim=1).view(-1, 1, 1, 1) / math.sqrt(x_t[0].numel())
                t = torch.full((len(x_t),), T)
                jump = d(x_t + level * v[:, i], t).x0 - d(x_t, t).x0
            told["jump"].append(jump.flatten(1).norm(dim=1))
            told["edit"].append((strip[2] - strip[1]).flatten(1).norm(dim=1))
            told["one factor"].append((explained(strip[2] - strip[0], f) > 0.5).double())
            shown += [strip[k][:1] for k in range(3)] if name == "top" else []
        row |= {f"C {key} {name}": float(torch.stack(values).double().mean()) for key, values in told.items()}
    if out is not None:
        write_png(out / "directions.png", grid(pixels(torch.cat(shown))))
    return row


def _claims(rows: list[Row], exact: Callable[..., Claim], small: Callable[..., Claim]) -> list[Claim]:
    def claim(text: str, measure: str, ours: str, base: str | float, times: float = 1.0, **more: str) -> Claim:
        made = [row[ours] for row in rows]
        other = [times * row[base] if isinstance(base, str) else base for row in rows]
        better = mean(made) >= mean(other) if more.get("direction") == "higher" else mean(made) <= mean(other)
        better &= text[0] != "B" or all(row["B found"] for row in rows)
        note = "; ".join(f"{key} {mean([row[key] for row in rows]):.4g}" for key in rows[0] if key[0] == text[0])
        return (exact if text[0] == "A" else small)(text, measure, other, made, better, f"Means: {note}", **more)

    error, far = "projection error (Frobenius)", "|D(x + av) - D(x)|"
    part, spread = "share with R^2 > 0.5 in one factor", "largest over least half point"
    return [
        claim("A, K = 1: the trained denoiser's error is PCA's within 20 %", "largest deviation", "A K=1 apart", 0.2),
        claim("A, K = 2: the trained denoiser's error is that of K-subspaces within 20 %", "largest deviation",
              "A K=2 apart", 0.2),
        claim("A, K = 1: N = d samples halve the error of d / 2", error, "A K=1 trained 1", "A K=1 trained 0.5", 0.5),
        claim("A, K = 2: N_k = d samples of each suffice (error below 0.5)", error, "A K=2 trained 1", 0.5),
        claim("B: the points where half is new lie within a factor of 2 in N / d", spread, "B spread N/d", 2.0),
        claim("B: they lie closer together in N / d than in N", spread, "B spread N/d", "B spread N"),
        claim("C: leading directions move D 5 times as far as random ones", far, "C jump top", "C jump random", 5.0,
              direction="higher"),
        claim("C: and the finished picture (ours)", "distance of pictures", "C edit top", "C edit random", 5.0,
              direction="higher"),
        claim("C: one factor explains the change more often than for random ones", part, "C one factor top",
              "C one factor random", direction="higher"),
    ]  # fmt: skip
