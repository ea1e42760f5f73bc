"""Steps chosen by an error estimate, for each sample on its own."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor

from mezzotint.core import Condition, Denoiser, Noise, Schedule
from mezzotint.core.grid import Grid
from mezzotint.sample.combine import combine
from mezzotint.sample.expint import psi0
from mezzotint.sample.loop import Sampler, State
from mezzotint.sample.plan import Node, Plan, nodes_of
from mezzotint.sample.singlestep import DPMSolverPPSingle, SingleStep
from mezzotint.sample.staged import Stage

__all__ = ["Adaptive", "AdaptiveState"]

_FIRST = 0.05  # the first step tried, in lambda (official code)
_SAFETY = 0.9
# A step is never changed by more than this, our choice: with growth by 5, as is usual elsewhere, samples step over
# what they should see and now and then miss the tolerance tenfold; 2 costs a tenth more evaluations.
_SHRINK, _GROW = 0.2, 2.0
# From alpha = 0 the first step is of first order and ends here, or lower for small tolerances: see Adaptive.
_LOWEST_LAMBDA = -5.1


@dataclass(frozen=True)
class AdaptiveState(State):
    """A state that knows what it cost.

    Args:
        nfe: network evaluations so far, one number a sample.
        rejected: how many steps were tried and not taken, one number a sample.
    """

    nfe: tuple[int, ...] = ()
    rejected: tuple[int, ...] = ()


@dataclass(frozen=True)
class Adaptive(Sampler):
    """An embedded pair in lambda: a step is taken if E = RMS((high - low) / max(atol, rtol max(|low|, |prev|))) <= 1.

    high is the solver's result, low the one of the next lower order from the same predictions, prev the last low. The
    next step is 0.9 E^(-1/order) times as long (between 0.2 and 2 times), whether this one was taken or not. E, t and
    the step belong to one sample: those that arrive leave the batch, and a sample alone is the same as in a batch, bit
    for bit, if the denoiser is. The run has no fixed plan: of the grid only the ends count (so `steps` may be left
    out), and the nodes of `plan` are the start, the end of the adaptive part and, if the grid ends at 0, the
    step from t_end to sigma = 0, x = m. From alpha = 0 one step of first order leads to where alpha^2, the scale of its
    error, is a tenth of the tolerance. The number of evaluations is in the states: `on_step=lambda k, s: print(s.nfe)`.

    To choose steps is to look at numbers: each round waits for the device, once. Gradients flow through the steps that
    were taken, not through their lengths.

    Args:
        solver: of order 2 or 3; its inner nodes give both results. The default measures best: on a Gaussian and a
            mixture, rtol from 0.1 to 1e-3, the root mean square of 64 final errors is 0.06 to 0.5 rtol, the largest
            of them 2.3 rtol. DPMSolverSingle makes this DPM-Solver-12 or -23.
        rtol: relative tolerance, > 0.
        atol: absolute tolerance, > 0, in the units of the data (2/256 is one grey level of pixels in [-1, 1]).
        t_end: where the adaptive part ends on grids that end at 0, in (0, 1).
        max_steps: how many steps, rejected ones included, a sample may take; >= 1.

    Raises:
        ValueError: for other values than these.
        RuntimeError: during a run, if a sample needs more steps than max_steps.

    Source: arXiv 2206.00927, appendix C (its batch shares one step; per sample is our choice).

    >>> from mezzotint.core import Gaussian, VP
    >>> d, last = Gaussian(torch.zeros(2), std=0.5).denoiser(VP()), []
    >>> _ = Adaptive()(d, torch.ones(1, 2), on_step=lambda k, state: last.append(state.nfe))
    >>> last[-1][0] < 100
    True
    """

    solver: SingleStep = field(default_factory=lambda: DPMSolverPPSingle(order=3, form="taylor"))
    rtol: float = 0.05
    atol: float = 0.0078
    t_end: float = 1e-3
    max_steps: int = 1000

    def __post_init__(self) -> None:
        if not isinstance(self.solver, SingleStep) or self.solver.order < 2:
            raise ValueError(f"Adaptive got solver={self.solver!r}; expected a single-step solver of order 2 or 3")
        for name in ("rtol", "atol"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"Adaptive got {name}={getattr(self, name)}; expected a finite number > 0, as 1e-3")
        if not 0 < self.t_end < 1:
            raise ValueError(f"Adaptive got t_end={self.t_end}; expected a time in (0, 1), as 1e-3")
        if isinstance(self.max_steps, bool) or not isinstance(self.max_steps, int) or self.max_steps < 1:
            raise ValueError(f"Adaptive got max_steps={self.max_steps!r}; expected a whole number >= 1")

    @property
    def order(self) -> int:  # type: ignore[override]
        """That of the solver; the error is held by the tolerance, not by a number of steps."""
        return self.solver.order

    def nfe(self, steps: int) -> int:
        """Not known before the run.

        Raises:
            ValueError: always; says where the number is found.
        """
        raise ValueError(
            "the evaluations of Adaptive depend on the sample and the tolerance, not on steps; run it and read nfe "
            "from the last state: on_step=lambda k, state: print(state.nfe)"
        )

    def plan(self, schedule: Schedule, grid: Float[Tensor, " n"]) -> Plan:
        """See Sampler.plan: at most three steps between its own nodes; `calls` hold their starts alone, not the NFE."""
        start, end = nodes_of(schedule, grid[[0, -1]])
        between: list[Node] = []
        if start.alpha == 0:
            lam = min(_LOWEST_LAMBDA, 0.5 * math.log(0.1 * min(self.atol, self.rtol)))
            between += nodes_of(schedule, schedule.t_of(torch.tensor([lam], dtype=torch.float64)))
        if end.sigma == 0:
            between += nodes_of(schedule, torch.tensor([self.t_end], dtype=torch.float64))
        nodes = [start]
        nodes += [n for n in between if end.t < n.t < start.t]
        nodes += [end]
        rows = [(t.lam - s.lam, t.sigma / s.sigma, t.alpha * psi0(t.lam - s.lam)) for s, t in zip(nodes, nodes[1:])]
        return Plan(tuple(nodes), ("h", "x", "m0"), tuple(rows), tuple((n.t,) for n in nodes[:-1]))

    def trajectory(
        self,
        d: Denoiser,
        x_T: Float[Tensor, "b *s"],
        *,
        steps: int | None = None,
        grid: Grid | Tensor | None = None,
        c: Condition | None = None,
        noise: Noise | None = None,
    ) -> Iterator[State]:
        """See Sampler.trajectory; `steps` may be left out, the states are those at the nodes of the plan."""
        if steps is None and grid is None:
            steps = 1
        return super().trajectory(d, x_T, steps=steps, grid=grid, c=c, noise=noise)

    def step(
        self, d: Denoiser, state: State, k: int, plan: Plan, c: Condition | None = None, noise: Noise | None = None
    ) -> AdaptiveState:
        """See Sampler.step: from node k to node k + 1, by as many steps as the tolerance asks for."""
        batch = len(state.x)
        nfe = state.nfe if isinstance(state, AdaptiveState) else (0,) * batch
        rejected = state.rejected if isinstance(state, AdaptiveState) else (0,) * batch
        h, weight, of_m = plan.rows[k]
        if math.isinf(h):
            m = self.predict(d, state.x, k, plan, c)
            x = combine((weight, state.x), (of_m, m))
            return AdaptiveState(x, k + 1, m, (), tuple(n + 1 for n in nfe), rejected)
        runs = [_Run(i, plan.nodes[k], _FIRST, row, row, row) for i, row in enumerate(state.x.split(1))]
        going = runs
        while going:
            self._round(d, going, plan.nodes[k + 1], c)
            going = [run for run in going if run.node is not plan.nodes[k + 1]]
        return AdaptiveState(
            torch.cat([run.x for run in runs]),
            k + 1,
            torch.cat([run.m for run in runs]),
            (),
            tuple(n + run.nfe for n, run in zip(nfe, runs)),
            tuple(n + run.rejected for n, run in zip(rejected, runs)),
        )

    def _round(self, d: Denoiser, runs: list[_Run], end: Node, c: Condition | None) -> None:
        """One step tried for every sample that is still under way; they share the calls of the network."""
        new = [run for run in runs if run.new]
        if new:
            found = _predicted(d, torch.cat([run.x for run in new]), [run.node.t for run in new], new, c)
            for run, m in zip(new, found.split(1)):
                run.m, run.new = m, False
        targets = [run.target(d.schedule, end) for run in runs]
        pairs = [self.solver.embedded(d.schedule, run.node, node) for run, node in zip(runs, targets)]
        x = torch.cat([run.x for run in runs])
        seen = [torch.cat([run.m for run in runs])]
        for j in range(1, self.solver.order):
            inner = _combined([move.stages[j - 1] for move, _ in pairs], x, seen)
            seen.append(_predicted(d, inner, [move.times[j] for move, _ in pairs], runs, c))
        high = _combined([move.stages[-1] for move, _ in pairs], x, seen)
        low = _combined([stage for _, stage in pairs], x, seen)
        errors = self._errors(high, low, torch.cat([run.low for run in runs]))
        for run, node, error, *results in zip(runs, targets, errors, high.split(1), low.split(1)):
            self._judge(run, node, error, *results)

    def _errors(self, high: Tensor, low: Tensor, before: Tensor) -> list[float]:
        scale = (self.rtol * torch.maximum(low.abs(), before.abs())).clamp(min=self.atol)
        squares = ((high - low) / scale).detach().square()
        # one row at a time: a mean over a batch could add in an order that depends on its size
        return torch.stack([row.mean() for row in squares]).sqrt().tolist()

    def _judge(self, run: _Run, node: Node, error: float, high: Tensor, low: Tensor) -> None:
        """Take the step or not, and choose the next one's length."""
        if not math.isfinite(error):
            raise FloatingPointError(
                f"sampling gave NaN or infinity: sample {run.index} between t = {run.node.t:.6g} and {node.t:.6g}. "
                "Check the network's output there (half precision overflows) and the guidance weight"
            )
        run.steps += 1
        if run.steps > self.max_steps:
            raise RuntimeError(
                f"sample {run.index} has taken {self.max_steps} steps ({run.rejected} of them rejected) and stands at "
                f"t = {run.node.t:.6g}, with steps of {run.h:.3g} in lambda; give larger rtol or atol, or max_steps"
            )
        tried = node.lam - run.node.lam
        factor = _SAFETY * error ** (-1 / self.order) if error > 0 else _GROW
        run.h = tried * min(max(factor, _SHRINK), _GROW)
        if error <= 1:
            run.node, run.x, run.low, run.new = node, high, low, True
        else:
            run.rejected += 1


