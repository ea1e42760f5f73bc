"""One noise path a seed, whatever the number of steps: a stochastic sampler's draws are increments of it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from mezzotint.core import BrownianPath, Condition, Denoiser, Noise, Schedule
from mezzotint.sample.combine import combine
from mezzotint.sample.loop import Sampler, State
from mezzotint.sample.plan import Node, Plan, nodes_of

__all__ = ["Brownian", "StationaryPath"]


class StationaryPath(BrownianPath):
    """A standard normal process U(lambda) with correlation e^(-rate |difference|), lambda from -inf to +inf.

    U = e^(-rate lambda) W(e^(2 rate lambda)) for a Brownian path W; as a path of its own it needs no e^(2 lambda),
    which spans twenty orders of magnitude. Built as BrownianPath is, over lambda / (4 + |lambda|), to depth 24: a
    lambda is rounded to 5e-7 near 0 and to 6e-6 at 10.

    Args:
        rate: > 0.
        others: see BrownianPath.

    >>> StationaryPath(Noise([0]), (2,))(-math.inf).shape
    torch.Size([1, 2])
    """

    depth = 24

    def __init__(
        self,
        noise: Noise,
        shape: Sequence[int],
        purpose: str = "path",
        *,
        rate: float = 1.0,
        dtype: torch.dtype = torch.float64,
        device: torch.device | str | None = None,
    ) -> None:
        self.rate = rate
        super().__init__(noise, shape, purpose, dtype=dtype, device=device)

    def _make_ends(self) -> tuple[Tensor, Tensor]:
        return self._draw(0), self._draw(1 << self.depth)

    def _middle(self, low: int, middle: int, high: int, left: Tensor, right: Tensor) -> Tensor:
        before, after = self._correlation(low, middle), self._correlation(middle, high)
        # of a normal vector with correlations p, q and p q, the law of the middle given the ends
        p, q, whole = before.squared, after.squared, before.apart + after.apart - before.apart * after.apart
        spread = math.sqrt(before.apart * after.apart / whole)
        weights = math.sqrt(p) * after.apart / whole, math.sqrt(q) * before.apart / whole
        return combine((weights[0], left), (weights[1], right), (spread, self._draw(middle)))

    def _correlation(self, low: int, high: int) -> _Correlation:
        gap = self._lambda(high) - self._lambda(low)
        return _Correlation(math.exp(-2 * self.rate * gap), -math.expm1(-2 * self.rate * gap))

    def _lambda(self, place: int) -> float:
        v = 2 * place / (1 << self.depth) - 1
        return 4 * v / (1 - abs(v)) if abs(v) < 1 else math.copysign(math.inf, v)

    def _place(self, lam: float) -> int:
        v = math.copysign(1.0, lam) if math.isinf(lam) else lam / (4 + abs(lam))
        return round(0.5 * (1 + v) * (1 << self.depth))

    def __call__(self, t: float) -> Tensor:
        """U at lambda = t, any number or infinity, (b, *shape)."""
        return self._at(self._place(t))

    def is_of(self, noise: Noise, rate: float, shape: Sequence[int], options: dict[str, Any]) -> bool:
        """Whether a path made of these would be this one."""
        mine = self._noise, self.rate, self._shape, self._options
        return mine[0] is noise and mine[1:] == (rate, tuple(shape), {"device": None} | options)

    def increment(self, a: float, b: float) -> Tensor:
        """What is new in U(b) given U(a), a < b, in units of its standard deviation: a standard normal draw.

        sqrt(1 - e^(-2 rate (b - a))) times it is U(b) - e^(-rate (b - a)) U(a), the noise of an exact linear step.

        Raises:
            ValueError: where a and b are not apart on the path's grid.
        """
        low, high = self._place(a), self._place(b)
        if not low < high:
            raise ValueError(
                f"StationaryPath got lambda from {a:.9g} to {b:.9g}; expected it to grow by 1e-5 at least, "
                "so use fewer steps, or draw each step's noise alone (the sampler without Brownian)"
            )
        step, start = self._correlation(low, high), self._at(low)
        spread = math.sqrt(step.apart)
        return combine((1 / spread, self._at(high)), (-math.sqrt(step.squared) / spread, start))


@dataclass(frozen=True)
class _Correlation:
    squared: float
    apart: float  # 1 - squared


@dataclass(frozen=True)
class Brownian(Sampler):
    """A stochastic sampler whose draws come from one path over lambda: a seed means about one picture for any steps.

    The draw of a step from lambda_s to lambda_t is the normalised increment of U (see StationaryPath) from one to the
    other. The law of the samples is that of the base: increments are independent standard normals. With rate = eta
    the noise that `SDEDPMSolverPP` (for eta = 1 also DDPM and EulerAncestral) adds in two half steps is exactly that
    of the whole, so that runs with other steps differ by what the solver does with the denoiser alone; with another
    rate it is so in the limit. A sampler with several draws a step has increments of consecutive intervals.

    It costs about 20 draws a step in place of one, made on the CPU.

    Args:
        base: a stochastic sampler.
        rate: > 0; how fast the noise forgets: SDEDPMSolverPP's eta, the square of DDIM's and the ancestral samplers'.

    Raises:
        ValueError: for a base that draws no noise, a rate that is not a finite number > 0; from the run, for two
            times closer than about 1e-5 in lambda.

    Source: our choice, in the style of k-diffusion's Brownian tree (arXiv 2001.01328, over sigma).

    >>> from mezzotint.core import Gaussian, VP; from mezzotint.sample import DDPM
    >>> d = Gaussian(torch.zeros(2), std=1.0).denoiser(VP())
    >>> Brownian(DDPM())(d, torch.ones(1, 2), steps=4, noise=Noise([0])).shape
    torch.Size([1, 2])
    """

    base: Sampler
    rate: float = 1.0

    def __post_init__(self) -> None:
        if not self.base.stochastic:
            raise ValueError(
                f"Brownian got {self.base!r}, which draws no noise; give it a stochastic sampler, as SDEDPMSolverPP()"
            )
        if not 0 < self.rate < math.inf:
            raise ValueError(f"Brownian got rate={self.rate}; expected a finite number > 0, the base's eta")

    @property
    def order(self) -> int:  # type: ignore[override]  # the base's, not the class's
        """As the base."""
        return self.base.order

    @property
    def stochastic(self) -> bool:
        """True."""
        return True

    def nfe(self, steps: int) -> int:
        """As the base."""
        return self.base.nfe(steps)

    def first_order(self, nodes: Sequence[Node], k: int) -> float:
        """See Sampler.first_order."""
        return self.base.first_order(nodes, k)

    def plan(self, schedule: Schedule, grid: Float[Tensor, " n"]) -> Plan:
        """See Sampler.plan; the base's, and for each draw of a step the lambdas it lies between."""
        base = self.base.plan(schedule, grid)
        spans = tuple(_spans(schedule, base, k) for k in range(base.steps))
        return _PathPlan(base.nodes, base.columns, base.rows, base.calls, base=base, spans=spans)

    def step(
        self, d: Denoiser, state: State, k: int, plan: Plan, c: Condition | None = None, noise: Noise | None = None
    ) -> State:
        """See Sampler.step."""
        assert isinstance(plan, _PathPlan)
        along = None if noise is None else _Increments(noise, plan, k, self.rate)
        return self.base.step(d, state, k, plan.base, c, along)


