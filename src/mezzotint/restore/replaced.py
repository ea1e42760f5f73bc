"""The measured part of a noisy image set to what the measurement says, at the noise level of the image."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from mezzotint.core import Condition, Denoiser, Noise, Schedule
from mezzotint.restore.operators import LinearOperator, SpectralOperator
from mezzotint.restore.problem import Problem
from mezzotint.restore.regularised import regularised
from mezzotint.sample.loop import Sampler, State
from mezzotint.sample.plan import Node, Plan

__all__ = ["ReplacedSteps", "is_selection", "replaced"]

_ONE = 1e-5  # how far a singular value may be from 0 or 1 (float32 arithmetic of transforms)


def is_selection(operator: object, x: Float[Tensor, "b *s"]) -> bool:
    """Whether A keeps some coordinates of an orthonormal system and drops the others: singular values 0 and 1 alone."""
    if not isinstance(operator, SpectralOperator):
        return False
    s = operator.singulars(x)
    return bool(((s.abs() < _ONE) | ((s - 1).abs() < _ONE)).all())


def replaced(
    problem: Problem,
    x: Float[Tensor, "b *s"],
    alpha: float,
    sigma: float,
    z: Float[Tensor, "b *s"],
    *,
    selection: bool = False,
) -> Float[Tensor, "b *s"]:
    """x + A+ (alpha y + s A z - A x), s^2 = sigma^2 - (alpha std)^2: what A does not see of x stays.

    The noise that y brings counts as part of the level's, where the level has as much, and A+ is then regularised as in
    `first_image` (our choices; std = 0 in the papers). Of a selection the coordinates are exchanged, so that no
    rounding reaches those that stay.

    Args:
        problem: with a linear operator.
        x: the noisy image at the level, (b, *s).
        alpha, sigma: of the level.
        z: standard normal, as x.
        selection: whether A is one (`is_selection`).
    """
    operator, y = problem.operator, problem.y.to(x.dtype)
    assert isinstance(operator, LinearOperator)
    spread = math.sqrt(max(sigma**2 - (alpha * problem.std) ** 2, 0.0))
    if selection:
        assert isinstance(operator, SpectralOperator)
        seen = operator.singulars(x) > 0.5
        known = alpha * operator.measured_to_spectrum(y)
        if spread:
            known = known + spread * operator.to_spectrum(z)
        return operator.from_spectrum(torch.where(seen, known, operator.to_spectrum(x)))
    known = alpha * y
    if spread:
        known = known + spread * operator(z)
    return x + regularised(operator, known - operator(x), problem.std**2)


@dataclass(frozen=True)
class ReplacedSteps(Sampler):
    """A sampler after whose every step the measured part is replaced.

    Args:
        base: any sampler, or steps that know the measurement.
        problem: with a linear operator.
        selection: whether its operator is one (`is_selection`); looked at once, not at every step.
        until: no replacement at times below this one, in [0, 1]; 0 replaces to the end.
    """

    base: Sampler
    problem: Problem
    selection: bool = False
    until: float = 0.0

    @property
    def order(self) -> int:  # type: ignore[override]  # the base's, not the class's
        """As the base."""
        return self.base.order

    @property
    def stochastic(self) -> bool:
        """True: the measurement is noised."""
        return True

    def nfe(self, steps: int) -> int:
        """As the base."""
        return self.base.nfe(steps)

    def first_order(self, nodes: Sequence[Node], k: int) -> float:
        """As the base."""
        return self.base.first_order(nodes, k)

    def plan(self, schedule: Schedule, grid: Float[Tensor, " n"]) -> Plan:
        """The base's."""
        return self.base.plan(schedule, grid)

    def step(
        self, d: Denoiser, state: State, k: int, plan: Plan, c: Condition | None = None, noise: Noise | None = None
    ) -> State:
        """See Sampler.step."""
        assert noise is not None
        made, node = self.base.step(d, state, k, plan, c, noise), plan.nodes[k + 1]
        if node.t < self.until:
            return made
        x = made.x
        z = noise("known", k, tuple(x.shape[1:]), dtype=x.dtype, device=x.device)
        return replace(made, x=replaced(self.problem, x, node.alpha, node.sigma, z, selection=self.selection))
