"""Error against network evaluations, for our solvers and for those of every peer that is installed."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

from mezzotint.bench.ours import OURS, deterministic, solved, steps_within
from mezzotint.bench.peers import PEERS, find_peer
from mezzotint.bench.problem import Problem, levels
from mezzotint.bench.theirs import THEIRS

__all__ = ["NFES", "Measured", "measure", "report", "slopes"]

NFES = (5, 6, 8, 10, 12, 15, 20, 24, 30, 40, 60, 80, 120, 160)


@dataclass(frozen=True)
class Measured:
    """One point of the chart.

    Args:
        library, solver: who.
        nfe: evaluations spent.
        steps: steps taken.
        rmse: root mean square error at the problem's low level; infinite where the result is not finite.
        equals: our sampler that computes the same, for a peer's solver.
        apart: largest difference from that sampler's result, None where there is none.
    """

    library: str
    solver: str
    nfe: int
    steps: int
    rmse: float
    equals: str = ""
    apart: float | None = None


def measure(
    problem: Problem,
    nfes: Iterable[int] = NFES,
    libraries: Sequence[str] = (OURS, *PEERS),
    say: Callable[[str], None] = lambda line: None,
) -> list[Measured]:
    """Solve the problem with every deterministic solver of these libraries, at every number of evaluations.

    All take the same steps, uniform in log noise level. A library that is not installed is left out (and said so).
    """
    rows: list[Measured] = []
    found = {name for name in libraries if name == OURS or find_peer(name).module is not None}
    for name in libraries:
        if name not in found:
            say(f"left out: {find_peer(name).reason}")
    for nfe in nfes:
        results = {}
        for name in deterministic():
            steps = steps_within(name, problem, nfe)
            if steps is not None:
                results[name, steps] = solved(name, problem, steps)
                rows.append(Measured(OURS, name, nfe, steps, problem.error(results[name, steps])))
        for solver in THEIRS:
            if solver.library not in found or nfe % solver.calls or nfe < solver.calls:
                continue
            steps = nfe // solver.calls
            with _silent():
                y = solver.solve(problem, levels(problem, steps))
            same = results.get((solver.equals, steps))
            apart = None if same is None else float((y.double() - same.double()).abs().max())
            rows.append(Measured(solver.library, solver.solver, nfe, steps, problem.error(y), solver.equals, apart))
        say(f"{problem.name}: {nfe} evaluations done")
    if OURS not in found:
        rows = [row for row in rows if row.library != OURS]
    return rows


def slopes(rows: Sequence[Measured]) -> dict[tuple[str, str], float]:
    """Measured order of each solver: log error against log steps between its two largest numbers of evaluations."""
    by_solver: dict[tuple[str, str], list[Measured]] = {}
    for row in rows:
        by_solver.setdefault((row.library, row.solver), []).append(row)
    found = {}
    for who, line in by_solver.items():
        line = sorted(line, key=lambda row: row.steps)
        # the last pair that is a doubling, or near it, and that still has an error to speak of
        pairs = [(a, b) for a in line for b in line if b.steps >= 1.8 * a.steps and b.rmse > 1e-9 and a.rmse < 1]
        if pairs:
            a, b = max(pairs, key=lambda pair: (pair[1].steps, pair[0].steps))
            found[who] = math.log(a.rmse / b.rmse) / math.log(b.steps / a.steps)
    return found


def report(problem: Problem, rows: Sequence[Measured]) -> dict[str, Any]:
    """Everything that was measured and with what, ready for JSON."""
    from mezzotint.papers.setting import hardware, versions

    peers = {name: find_peer(name).version for name in PEERS if any(row.library == name for row in rows)}
    return {
        "problem": problem.name,
        "truth": problem.solved_by,
        "levels": {"high": problem.high, "low": problem.low, "spacing": "uniform in log"},
        "samples": len(problem.start),
        "hardware": hardware("cpu"),
        "versions": {**versions(), **peers},
        "slopes": [{"library": a, "solver": b, "slope": round(v, 3)} for (a, b), v in slopes(rows).items()],
        "rows": [asdict(row) for row in rows],
    }


@contextmanager
def _silent():
    """Peers draw progress bars and warn on the error stream; that is not what is measured."""
    import warnings
    from contextlib import redirect_stderr

    with warnings.catch_warnings(), open(os.devnull, "w") as nowhere, redirect_stderr(nowhere):
        warnings.simplefilter("ignore")
        yield
