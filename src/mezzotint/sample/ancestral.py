"""Ancestral samplers: a deterministic step to less noise than the next node has, then noise up to that node."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from mezzotint.core import Noise, Schedule
from mezzotint.sample.combine import combine
from mezzotint.sample.ddim import DDIM
from mezzotint.sample.expint import psi0
from mezzotint.sample.multistep import Row
from mezzotint.sample.plan import Node, Plan, nodes_of
from mezzotint.sample.staged import Move, Stage, Staged

__all__ = ["DPMSolverPP2SAncestral", "DPMSolverPPSDE", "EulerAncestral"]


@dataclass(frozen=True)
class EulerAncestral(DDIM):
    """y_t = y_s + (down - s)(y_s - x0)/s + up z, in y = x/alpha and the noise levels s, t = sigma/alpha of the nodes.

    up = eta t sqrt(1 - t^2/s^2), down = sqrt(t^2 - up^2). In the state this is DDIM with the same eta, for every
    schedule: the two names are of one method, and eta = 1 is DDPM. Its limit is the SDE of SDEDPMSolverPP(eta^2).

    Args:
        eta: in [0, 1].

    Raises:
        ValueError: for eta outside [0, 1].

    Source: k-diffusion's sample_euler_ancestral, in the variables of arXiv 2206.00364; arXiv 2010.02502, equation 12.
    """

    eta: float = 1.0


@dataclass(frozen=True)
class _TwoStage(Staged):
    """An ancestral step with a second evaluation inside it; at both ends of an infinite step, what is finite there.

    To sigma = 0 it is one evaluation, x = m. From alpha = 0 the second evaluation is at the step's end, reached by
    the first, and it alone is used: for eta = 1 that is the limit of much noise.
    """

    eta: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.eta <= 1:
            raise ValueError(
                f"{type(self).__name__} got eta={self.eta}; expected a number in [0, 1]: 0 deterministic, 1 ancestral"
            )

    @property
    def stochastic(self) -> bool:
        """True unless eta = 0."""
        return self.eta > 0

    def nfe(self, steps: int) -> int:
        """2 steps - 1: two a step, one for the last."""
        return 2 * steps - 1

    def first_order(self, nodes: Sequence[Node], k: int) -> float:
        """See Sampler.first_order; as of the ancestral step of one evaluation."""
        return _ancestral(nodes[k], nodes[k + 1], self.eta).m[0]

    def moves(self, schedule: Schedule, nodes: Sequence[Node]) -> Sequence[Move]:
        """See Staged.moves."""
        return [self._move(schedule, s, t) for s, t in zip(nodes, nodes[1:])]

    @abstractmethod
    def _move(self, schedule: Schedule, s: Node, t: Node) -> Move: ...


@dataclass(frozen=True)
class DPMSolverPP2SAncestral(_TwoStage):
    """DPM-Solver++ 2S (r = 1/2) from noise level s to `down`, then noise of level `up`: see EulerAncestral for both.

    With h = log(s/down) and u at lambda_s + h/2: x_u = (sigma_u/sigma_s) x + alpha_u (1 - e^(-h/2)) m,
    x' = (sigma_down/sigma_s) x + alpha_t (1 - e^-h) D(x_u, u) + sigma_up z, sigma_down = alpha_t down. For eta = 1
    u is at the step's end. Adding noise is exact in law, so the law converges with 2S's order 2; what a state still
    knows of its start, and a single path, with order 1 (measured).

    Args:
        eta: in [0, 1]; 0 is 2S.

    Raises:
        ValueError: for eta outside [0, 1].

    Source: k-diffusion's sample_dpmpp_2s_ancestral, over arXiv 2211.01095, algorithm 1; alpha = 0 is our choice.
    """

    order = 2

    def _move(self, schedule: Schedule, s: Node, t: Node) -> Move:
        whole = _ancestral(s, t, self.eta)
        if t.sigma == 0:
            return Move(t, (s.t,), (Stage(0.0, whole.m),))
        inner = t if s.alpha == 0 else _node(schedule, 0.5 * (s.lam + _down(s, t, self.eta)))
        first = Stage(inner.sigma / s.sigma, (inner.alpha * psi0(inner.lam - s.lam),))
        return Move(t, (s.t, inner.t), (first, Stage(whole.x, (0.0, *whole.m), whole.noise)))


@dataclass(frozen=True)
class DPMSolverPPSDE(_TwoStage):
    """Two ancestral steps from s, to u at lambda_s + r h and to t, the second with a mean of both predictions.

    x_u is EulerAncestral's from s to u with m = D(x_s); x_t EulerAncestral's from s to t with
    (1 - 1/(2 r)) m + 1/(2 r) D(x_u). Both draws are of one Brownian path: the noise at t is what the noise at u
    becomes, plus the noise from u to t (for eta = 1; for less eta that is our choice). With that the law converges
    with order 2, with independent draws with order 1; a single path with order 1 (measured).

    Args:
        eta: in [0, 1]; 0 is DPM-Solver++ 2S in its midpoint form.
        r: in (0, 1], where the second evaluation lies.

    Raises:
        ValueError: for values outside these ranges.

    Source: k-diffusion's sample_dpmpp_sde, over arXiv 2211.01095, algorithm 1; alpha = 0 is our choice.
    """

    order = 2
    r: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.r <= 1:
            raise ValueError(f"DPMSolverPPSDE got r={self.r}; expected a number in (0, 1], for example 1/2")

    def _move(self, schedule: Schedule, s: Node, t: Node) -> Move:
        whole = _ancestral(s, t, self.eta)
        if t.sigma == 0:
            return Move(t, (s.t,), (Stage(0.0, whole.m),))
        late, inner = 0.5 / self.r, t
        if s.alpha == 0:
            late = 1.0
        elif self.r < 1:
            inner = _node(schedule, s.lam + self.r * (t.lam - s.lam))
        first, of_m = _ancestral(s, inner, self.eta), whole.m[0]
        last = Stage(whole.x, ((1 - late) * of_m, late * of_m), whole.noise)
        return Move(t, (s.t, inner.t), (Stage(first.x, first.m, first.noise), last))

    def draw(self, noise: Noise, plan: Plan, k: int, stage: int, like: Tensor) -> Float[Tensor, "b *s"]:
        """See Staged.draw; the draw for the end is made of the inner one and of a new one, ("step", k)."""
        inner = noise("stage 0", k, like.shape[1:], dtype=like.dtype, device=like.device)
        if stage == 0:
            return inner
        kept, new = _shares(plan.nodes[k + 1].lam - plan.nodes[k].lam, self.r)
        if not new:
            return inner
        fresh = noise("step", k, like.shape[1:], dtype=like.dtype, device=like.device)
        return combine((kept, inner), (new, fresh))


def _ancestral(s: Node, t: Node, eta: float) -> Row:
    """The step of one evaluation from s to t."""
    return DDIM(eta).row((s, t), 0)


def _down(s: Node, t: Node, eta: float) -> float:
    """lambda where the deterministic part of a step ends: log(alpha_t / sigma_down)."""
    return t.lam - 0.5 * math.log((1 - eta**2) + eta**2 * math.exp(-2 * (t.lam - s.lam)))


def _node(schedule: Schedule, lam: float) -> Node:
    return nodes_of(schedule, schedule.t_of(torch.tensor([lam], dtype=torch.float64)))[0]


def _shares(h: float, r: float) -> tuple[float, float]:
    """What of a normal draw for a whole step comes from the draw of its first part r, and what is new."""
    if not math.isfinite(h) or r == 1:
        return 1.0, 0.0
    rest = math.exp(-2 * (1 - r) * h)
    new = -math.expm1(-2 * (1 - r) * h) / -math.expm1(-2 * h)
    return math.sqrt(rest * math.expm1(-2 * r * h) / math.expm1(-2 * h)), math.sqrt(new)
