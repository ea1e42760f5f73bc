"""What a training step costs: the same network in our loop and in those of others, in turn in one process.

Before a loop is timed it must train: its own loss on fixed images falls, and every parameter moves.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch

from mezzotint.bench.overhead import _processor
from mezzotint.bench.peers import find_peer
from mezzotint.bench.train_memory import memory_of
from mezzotint.bench.train_ours import Ours
from mezzotint.bench.train_side import NETS, Problem, Side, problem
from mezzotint.bench.train_theirs import Alone, Diffusers, Lucidrains, SiT, SmallDiffusion
from mezzotint.papers.setting import hardware, versions

__all__ = ["GOAL", "SIDES", "Row", "check", "measure", "report"]

GOAL = 1.15  # of the fastest other loop's images a second

# name -> (what makes it, the distribution it needs)
SIDES: dict[str, tuple[Callable[[Problem], Side], str | None]] = {
    "mezzotint": (Ours, None),
    "mezzotint-plain": (lambda problem: Ours(problem, channels_last=False), None),
    "lucidrains": (Lucidrains, "denoising-diffusion-pytorch"),
    "smalldiffusion": (SmallDiffusion, "smalldiffusion"),
    "diffusers": (Diffusers, "diffusers"),
    "sit": (SiT, None),
    "alone": (Alone, None),
}
_NO_PEER = ("mezzotint", "mezzotint-plain", "alone")


@dataclass(frozen=True)
class Row:
    """One network in one loop: seconds a step (median and quartiles of the rounds), images a second, memory.

    Args:
        net, side, about: which network, whose loop, and what its step does.
        seconds, low, high: a step; of the processor on a CPU, of the clock elsewhere.
        rate: images a second, batch / seconds.
        ratio: its seconds over ours in the same round (above 1: we are faster), lower quartile, median and upper.
        memory: MiB that training took over what the process had before; None where it was not measured.
        loss: before and after the steps of the check.
        note: why there is no measurement.
    """

    net: str
    side: str
    about: str = ""
    seconds: float | None = None
    low: float | None = None
    high: float | None = None
    rate: float | None = None
    ratio: tuple[float, float, float] | None = None
    memory: float | None = None
    loss: tuple[float, float] | None = None
    note: str = ""


def measure(
    nets: Sequence[str] = tuple(NETS),
    sides: Sequence[str] = tuple(SIDES),
    *,
    steps: int = 50,
    rounds: int = 5,
    warmup: int = 10,
    batch: int = 64,
    device: str = "cpu",
    memory: bool = True,
    say: Callable[[str], None] = lambda line: None,
) -> list[Row]:
    """One row a network and loop; loops whose library is missing get a row that says so.

    Args:
        nets: of NETS.
        sides: of SIDES.
        steps: timed steps of each, in all rounds together.
        rounds: turns; the order of the loops turns with them.
        warmup: steps before, which also show that the loop trains.
        batch: images a step.
        device: of the networks.
        memory: also run each loop in a process of its own for its peak memory.
        say: told of the progress.

    Raises:
        ValueError: for unknown names or numbers out of range.
        RuntimeError: where a loop does not train.
    """
    for given, known in ((nets, NETS), (sides, SIDES)):
        if unknown := set(given) - set(known):
            raise ValueError(f"unknown {sorted(unknown)[0]!r}; expected some of {', '.join(known)}")
    if rounds < 1 or steps < rounds or warmup < 2 or batch < 16:
        raise ValueError(
            f"steps={steps}, rounds={rounds}, warmup={warmup}, batch={batch}; expected a step a round or more, "
            "2 steps of warm-up or more, and a batch of at least 16 (one of the loops asks for it)"
        )
    return [row for net in nets for row in _rows(net, sides, steps, rounds, warmup, batch, device, memory, say)]


def check(side: Side, problem: Problem, steps: int) -> tuple[float, float]:
    """Train for some steps; the loss on fixed images and numbers, before and after.

    Raises:
        RuntimeError: where the loss does not fall, or more than a twentieth of the parameters stay where they were (a
            bias in front of a normalisation may have no gradient but rounding).
    """
    x = problem.x[: problem.batch].to(problem.device)
    start = [p.detach().clone() for p in side.net.parameters()]
    before = _loss(side, x)
    side.advance(steps)
    after = _loss(side, x)
    moved = [not torch.equal(a, b) for a, b in zip(start, side.net.parameters(), strict=True)]
    if not after < before or sum(moved) < 0.95 * len(moved):
        raise RuntimeError(
            f"{side.name} does not train: loss {before:.4f} -> {after:.4f} in {steps} steps, {sum(moved)} of "
            f"{len(moved)} parameters moved; times would mean nothing"
        )
    return before, after


@torch.no_grad()
def _loss(side: Side, x: torch.Tensor) -> float:
    devices = [x.device] if x.device.type == "cuda" else []
    with torch.random.fork_rng(devices):
        torch.manual_seed(0)
        return float(side.loss(x))


def _rows(
    net: str, sides: Sequence[str], steps: int, rounds: int, warmup: int, batch: int, device: str, memory: bool,
    say: Callable[[str], None],
) -> list[Row]:  # fmt: skip
    what = problem(net, batch, device=device)
    loops: dict[str, Side] = {}
    rows: dict[str, Row] = {}
    losses: dict[str, tuple[float, float]] = {}
    try:
        for name in sides:
            make, needs = SIDES[name]
            if needs is not None and find_peer(needs).module is None:
                rows[name] = Row(net, name, note=find_peer(needs).reason)
                continue
            loops[name] = make(what)
            losses[name] = check(loops[name], what, warmup)
            say(f"{net}, {name}: loss {losses[name][0]:.3f} -> {losses[name][1]:.3f}")
        taken = _alternate(loops, steps // rounds, rounds, what.device, say)
    finally:
        for loop in loops.values():
            loop.close()
    for name, loop in loops.items():
        low, median, high = (round(value, 5) for value in _quartiles(taken[name]))
        paired = [theirs / own for theirs, own in zip(taken[name], taken.get("mezzotint", []))]
        a, b, c = (round(value, 3) for value in _quartiles(paired)) if paired else (0.0, 0.0, 0.0)
        used = memory_of(net, name, batch, device) if memory else None
        rows[name] = Row(
            net, name, loop.about, median, low, high, round(batch / median, 2), (a, b, c) if paired else None, used,
            losses[name],
        )  # fmt: skip
    return [rows[name] for name in sides]


def _alternate(
    loops: dict[str, Side], steps: int, rounds: int, device: torch.device, say: Callable[[str], None]
) -> dict[str, list[float]]:
    """Seconds a step of every loop in every round."""
    taken: dict[str, list[float]] = {name: [] for name in loops}
    names = list(loops)
    for turn in range(rounds if names else 0):
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            start = _now(device)
            loops[name].advance(steps)
            taken[name].append((_now(device) - start) / steps)
        say(f"round {turn + 1} of {rounds}")
    return taken


def _now(device: torch.device) -> float:
    """The processor's seconds, so that what else the machine does counts little; for a GPU the clock's."""
    if device.type == "cpu":
        return time.process_time()
    torch.cuda.synchronize(device)
    return time.perf_counter()


def _quartiles(values: Sequence[float]) -> tuple[float, float, float]:
    low, median, high = statistics.quantiles(values, n=4, method="inclusive") if len(values) > 1 else [*values] * 3
    return low, median, high


def report(rows: Sequence[Row], *, steps: int, rounds: int, batch: int, device: str = "cpu") -> dict[str, Any]:
    """What is written down: where, with what, how, the rows, and ours over the fastest other loop of each network."""
    needed = {needs for _, needs in SIDES.values() if needs}
    against: dict[str, Any] = {}
    for net in dict.fromkeys(row.net for row in rows):
        ratios = {row.side: row.ratio for row in rows if row.net == net and row.ratio and row.side not in _NO_PEER}
        if not ratios:
            continue
        best = min(ratios, key=lambda name: ratios[name][1])
        low, median, high = ratios[best]
        against[net] = {
            "fastest other": best, "ratio": median, "quartiles": [low, high], "goal met": median >= GOAL,
            "slower than": sorted(name for name, (_, middle, _) in ratios.items() if middle < 1),
        }  # fmt: skip
    threads = torch.get_num_threads()
    place = _processor().replace("one thread", f"{threads} threads") if device == "cpu" else hardware(device)
    return {
        "hardware": place,
        "threads": threads,
        "versions": {**versions(), **{name: find_peer(name).version for name in sorted(needed)}},
        "unit": "seconds a step: of the processor on a CPU, of the clock on a GPU",
        "batch": batch,
        "steps": steps,
        "rounds": rounds,
        "goal": GOAL,
        "ours over the fastest other": against,
        "rows": [asdict(row) for row in rows],
    }
