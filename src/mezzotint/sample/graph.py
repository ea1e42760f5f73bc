"""A sampler whose whole step is one CUDA graph: the host says "again", and waits for nothing.

The step reads everything from fixed places on the device: x and the predictions of earlier nodes, and from tables of
the plan its weights (`Plan.table`) and its time, at a counter that the step itself advances. So one graph serves any
number of steps, any grid and any solver with as many weights. On a device without graphs the same step runs as it is,
which is how it is tested there.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from mezzotint.core import Condition, Denoiser, Noise, Schedule
from mezzotint.nn.site import any_opened
from mezzotint.sample.loop import Sampler, State, _check_finite
from mezzotint.sample.multistep import Multistep
from mezzotint.sample.plan import Plan
from mezzotint.sample.remembered import planned

__all__ = ["Replayed", "TableStep", "replayable"]

_WARM_UPS = 3
_KEPT = 4


def replayable(sampler: Sampler) -> bool:
    """Whether the step is one evaluation and one weighted sum: `Multistep` and what does not change its step."""
    return (
        isinstance(sampler, Multistep) and type(sampler).step is Multistep.step and type(sampler)._run is Sampler._run
    )


class TableStep:
    """One step x' = w_x x + w_n z + w_0 m_0 + w_1 m_1 + ... by fixed tensors.

    Args:
        d: the denoiser; what it computes may depend on tensors alone, not on numbers read from them.
        x: an example of the state, (b, *s).
        c: an example of the condition.
        width: predictions that are weighed.
        rows: the most steps of a plan.
    """

    def __init__(self, d: Denoiser, x: Tensor, c: Condition | None, width: int, rows: int) -> None:
        self.d = d
        self.x, self.z = torch.zeros_like(x), torch.zeros_like(x)
        self.history = [torch.zeros_like(x) for _ in range(max(1, width - 1))]  # newest first
        self.c = None if c is None else _copied(c)
        self.table, self.clock, self.sums = x.new_zeros(rows, 2 + width), x.new_zeros(rows), x.new_zeros(rows)
        self.k = torch.zeros(1, dtype=torch.int64, device=x.device)
        self._graph: Any = None

    def load(self, x: Tensor, c: Condition | None, plan: Plan) -> None:
        """Fill the fixed places for a run."""
        self.x.copy_(x)
        for past in self.history:
            past.zero_()
        self.table[: plan.steps].copy_(plan.table(dtype=self.table.dtype))
        self.clock[: plan.steps].copy_(torch.tensor([call[0] for call in plan.calls], dtype=torch.float64))
        self.k.zero_()
        if self.c is not None and c is not None:
            for fixed, given in ((self.c, c), (self.c.null_rows, c.null_rows)):
                for key, value in given.items():
                    fixed[key].copy_(value)

    def capture(self) -> None:
        """Record the step as a CUDA graph; before `load`, as it runs a few times to warm up."""
        side = torch.cuda.Stream(self.x.device)
        side.wait_stream(torch.cuda.current_stream(self.x.device))
        with torch.cuda.stream(side):
            for _ in range(_WARM_UPS):
                self.k.zero_()
                self.step()
        torch.cuda.current_stream(self.x.device).wait_stream(side)
        self.k.zero_()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            self.step()
        self._graph = graph

    def again(self) -> None:
        """One step: the graph where there is one."""
        if self._graph is None:
            self.step()
        else:
            self._graph.replay()

    def step(self) -> None:
        """The step itself, of device tensors alone."""
        row = self.table.index_select(0, self.k)[0].unbind()
        t = self.clock.index_select(0, self.k).expand(len(self.x))
        m = self.d(self.x, t, self.c).x0.to(self.x.dtype)
        after = torch.mul(self.x, row[0])
        # a weight of zero leaves out its term: what is multiplied is finite wherever the run is
        for weight, part in ((row[1], self.z), (row[2], m), *zip(row[3:], self.history)):
            after = torch.addcmul(after, part, weight)
        self.sums.index_copy_(0, self.k, m.sum().view(1))
        for older, newer in zip(self.history[::-1], [*self.history[-2::-1], m]):
            older.copy_(newer)
        self.x.copy_(after)
        self.k.add_(1)


@dataclass(frozen=True)
class Replayed(Sampler):
    """A multistep sampler run by fixed tensors and, on CUDA, as one graph a step.

    The result is the base's to rounding: weights and times are in the dtype of the state there, and the schedule is
    evaluated on the device. States that are handed out are copies. A denoiser whose step cannot be recorded (one that
    reads a number from the device, such as guidance in an interval) runs as ever, with a warning; so does, without
    one, what is called with gradients enabled or has handlers of attention open.

    Args:
        base: a sampler for which `replayable` holds.

    Raises:
        ValueError: for any other sampler.
    """

    base: Multistep
    _steps: dict[Any, TableStep] = field(default_factory=dict, compare=False, repr=False)

    def __post_init__(self) -> None:
        if not replayable(self.base):
            raise ValueError(
                f"{type(self.base).__name__} has a step of its own, which is not replayed; use it as it is, or one of "
                "the multistep samplers (ddim, dpmpp-2m, ...)"
            )

    @property
    def order(self) -> int:  # type: ignore[override]
        """The base's."""
        return self.base.order

    @property
    def stochastic(self) -> bool:
        """As the base."""
        return self.base.stochastic

    def nfe(self, steps: int) -> int:
        """As the base."""
        return self.base.nfe(steps)

    def first_order(self, nodes: Any, k: int) -> float:
        """See Sampler.first_order."""
        return self.base.first_order(nodes, k)

    def plan(self, schedule: Schedule, grid: Float[Tensor, " n"]) -> Plan:
        """The base's plan."""
        return planned(self.base, schedule, grid)

    def step(
        self, d: Denoiser, state: State, k: int, plan: Plan, c: Condition | None = None, noise: Noise | None = None
    ) -> State:
        """The base's step, by floats: for a run that is driven from outside."""
        return self.base.step(d, state, k, plan, c, noise)

    def _run(self, d: Denoiser, state: State, plan: Plan, c: Condition | None, noise: Noise | None) -> Iterator[State]:
        x = state.x
        made = None if torch.is_grad_enabled() or any_opened() else self._made(d, x, c, plan)
        if made is None:
            yield from self.base._run(d, state, plan, c, noise)
            return
        made.load(x, c, plan)
        for k in range(plan.steps):
            if plan.rows[k][1] and noise is not None:
                made.z.copy_(noise("step", k, x.shape[1:], dtype=x.dtype, device=x.device))
            made.again()
            yield State(made.x.clone(), k + 1, made.history[0].clone())
        _check_finite(list(made.sums[: plan.steps].unbind()), made.x, plan)

    def _made(self, d: Denoiser, x: Tensor, c: Condition | None, plan: Plan) -> TableStep | None:
        """The step for these shapes, recorded where there are graphs; None where it cannot be."""
        width, rows = len(plan.columns) - 2, max(64, 1 << (plan.steps - 1).bit_length())
        key = (_signature(d), x.shape, x.dtype, x.device, _shape_of(c), width)
        made = self._steps.get(key) if key[0] is not None else None
        if made is not None and len(made.clock) >= plan.steps:
            return made
        made = TableStep(d, x, c, width, rows)
        if x.device.type == "cuda":
            try:
                made.load(x, c, plan)  # so that the warm-up computes with numbers as they come
                made.capture()
            except RuntimeError as error:
                warnings.warn(f"the step cannot be replayed as a graph and runs as it is: {error}", stacklevel=4)
                return None
        if key[0] is not None:
            while len(self._steps) >= _KEPT:
                self._steps.pop(next(iter(self._steps)))
            self._steps[key] = made
        return made


def _copied(c: Condition) -> Condition:
    return Condition({k: v.clone() for k, v in c.items()}, {k: v.clone() for k, v in c.null_rows.items()})


def _shape_of(c: Condition | None) -> Any:
    if c is None:
        return None
    return tuple((k, v.shape, v.dtype) for part in (c, c.null_rows) for k, v in sorted(part.items()))


def _signature(d: Denoiser) -> Any | None:
    """What a recorded step depends on besides its tensors: the chain of denoisers by value, the network and where its
    weights lie. None if something in the chain has no value to compare."""
    told: list[Any] = [tuple(t.data_ptr() for t in (*d.parameters(), *d.buffers()))]
    for part in d.modules():
        if isinstance(part, Denoiser):
            own = {name: value for name, value in vars(part).items() if not name.startswith("_")}
            told.append((type(part), tuple(sorted(own.items(), key=lambda item: item[0]))))
        else:
            told.append((id(part), vars(part).get("forward") is not None))  # a block compiled for now has its own
    try:
        hash(tuple(told))
    except TypeError:
        return None
    return tuple(told)
