"""The driver of all solvers that take one evaluation a step: x' = a x + b0 m0 + b1 m1 + ... + s z."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from mezzotint.core import Condition, Denoiser, Noise, Schedule
from mezzotint.sample.combine import combine
from mezzotint.sample.loop import Sampler, State
from mezzotint.sample.plan import Node, Plan, nodes_of

__all__ = ["Multistep", "Row"]


@dataclass(frozen=True)
class Row:
    """Weights of one step: of x, of the data predictions m (newest first), of a standard normal draw."""

    x: float
    m: tuple[float, ...]
    noise: float = 0.0


@dataclass(frozen=True)
class Multistep(Sampler):
    """Linear in the state and the data predictions of the last nodes; one network evaluation a step.

    A solver is the method `row`. Its differences of predictions are folded into one weight a prediction, so a step
    of order p is p + 1 tensor kernels besides the network.
    """

    @abstractmethod
    def row(self, nodes: Sequence[Node], k: int) -> Row:
        """The weights of the step from nodes[k] to nodes[k + 1]."""

    def plan(self, schedule: Schedule, grid: Float[Tensor, " n"]) -> Plan:
        """See Sampler.plan; columns are x, noise, m0, m1, ...."""
        nodes = nodes_of(schedule, grid)
        made = [self.row(nodes, k) for k in range(len(nodes) - 1)]
        width = max(len(r.m) for r in made)
        rows = tuple((r.x, r.noise, *r.m, *(0.0,) * (width - len(r.m))) for r in made)
        names = ("x", "noise", *(f"m{i}" for i in range(width)))
        return Plan(nodes, names, rows, tuple((n.t,) for n in nodes[:-1]))

    def step(
        self, d: Denoiser, state: State, k: int, plan: Plan, c: Condition | None = None, noise: Noise | None = None
    ) -> State:
        """See Sampler.step.

        Raises:
            ValueError: if the state's history is shorter than this step of the plan needs.
        """
        weight, spread, *by_age = plan.rows[k]
        m = self.predict(d, state.x, k, plan, c)
        seen = (m, *state.history)
        if len(by_age) > len(seen) and any(by_age[len(seen) :]):
            raise ValueError(
                f"step {k} needs predictions of earlier nodes but the history holds {len(state.history)}; "
                "a run that is cut or edited starts again with a plan of its own"
            )
        terms = [(weight, state.x), *zip(by_age, seen)]
        if spread and noise is not None:
            terms.append((spread, noise("step", k, m.shape[1:], dtype=m.dtype, device=m.device)))
        return State(combine(*terms), k + 1, m, seen[: len(by_age) - 1])
