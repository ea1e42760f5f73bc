"""DPM-Solver: the noise-prediction form, a polynomial of noise predictions in half-log-SNR."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from mezzotint.core import Condition, Denoiser, Noise
from mezzotint.sample.expint import psi0, psi1, psi2
from mezzotint.sample.loop import State
from mezzotint.sample.multistep import Row
from mezzotint.sample.plan import Node, Plan
from mezzotint.sample.polynomial import PolynomialMultistep
from mezzotint.sample.singlestep import SingleStep
from mezzotint.sample.staged import Stage

__all__ = ["DPMSolver", "DPMSolverSingle"]


@dataclass(frozen=True)
class DPMSolver(PolynomialMultistep):
    """x_t = (alpha_t/alpha_s) x_s - sigma_t [chi0 e0 + w1 D1 + w2 D2], h = lambda_t - lambda_s; multistep.

    e0, e1, e2 are noise predictions e = (x - alpha D(x)) / sigma, newest first; chi0 = e^h - 1, chi1 = chi0 - h,
    chi2 = chi1 - h^2/2; D1 and D2 as in DPMSolverPP.
        order 1: w1 = w2 = 0: DDIM, so it is the same as order 1 of DPMSolverPP.
        order 2: w1 = chi0/2 ("midpoint") or chi1/h ("taylor").   order 3: w1 = chi1/h, w2 = chi2/h^2.
    A step to sigma = 0 is of order 1, x = m0: of the noise form only that has a limit there. So is one from alpha = 0.
    Under strong guidance and few steps it is less stable than DPMSolverPP, whose baseline it is.

    Args:
        order, lower_order_final, form, third, start: as in DPMSolverPP.

    Raises:
        ValueError: for other values than those.

    Source: arXiv 2206.00927, section 3, and the multistep form of its official code (arXiv 2211.01095, section 4).

    >>> from mezzotint.core import Gaussian, VP
    >>> d = Gaussian(torch.zeros(2), std=1.0).denoiser(VP())
    >>> DPMSolver(order=2)(d, torch.ones(1, 2), steps=10).shape
    torch.Size([1, 2])
    """

    @staticmethod
    def moments(h: float) -> tuple[float, float, float]:
        """Those of e^(h-u), as e0 is weighed with -sigma_t: chi0, chi1/h, chi2/h^2."""
        return noise_moments(h)

    @staticmethod
    def carry(h: float) -> float:
        """(alpha_t/alpha_s) (sigma_s/sigma_t) = e^h."""
        return math.exp(h)

    def row(self, nodes: Sequence[Node], k: int) -> Row:
        """See Multistep.row; here m holds the weights of m0 and of the noise parts x - alpha m of earlier nodes."""
        s, t = nodes[k], nodes[k + 1]
        first = t.alpha * psi0(t.lam - s.lam)
        padding = (0.0,) * (self.order - 1)
        if not math.isfinite(t.lam - s.lam):
            return Row(t.sigma / s.sigma, (first, *padding))
        _, *older = self.integral(nodes, k)
        # sum_i w_i e_i = chi0 e_0 + sum w_i (e_i - e_0); its first term is DDIM, written without e^h
        shift, scale = sum(older), t.sigma / s.sigma
        past = (-t.sigma * w / nodes[k - i].sigma if w else 0.0 for i, w in enumerate(older, start=1))
        return Row(scale * (1 + shift), (first - scale * s.alpha * shift, *past))

    def step(
        self, d: Denoiser, state: State, k: int, plan: Plan, c: Condition | None = None, noise: Noise | None = None
    ) -> State:
        """See Sampler.step; the history holds noise parts x - alpha m, newest first."""
        after = super().step(d, state, k, plan, c, noise)
        if not after.history or after.x0 is None:
            return after
        part = torch.sub(state.x, after.x0, alpha=plan.nodes[k].alpha)
        return replace(after, history=(part, *after.history[1:]))


@dataclass(frozen=True)
class DPMSolverSingle(SingleStep):
    """DPM-Solver-1, -2 and -3: noise predictions at inner nodes lambda_s + r h; `steps` is the number of evaluations.

    x_t = (alpha_t/alpha_s) x_s - sigma_t [chi0 e_s + ...], chi as in DPMSolver, e_i the noise predicted at the node i.
        order 2 (r = 1/2): + chi0/(2 r) (e_u - e_s) ("midpoint") or chi1/(r h) (e_u - e_s) ("taylor").
        order 3 (r = 1/3, 2/3): e_2 from a stage of second order; + chi1/(r2 h) (e_2 - e_s) ("midpoint", the official
            "dpmsolver"), or the parabola through e_s, e_1, e_2 ("taylor").
    Steps with an infinite end are those of DPMSolverPPSingle.

    Args:
        order, form, lower_order_final: as in DPMSolverPPSingle.

    Raises:
        ValueError: for other values than those.

    Source: arXiv 2206.00927, algorithms 1 and 2.
    """

    def stage(self, nodes: Sequence[Node], before: Sequence[Stage], b: tuple[float, ...]) -> Stage:
        """See SingleStep.stage."""
        s, t = nodes[0], nodes[len(b)]
        scale = t.sigma / s.sigma
        weight, m = scale, [t.alpha * psi0(t.lam - s.lam), *(0.0,) * (len(b) - 1)]
        for i, w in enumerate(b):
            if i == 0 or w == 0.0:
                continue
            # -sigma_t w (e_i - e_0), with e_i = (x_i - alpha_i m_i) / sigma_i and x_i linear in what came before
            own, gain = before[i - 1], -t.sigma * w / nodes[i].sigma
            weight += gain * own.x + scale * w
            m[0] -= scale * w * s.alpha
            for j, of_j in enumerate(own.m):
                m[j] += gain * of_j
            m[i] -= gain * nodes[i].alpha
        return Stage(weight, tuple(m))

    @staticmethod
    def moments(h: float) -> tuple[float, float, float]:
        """See DPMSolver.moments."""
        return noise_moments(h)


def noise_moments(h: float) -> tuple[float, float, float]:
    """chi0, chi1/h, chi2/h^2: the weights of f, h f', h^2 f'' in int_0^h e^(h-u) f(u) du.

    They are psi of -h: chi0 = -psi0(-h), chi1 = psi1(-h), chi2 = -psi2(-h).
    """
    return -psi0(-h), psi1(-h) / h, -psi2(-h) / h**2