@dataclass
class _Run:
    """One sample on its way: tensors of batch size 1; m is the prediction at x unless x is new."""

    index: int
    node: Node
    h: float
    x: Tensor
    low: Tensor
    m: Tensor
    new: bool = True
    nfe: int = 0
    steps: int = 0
    rejected: int = 0

    def target(self, schedule: Schedule, end: Node) -> Node:
        """Where the step of length h leads; `end` itself if it would lead there or past it."""
        lam = self.node.lam + self.h
        if lam >= end.lam:
            return end
        return nodes_of(schedule, schedule.t_of(torch.tensor([lam], dtype=torch.float64)))[0]


def _predicted(d: Denoiser, x: Tensor, times: Sequence[float], runs: Sequence[_Run], c: Condition | None) -> Tensor:
    """The data predictions, each sample at its own time."""
    t = torch.tensor(times, dtype=torch.float64).to(x.device, x.dtype)
    here = c.rows([run.index for run in runs]) if c is not None and len(c) else c
    x0 = d(x, t, here).x0.to(x.dtype)
    if x0.shape != x.shape:
        raise ValueError(f"the denoiser predicts data of shape {tuple(x0.shape)} for x of {tuple(x.shape)}")
    for run in runs:
        run.nfe += 1
    return x0


def _combined(stages: Sequence[Stage], x: Tensor, seen: Sequence[Tensor]) -> Tensor:
    """The same stage for every sample, each with its own weights."""
    rows = [(stage.x, *stage.m) for stage in stages]
    weights = torch.tensor(rows, dtype=torch.float64).to(x.device, x.dtype).view(len(x), -1, *[1] * (x.ndim - 1))
    # products and sums apart: a fused one may round by its place in the batch
    total = weights[:, 0] * x
    for i in range(weights.shape[1] - 1):
        total = total + weights[:, i + 1] * seen[i]
    return total
