"""What a sampler costs beside the network: microseconds a step with a network that costs nothing.

Every library runs in this process on one thread, in turn, the order turning with each round; what counts is the median
of the rounds, with quartiles. Outputs are compared first: a number is only printed for runs that do the same.
"""

from __future__ import annotations

import platform
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mezzotint.bench.overhead_pairs import PAIRS, SOLVERS, Pair, our_run
from mezzotint.bench.peers import find_peer
from mezzotint.core import VP, Discrete, Noise, uniform_t
from mezzotint.papers.setting import one_thread, versions

__all__ = ["GOAL", "SHAPES", "Row", "Spread", "measure", "plan_cost", "report"]

SHAPES: tuple[tuple[int, ...], ...] = ((1, 4, 64, 64), (64, 3, 32, 32))
GOAL = 0.5  # of the fastest peer
AGREE = 1e-4


@dataclass(frozen=True)
class Spread:
    """Median and quartiles, microseconds a step."""

    median: float
    low: float
    high: float


@dataclass(frozen=True)
class Row:
    """One solver, one shape, one peer: its time and ours for the same run, and how far the outputs are apart."""

    solver: str
    shape: tuple[int, ...]
    peer: str | None
    theirs: Spread | None
    ours: Spread
    error: float | None
    note: str = ""

    @property
    def ratio(self) -> float | None:
        """Ours over theirs."""
        return None if self.theirs is None else self.ours.median / self.theirs.median


def measure(
    solvers: Sequence[str] = tuple(SOLVERS),
    shapes: Sequence[tuple[int, ...]] = SHAPES,
    steps: int = 50,
    rounds: int = 25,
) -> list[Row]:
    """One row a solver, shape and peer that can be imported; without any peer one row of ours.

    Args:
        solvers: of SOLVERS.
        shapes: of the state, batch first.
        steps: of a run. Plans are remembered, so that a run repeated costs what it costs a server; `plan_cost` tells
            the rest.
        rounds: runs of each library.

    Raises:
        ValueError: for an unknown solver or numbers below 1.
        RuntimeError: where the outputs of a peer and ours differ by more than 1e-4.
    """
    if unknown := set(solvers) - set(SOLVERS):
        raise ValueError(f"unknown solver {sorted(unknown)[0]!r}; expected some of {', '.join(SOLVERS)}")
    if steps < 15 or rounds < 1:
        raise ValueError(f"steps={steps}, rounds={rounds}; expected at least 15 (below, libraries differ) and 1")
    with one_thread():
        return [row for shape in shapes for solver in solvers for row in _rows(solver, tuple(shape), steps, rounds)]


def plan_cost(solver: str, steps: int = 50, rounds: int = 25) -> Spread:
    """Microseconds to make a plan on the Discrete schedule: what the first run of a setting costs more, once."""
    schedule = Discrete.linear()
    times = uniform_t(schedule, steps)
    with one_thread():
        return _alternate({solver: lambda: SOLVERS[solver].plan(schedule, times)}, rounds, 1)[solver]


def _rows(solver: str, shape: tuple[int, ...], steps: int, rounds: int) -> list[Row]:
    x = Noise(range(shape[0]))("x_T", 0, shape[1:])
    pairs, notes = _pairs(solver, x, steps)
    errors = {name: _error(name, solver, pair) for name, pair in pairs.items()}
    said = torch.zeros_like(x)
    runs = {(name, side): getattr(pair, side) for name, pair in pairs.items() for side in ("theirs", "ours")}
    if not pairs:
        runs = {("", "ours"): our_run(SOLVERS[solver], VP(), uniform_t(VP(), steps), x)}
    found = _alternate({key: lambda run=run: run(lambda y: said) for key, run in runs.items()}, rounds, steps)
    if not pairs:
        return [Row(solver, shape, None, None, found["", "ours"], None, "; ".join(notes))]
    return [Row(solver, shape, name, found[name, "theirs"], found[name, "ours"], errors[name]) for name in pairs]


def _pairs(solver: str, x: Tensor, steps: int) -> tuple[dict[str, Pair], list[str]]:
    """The peers that can be had, and why the others cannot."""
    pairs, notes = {}, []
    for name, make in PAIRS.items():
        if find_peer(name).module is None:
            notes.append(find_peer(name).reason)
            continue
        try:
            pairs[name] = make(solver, x, steps)
        except NotImplementedError as reason:
            notes.append(str(reason))
    return pairs, notes


def _error(name: str, solver: str, pair: Pair) -> float:
    def net(y: Tensor) -> Tensor:
        return 0.5 * torch.tanh(y)

    error = float((pair.theirs(net) - pair.ours(net)).abs().max())
    if not error <= AGREE:
        raise RuntimeError(f"{solver}: the outputs of {name} and ours differ by {error:.3g}; times would mean nothing")
    return error


def _alternate(runs: dict[Any, Callable[[], Any]], rounds: int, steps: int) -> dict[Any, Spread]:
    """Seconds of the processor, so that what else the machine does counts little; two warm-ups."""
    taken: dict[Any, list[float]] = {key: [] for key in runs}
    keys = list(runs)
    for turn in range(rounds + 2):
        for key in keys[turn % len(keys) :] + keys[: turn % len(keys)]:
            start = time.process_time()
            runs[key]()
            if turn >= 2:
                taken[key].append((time.process_time() - start) * 1e6 / steps)
    return {key: _spread(values) for key, values in taken.items()}


def _spread(values: list[float]) -> Spread:
    low, median, high = statistics.quantiles(values, n=4, method="inclusive") if len(values) > 1 else values * 3
    return Spread(round(median, 2), round(low, 2), round(high, 2))


def report(rows: Sequence[Row], steps: int, rounds: int) -> dict[str, Any]:
    """What is written down: where, with what, how, the rows, and ours over the fastest peer of a solver and shape."""
    libraries = {name: find_peer(name).version for name in PAIRS if find_peer(name).version}
    against: dict[str, Any] = {}
    for row in rows:
        name = f"{row.solver} {row.shape}"
        best = against.get(name)
        if row.theirs is not None and (best is None or row.theirs.median < best["theirs"]):
            ratio = row.ours.median / row.theirs.median
            against[name] = {
                "peer": row.peer, "theirs": row.theirs.median, "ours": row.ours.median,
                "ratio": round(ratio, 3), "goal met": ratio <= GOAL,
            }  # fmt: skip
    return {
        "hardware": _processor(),
        "versions": {**versions(), **libraries},
        "unit": "microseconds of processor time a step, one thread",
        "steps": steps,
        "rounds": rounds,
        "plan, once, microseconds": {
            name: asdict(plan_cost(name, steps, rounds)) for name in sorted({row.solver for row in rows})
        },
        "goal": GOAL,
        "fastest peer": against,
        "rows": [{**asdict(row), "shape": list(row.shape), "ratio": row.ratio} for row in rows],
    }


def _processor() -> str:
    """The processor's name where the system tells it."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return f"{names[0] if names else platform.processor() or platform.machine()}, one thread"
