"""How well every method restores, what it costs, and deepinv beside those that both have.

The same pictures, measurements, denoiser and number of network calls for all; a library's methods keep its own
defaults. Where deepinv has the method, ours runs a second time through the noise levels that deepinv's goes through,
so that the method and the choice of levels can be told apart.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

import torch

from mezzotint.bench.overhead import _processor
from mezzotint.bench.peers import find_peer
from mezzotint.bench.restore_case import CASES, Case, Prior, Run, case_of
from mezzotint.bench.restore_data import Pictures
from mezzotint.bench.restore_levels import their_times
from mezzotint.bench.restore_ours import BASELINES, restored, suits
from mezzotint.bench.restore_score import Scores, cost_of, scores
from mezzotint.bench.restore_theirs import THEIRS
from mezzotint.metric import load_features
from mezzotint.model import Model
from mezzotint.papers.interval import paired_interval
from mezzotint.papers.setting import hardware, versions
from mezzotint.restore.names import METHODS

__all__ = ["GOAL", "Pair", "RestoreRow", "measure", "report"]

GOAL = -0.1  # decibels that ours may be behind deepinv's
_OURS, _LEVELS, _THEIRS, _NONE = "mezzotint", "mezzotint, deepinv's levels", "deepinv", "no prior"


@dataclass(frozen=True)
class RestoreRow:
    """One method on one task; means over the pictures.

    Args:
        task, method, side: which, and whose.
        n: pictures.
        nfe: network calls a picture.
        psnr, psnr_error: decibels, and the standard error of the mean.
        ssim, perceptual, frechet: see `report`.
        consistency: |y - A x| / |y|.
        seconds: a picture, see `report`.
        memory: MiB at the peak over what was taken before, with `batch` pictures at once.
        note: why there is no measurement.
    """

    task: str
    method: str
    side: str
    n: int = 0
    nfe: int = 0
    psnr: float | None = None
    psnr_error: float | None = None
    ssim: float | None = None
    perceptual: float | None = None
    frechet: float | None = None
    consistency: float | None = None
    seconds: float | None = None
    memory: float | None = None
    note: str = ""


@dataclass(frozen=True)
class Pair:
    """Ours less deepinv's, decibels: the mean over the pictures and its 95 % interval.

    Args:
        task, method, theirs: our name and deepinv's.
        levels: "own" of each library, or "deepinv's" for both.
        difference, low, high: of the PSNR; above 0 ours is better.
        goal_met: difference >= GOAL.
    """

    task: str
    method: str
    theirs: str
    levels: str
    nfe: int
    difference: float
    low: float
    high: float
    goal_met: bool


def measure(
    model: Model,
    given: Pictures,
    *,
    tasks: Sequence[str] = tuple(CASES),
    methods: Sequence[str] = tuple(METHODS),
    nfe: int = 100,
    batch: int = 16,
    seed: int = 0,
    peers: bool = True,
    say: Callable[[str], None] = lambda line: None,
) -> tuple[list[RestoreRow], list[Pair]]:
    """The rows, and the pairs of those that both libraries have.

    Args:
        model: the prior, in pixel space.
        given: the pictures, of the model's size; 2 at least.
        tasks: of `CASES`.
        methods: of `METHODS`; what is done without a prior always comes with them.
        nfe: network calls a picture, of every method (fewer for those whose steps do not divide it).
        batch: pictures at once.
        seed: of measurements and methods.
        peers: also run deepinv's, if it is installed.
        say: told of the progress.

    Raises:
        ValueError: for unknown names, too few pictures or calls, or a latent model.
    """
    for names, known in ((tasks, CASES), (methods, METHODS)):
        if unknown := set(names) - set(known):
            raise ValueError(f"unknown {sorted(unknown)[0]!r}; expected some of {', '.join(known)}")
    if len(given.x) < 2 or nfe < 3 or batch < 1:
        raise ValueError(
            f"{len(given.x)} images, {nfe} network calls, batches of {batch}; expected 2, 3 and 1 at least"
        )
    if model.autoencoder.spec.factor > 1:
        raise ValueError(f"{model.name} works on latents; the methods are compared on a model of pixels")
    peer = find_peer("deepinv")
    if peers and peer.module is None:
        say(peer.reason)
    extractor = load_features().to(model.device)
    prior = Prior(*model.prior())
    rows: list[RestoreRow] = []
    pairs: list[Pair] = []
    for task in tasks:
        case = case_of(task, given.x.to(model.device), seed=seed)
        found: dict[tuple[str, str], Scores] = {}
        for row, score in _task(case, prior, methods, nfe, batch, peers and peer.module is not None, extractor, say):
            rows.append(row)
            if score is not None:
                found[row.side, row.method] = score
        pairs += _pairs(task, found, nfe)
    return rows, pairs


def _runs(case: Case, prior: Prior, methods: Sequence[str], nfe: int, peers: bool) -> dict[tuple[str, str], Run | str]:
    """(side, method) -> what runs it, or why it does not."""
    runs: dict[tuple[str, str], Run | str] = {}
    for name, run in BASELINES.items():
        linear = name != "total-variation" or case.operator.linear
        runs[_NONE, name] = run if linear else "needs a linear operator"
    for name in methods:
        why = suits(name, case)
        runs[_OURS, name] = why or partial(restored, name)
        if peers and not why and name in THEIRS:
            runs[_LEVELS, name] = partial(restored, name, grid=their_times(name, nfe, prior.schedule))
            runs[_THEIRS, name] = THEIRS[name][1]
    return runs


def _task(
    case: Case, prior: Prior, methods: Sequence[str], nfe: int, batch: int, peers: bool, extractor: Any,
    say: Callable[[str], None],
) -> list[tuple[RestoreRow, Scores | None]]:  # fmt: skip
    runs = _runs(case, prior, methods, nfe, peers)
    empty = {who: RestoreRow(case.task, who[1], who[0], note=run) for who, run in runs.items() if isinstance(run, str)}
    able = {who: run for who, run in runs.items() if not isinstance(run, str)}
    made: dict[tuple[str, str], list[torch.Tensor]] = {who: [] for who in able}
    rows = {who: RestoreRow(case.task, who[1], who[0], n=len(case.x), seconds=0.0) for who in able}
    names = list(able)
    for turn, start in enumerate(range(0, len(case.x), batch)):
        part = case.rows(start, start + batch)
        for who in names[turn % len(names) :] + names[: turn % len(names)]:  # in turn, and another first each time
            if who in empty:
                continue
            prior.calls = 0
            try:
                with torch.no_grad(), cost_of(part.x.device) as cost:
                    made[who].append(able[who](prior, part, nfe).detach())
            except (ValueError, FloatingPointError) as error:  # a method that does not take the task, or diverged
                empty[who] = replace(rows[who], n=0, seconds=None, note=str(error).splitlines()[0])
                continue
            row = rows[who]
            memory = None if cost.memory is None else round(max(cost.memory, row.memory or 0.0), 1)
            rows[who] = replace(row, nfe=prior.calls, seconds=(row.seconds or 0.0) + cost.seconds, memory=memory)
        say(f"{case.task}: {min(start + batch, len(case.x))} of {len(case.x)} images")
    found: list[tuple[RestoreRow, Scores | None]] = []
    for who in runs:
        if who in empty:
            found.append((empty[who], None))
            continue
        score = scores(torch.cat(made[who]), case, extractor)
        found.append((_filled(rows[who], score), score))
        row = found[-1][0]
        say(f"{case.task}, {row.side}, {row.method}: {row.psnr} dB, {row.nfe} calls, {row.seconds} s an image")
    return found


def _filled(row: RestoreRow, score: Scores) -> RestoreRow:
    return replace(
        row,
        psnr=round(float(score.psnr.mean()), 3),
        psnr_error=round(float(score.psnr.std()) / math.sqrt(row.n), 3),
        ssim=round(float(score.ssim.mean()), 4),
        perceptual=round(float(score.perceptual.mean()), 4),
        frechet=None if score.frechet is None else round(score.frechet, 4),
        consistency=round(float(score.consistency.mean()), 5),
        seconds=round((row.seconds or 0.0) / row.n, 5),
    )


def _pairs(task: str, found: dict[tuple[str, str], Scores], nfe: int) -> list[Pair]:
    pairs = []
    for (side, method), theirs in found.items():
        for levels, own in (("own", _OURS), ("deepinv's", _LEVELS)):
            if side != _THEIRS or (own, method) not in found:
                continue
            ours = found[own, method].psnr.tolist()
            low, high = (round(q, 3) for q in paired_interval(ours, theirs.psnr.tolist()))
            mean = round(sum(ours) / len(ours) - float(theirs.psnr.mean()), 3)
            pairs.append(Pair(task, method, THEIRS[method][0], levels, nfe, mean, low, high, mean >= GOAL))
    return pairs


def report(
    rows: Sequence[RestoreRow], pairs: Sequence[Pair], *, model: str, given: Pictures, nfe: int, batch: int, seed: int,
    device: str = "cpu",
) -> dict[str, Any]:  # fmt: skip
    """What is written down: where, with what, how, the rows, and ours less deepinv's."""
    threads = torch.get_num_threads()
    place = _processor().replace("one thread", f"{threads} threads") if device == "cpu" else hardware(device)
    return {
        "hardware": place,
        "threads": threads,
        "versions": {**versions(), "deepinv": find_peer("deepinv").version},
        "model": model,
        "data": given.about,
        "images": len(given.x),
        "nfe": nfe,
        "batch": batch,
        "seed": seed,
        "noise": {task: CASES[task] for task in dict.fromkeys(row.task for row in rows)},
        "unit": "seconds an image: of the processor on a CPU, of the clock on a GPU; memory in MiB for one batch",
        "measures": {
            "psnr": "decibels, images held to [-1, 1]",
            "ssim": "window 11, over channels",
            "perceptual": "PerceptualDistance on the shipped emoji-features network, its five maps alike; no LPIPS",
            "frechet": "of emoji-features, restored against true pictures; no FID, and biased upwards by about 1/n",
            "consistency": "|y - A x| / |y|",
        },
        "goal": GOAL,
        "behind by more than the goal allows": [
            f"{p.task}, {p.method}, {p.levels} levels: {p.difference:+.2f} dB ({p.low:+.2f} to {p.high:+.2f})"
            for p in pairs if not p.goal_met
        ],
        "ours less deepinv's": [asdict(pair) for pair in pairs],
        "rows": [asdict(row) for row in rows],
    }  # fmt: skip
