"""DDRM: diffusion in the coordinates in which the operator is diagonal, each by what it measures and how well."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from mezzotint.core import Condition, Denoiser, Noise, Schedule
from mezzotint.core.grid import Grid
from mezzotint.restore.fit import check_fit
from mezzotint.restore.operators import Operator, SpectralOperator
from mezzotint.restore.problem import Problem
from mezzotint.restore.restorer import SampledRestorer
from mezzotint.sample.loop import OnStep, Sampler, State
from mezzotint.sample.plan import Plan, nodes_of

__all__ = ["DDRM"]

_STEPS = 20


@dataclass(frozen=True)
class DDRM(SampledRestorer):
    """Each singular direction by itself, in variance-exploding units (x / alpha, e = sigma / alpha of the next level).

    With D^ = V* D, y^ = U* y, the noise estimate n = (V* x_t - alpha_t D^) / sigma_t and a fresh normal z, a direction
    of singular value s goes to

    - s = 0:        D^ + sqrt(1 - eta^2) e n + eta e z
    - e < std / s:  D^ + sqrt(1 - eta^2) e (y^ - s D^) / std + eta e z
    - else:         (1 - eta_b) D^ + eta_b y^ / s + sqrt(e^2 - eta_b^2 std^2 / s^2) z

    For operators whose singular value decomposition is closed. One network call a step, no gradient; 20 steps where
    none are given. It starts from noise alone, as every sampler here, where the paper adds the measured part.

    Args:
        eta: in [0, 1]: how much of the noise is drawn anew.
        eta_b: in [0, 1]: how much of the measurement is taken where it is better than the level.

    Raises:
        ValueError: for values outside these ranges; when called, as Restorer, and for another operator.

    Source: arXiv 2201.11793, section 4 (eta 0.85, eta_b 1, 20 steps).

    >>> from mezzotint.core import VP, Gaussian
    >>> from mezzotint.restore.operators import Matrix
    >>> d = Gaussian(torch.zeros(2), std=1.0).denoiser(VP())
    >>> DDRM()(d, Matrix(torch.tensor([[2.0, 0.0]])), torch.ones(1, 1), Noise([0]))[0, 0].round(decimals=5).item()
    0.5
    """

    eta: float = 0.85
    eta_b: float = 1.0
    linear: ClassVar[bool] = True

    def __post_init__(self) -> None:
        for name in ("eta", "eta_b"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"DDRM got {name}={getattr(self, name)}; expected a number in [0, 1]")

    def sampler(self, problem: Problem) -> Sampler:
        """See SampledRestorer.sampler."""
        check_fit(problem)
        if not isinstance(problem.operator, SpectralOperator):
            raise ValueError(
                f"DDRM needs an operator whose singular value decomposition is known (a SpectralOperator: masks, "
                f"resizing, blur, colour, Matrix); {type(problem.operator).__name__} is none. DDNM, PiGDM, DiffPIR and "
                "DPS take it"
            )
        return _SpectralSteps(problem, problem.operator, self.eta, self.eta_b)

    def __call__(
        self,
        d: Denoiser,
        operator: Operator,
        y: Float[Tensor, "_ *m"],
        noise: Noise,
        *,
        std: float = 0.0,
        steps: int | None = None,
        grid: Grid | Tensor | None = None,
        c: Condition | None = None,
        on_step: OnStep | None = None,
    ) -> Float[Tensor, "b *s"]:
        """See Restorer; 20 steps where none are given."""
        if steps is None and not isinstance(grid, Tensor):
            steps = _STEPS
        return super().__call__(d, operator, y, noise, std=std, steps=steps, grid=grid, c=c, on_step=on_step)


@dataclass(frozen=True)
class _SpectralSteps(Sampler):
    problem: Problem
    operator: SpectralOperator
    eta: float
    eta_b: float
    order = 1

    @property
    def stochastic(self) -> bool:
        """True: where a direction is measured well, its level's noise is always new."""
        return True

    def plan(self, schedule: Schedule, grid: Float[Tensor, " n"]) -> Plan:
        """See Sampler.plan; the rows are alpha and sigma of the next level."""
        nodes = nodes_of(schedule, grid)
        rows = tuple((n.alpha, n.sigma) for n in nodes[1:])
        return Plan(nodes, ("alpha", "sigma"), rows, tuple((n.t,) for n in nodes[:-1]))

    def step(
        self, d: Denoiser, state: State, k: int, plan: Plan, c: Condition | None = None, noise: Noise | None = None
    ) -> State:
        """See Sampler.step."""
        x, now, (alpha, sigma) = state.x, plan.nodes[k], plan.rows[k]
        x0 = self.predict(d, x, k, plan, c)
        operator, std, kept = self.operator, self.problem.std, math.sqrt(1 - self.eta**2)
        s, data = operator.singulars(x), operator.to_spectrum(x0)
        y = operator.measured_to_spectrum(self.problem.y.to(x.dtype))
        seen = operator.seen(s)
        inverse = torch.where(seen, 1 / torch.where(seen, s, 1.0), torch.zeros_like(s))
        near = seen & (alpha * std * inverse <= sigma)  # measured at least as well as the level
        mean = torch.where(near, (1 - self.eta_b) * data + self.eta_b * (inverse * y), data)
        if not sigma:
            return State(operator.from_spectrum(alpha * mean), k + 1, x0)
        guessed = (operator.to_spectrum(x) - now.alpha * data) / now.sigma
        if std:
            guessed = torch.where(seen, (y - s * data) / std, guessed)
        drift = torch.where(near, torch.zeros_like(data), kept * guessed)
        rest = (1 - (self.eta_b * std * alpha / sigma * inverse) ** 2).clamp_min(0).sqrt()
        fresh = torch.where(near, rest, torch.full_like(rest, self.eta))
        assert noise is not None
        z = noise("step", k, tuple(x.shape[1:]), dtype=x.dtype, device=x.device)
        made = alpha * mean + sigma * (drift + fresh * operator.to_spectrum(z))
        return State(operator.from_spectrum(made), k + 1, x0)