@dataclass(frozen=True)
class _PathPlan(Plan):
    """The base's plan; where each draw lies in lambda; the run's path, made at its first draw."""

    base: Plan = field(kw_only=True)
    spans: tuple[dict[str, tuple[float, float]], ...] = field(kw_only=True)
    latest: list[StationaryPath] = field(default_factory=list, compare=False, repr=False, kw_only=True)

    def on(self, x: Tensor, schedule: Schedule | None = None) -> Plan:
        """See Plan.on; a run has a path of its own."""
        return replace(self, base=self.base.on(x, schedule), latest=[])

    def path(self, noise: Noise, rate: float, shape: Sequence[int], options: dict[str, Any]) -> StationaryPath:
        """The path of this noise: the latest, which remembers where it stands, if it is of the same numbers."""
        if not self.latest or not self.latest[0].is_of(noise, rate, shape, options):
            self.latest[:] = [StationaryPath(noise, shape, rate=rate, **options)]
        return self.latest[0]


class _Increments(Noise):
    """The draws of step k as increments; draws that lie nowhere on the path are the noise's own."""

    def __init__(self, noise: Noise, plan: _PathPlan, k: int, rate: float) -> None:
        super().__init__(noise.seeds)
        self.noise, self.plan, self.k, self.rate = noise, plan, k, rate

    def __call__(self, purpose: str, k: int, shape: Sequence[int], **options: Any) -> Tensor:
        span = self.plan.spans[self.k].get(purpose) if k == self.k else None
        if span is None:
            return self.noise(purpose, k, shape, **options)
        return self.plan.path(self.noise, self.rate, shape, options).increment(*span)


def _spans(schedule: Schedule, plan: Plan, k: int) -> dict[str, tuple[float, float]]:
    """The draws of step k by their purpose: each begins where the one before it ended (see Staged.draw)."""
    if plan.calls[k][0] != plan.nodes[k].t:
        raise ValueError(
            f"step {k} begins with added noise, to t = {plan.calls[k][0]:.6g}: that is no increment of a path from "
            "noise to data. Use Brownian without churn or restarts"
        )
    start, spans = plan.nodes[k].lam, {}
    inner = nodes_of(schedule, torch.tensor(plan.calls[k], dtype=torch.float64))[1:]
    for j, node in enumerate(inner):
        if f"noise@{j}" in plan.columns and plan.rows[k][plan.columns.index(f"noise@{j}")]:
            spans[f"stage {j}"], start = (start, node.lam), node.lam
    return spans | {"step": (start, plan.nodes[k + 1].lam)}
