"""The driver of all solvers that take several evaluations a step: x_j = a x + b0 m0 + ... + s z at each stage."""

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

__all__ = ["Move", "Stage", "Staged"]


@dataclass(frozen=True)
class Stage:
    """Weights of one stage: of the step's start x, of the step's predictions m (oldest first), of a normal draw."""

    x: float
    m: tuple[float, ...]
    noise: float = 0.0


@dataclass(frozen=True)
class Move:
    """One step: where it ends, the times of its evaluations, and as many stages.

    Evaluation 0 is at the step's start; evaluation j is at the result of stage j - 1, which may use the predictions
    of evaluations 0 to j - 1; the result of the last stage is the state at `end`.
    """

    end: Node
    times: tuple[float, ...]
    stages: tuple[Stage, ...]


@dataclass(frozen=True)
class Staged(Sampler):
    """Linear in the state at the step's start and in the predictions made since; nothing is kept between steps.

    A solver is the method `moves`. It need not stop at every node of the grid: a step of n evaluations may span n
    intervals, so that the plan has fewer steps than the grid, and its own nodes. A stage of weights for x and p
    predictions is p + 1 tensor kernels besides the network.
    """

    @abstractmethod
    def moves(self, schedule: Schedule, nodes: Sequence[Node]) -> Sequence[Move]:
        """The steps of a run over the nodes of a grid, from nodes[0] to nodes[-1]."""

    def plan(self, schedule: Schedule, grid: Float[Tensor, " n"]) -> Plan:
        """See Sampler.plan; columns are x, noise, m0, ..., one group a stage, zeros where a step has fewer stages."""
        nodes = nodes_of(schedule, grid)
        moves = self.moves(schedule, nodes)
        most = max(len(move.stages) for move in moves)
        names = [f"{name}@{j}" for j in range(most) for name in ("x", "noise", *(f"m{i}" for i in range(j + 1)))]
        rows = [_row(move, len(names)) for move in moves]
        return Plan(
            (nodes[0], *(move.end for move in moves)), tuple(names), tuple(rows), tuple(move.times for move in moves)
        )

    def step(
        self, d: Denoiser, state: State, k: int, plan: Plan, c: Condition | None = None, noise: Noise | None = None
    ) -> State:
        """See Sampler.step."""
        row, at, x = plan.rows[k], 0, state.x
        seen: list[Tensor] = []
        for j in range(len(plan.calls[k])):
            seen.append(self.predict(d, x, k, plan, c, call=j))
            weight, spread, *by_age = row[at : at + j + 3]
            at += j + 3
            terms = [(weight, state.x), *zip(by_age, seen)]
            if spread and noise is not None:
                terms.append((spread, self.draw(noise, plan, k, j, x)))
            x = combine(*terms)
        return State(x, k + 1, seen[-1])

    def draw(self, noise: Noise, plan: Plan, k: int, stage: int, like: Tensor) -> Float[Tensor, "b *s"]:
        """The normal numbers of one stage of step k: ("step", k) for the last, ("stage j", k) for stage j before it.

        A sampler whose draws belong together (increments of one Brownian path) says so here.
        """
        purpose = "step" if stage == len(plan.calls[k]) - 1 else f"stage {stage}"
        return noise(purpose, k, like.shape[1:], dtype=like.dtype, device=like.device)


def _row(move: Move, width: int) -> tuple[float, ...]:
    assert len(move.times) == len(move.stages)
    row: list[float] = []
    for j, stage in enumerate(move.stages):
        assert len(stage.m) <= j + 1
        row += [stage.x, stage.noise, *stage.m, *(0.0,) * (j + 1 - len(stage.m))]
    return (*row, *(0.0,) * (width - len(row)))
