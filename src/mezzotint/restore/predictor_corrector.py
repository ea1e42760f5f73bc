"""Score-MRI: predictor and corrector, with the measured part put back after every update."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from mezzotint.core import Condition, Denoiser, Noise, Schedule
from mezzotint.restore.fit import check_fit
from mezzotint.restore.operators import LinearOperator
from mezzotint.restore.operators.krylov import rows_dot
from mezzotint.restore.problem import Problem
from mezzotint.restore.restorer import SampledRestorer
from mezzotint.sample.ddpm import DDPM
from mezzotint.sample.loop import Sampler, State
from mezzotint.sample.plan import Node, Plan

__all__ = ["PredictorCorrector"]

_POWER, _SLACK = 20, 1.02  # steps of the power iteration; how far above 1 the norm of A may seem


@dataclass(frozen=True)
class PredictorCorrector(SampledRestorer):
    """x <- predictor(x); x <- x + A*(alpha y - A x); x <- corrector(x); x <- x + A*(alpha y - A x).

    The corrector is a step of Langevin dynamics with the score s = (alpha D - x) / sigma^2,

        x <- x + e s + sqrt(2 e) z,   e = 2 (snr |z| / |s|)^2

    so a step has 1 + corrections network calls and no backward pass; the last one, to sigma = 0, has no corrector. The
    measurement is put in without noise at every level, as in the paper: the result explains y whatever its noise, so
    it is for small noise. It is no exact posterior sampler, and A must not enlarge: |A| <= 1, as of one coil of MRI,
    masks, or coils whose maps have sum of squares 1.

    Args:
        corrections: Langevin steps a step, >= 0.
        snr: r of the corrector, > 0.
        predictor: ancestral, or any sampler.

    Raises:
        ValueError: for values outside these ranges; when called, as Restorer, for an operator that is not linear or
            enlarges.

    Source: Chung and Ye 2022 (Score-MRI, arXiv 2110.05243), algorithm 1, as arXiv 2211.07804 tells it; there alpha = 1.

    >>> from mezzotint.core import VE, Gaussian, Noise
    >>> from mezzotint.restore.operators import Matrix
    >>> d = Gaussian(torch.zeros(2), std=1.0).denoiser(VE())
    >>> PredictorCorrector()(d, Matrix(torch.eye(2)), torch.ones(1, 2), Noise([0]), steps=9).round().tolist()
    [[1.0, 1.0]]
    """

    corrections: int = 1
    snr: float = 0.16
    predictor: Sampler = field(default_factory=DDPM)
    linear: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if isinstance(self.corrections, bool) or not isinstance(self.corrections, int) or self.corrections < 0:
            raise ValueError(f"PredictorCorrector got corrections={self.corrections!r}; expected a whole number >= 0")
        if not 0 < self.snr < math.inf:
            raise ValueError(f"PredictorCorrector got snr={self.snr}; expected a finite number > 0, about 0.16")

    def sampler(self, problem: Problem) -> Sampler:
        """See SampledRestorer.sampler."""
        check_fit(problem)
        norm = _norm(problem)
        if norm > _SLACK:
            raise ValueError(
                f"PredictorCorrector adds A*(y - A x), which diverges where |A| > 1; this operator has {norm:.3g}. "
                "Divide it and y by that, or take DDNM or DiffPIR"
            )
        return _Steps(self.predictor, problem, self.corrections, self.snr)


def _norm(problem: Problem) -> float:
    """|A| of the largest row, by power iteration from the guess and a bit of everything."""
    x = problem.guess + Noise([0])("norm", 0, tuple(problem.guess.shape[1:])).to(problem.guess)
    operator, size = problem.operator, rows_dot(x, x)
    assert isinstance(operator, LinearOperator)
    with torch.no_grad():
        for _ in range(_POWER):
            x = x / size.sqrt().clamp_min(1e-30)
            x = operator.adjoint(operator(x))
            size = rows_dot(x, x)
    return float(size.max()) ** 0.25


@dataclass(frozen=True)
class _Steps(Sampler):
    base: Sampler
    problem: Problem
    corrections: int
    snr: float

    @property
    def order(self) -> int:  # type: ignore[override]  # the base's, not the class's
        return self.base.order

    @property
    def stochastic(self) -> bool:
        return self.base.stochastic or self.corrections > 0

    def nfe(self, steps: int) -> int:
        return self.base.nfe(steps) + self.corrections * (steps - 1)

    def first_order(self, nodes: Sequence[Node], k: int) -> float:
        return self.base.first_order(nodes, k)

    def plan(self, schedule: Schedule, grid: Float[Tensor, " n"]) -> Plan:
        made = self.base.plan(schedule, grid)
        after = [(node.t,) * (self.corrections if node.sigma > 0 else 0) for node in made.nodes[1:]]
        return replace(made, calls=tuple(own + more for own, more in zip(made.calls, after, strict=True)))

    def step(
        self, d: Denoiser, state: State, k: int, plan: Plan, c: Condition | None = None, noise: Noise | None = None
    ) -> State:
        made, node = self.base.step(d, state, k, plan, c, noise), plan.nodes[k + 1]
        x = self._consistent(made.x, node)
        if node.sigma == 0:
            return replace(made, x=x)
        assert noise is not None or not self.corrections
        first = len(plan.calls[k]) - self.corrections
        for j in range(self.corrections):
            x0 = self.predict(d, x, k, plan, c, first + j)
            score = (node.alpha * x0 - x) / node.sigma**2
            assert noise is not None
            z = noise(f"corrector {j}", k, tuple(x.shape[1:]), dtype=x.dtype, device=x.device)
            e = 2 * self.snr**2 * rows_dot(z, z) / rows_dot(score, score).clamp_min(1e-30)
            x = self._consistent(x + e * score + (2 * e).sqrt() * z, node)
        return replace(made, x=x)

    def _consistent(self, x: Tensor, node: Node) -> Tensor:
        operator = self.problem.operator
        assert isinstance(operator, LinearOperator)
        return x + operator.adjoint(node.alpha * self.problem.y.to(x.dtype) - operator(x))
