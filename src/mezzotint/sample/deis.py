"""DEIS: polynomials of noise predictions, integrated exactly in the noise level."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass, field
from typing import Literal

from mezzotint.sample.dpm import DPMSolver
from mezzotint.sample.lagrange import lagrange
from mezzotint.sample.lower_order import LowerFinal
from mezzotint.sample.plan import Node

__all__ = ["DEIS"]


@dataclass(frozen=True)
class DEIS(DPMSolver):
    """x_t/alpha_t = x_s/alpha_s + sum_i e_i int_(rho_s)^(rho_t) L_i d rho, rho = sigma/alpha: exponential multistep.

    e_i are noise predictions of the last `order` nodes, newest first, L_i Lagrange's polynomials through these nodes,
    either in log rho, which is -lambda, or in rho itself ("rhoAB": Adams and Bashforth's formulas, for any steps).
    In log rho the integrals are those of DPM-Solver's noise form with exact weights, so this is
    DPMSolver(form="taylor") under the name, with the formula and the numbers of diffusers (its "logrho"). Order 1 is
    DDIM. A step to sigma = 0 is of order 1, x = m; so is one from alpha = 0, where rho is infinite.

    Args:
        order: 1, 2 or 3, which is the order of accuracy.
        variable: what e is a polynomial of: "log-rho" or "rho". (The paper's tAB, in t, needs quadrature; not here.)
        lower_order_final, start: as in DPMSolverPP. With start="plain" the first step's error of second order is what
            order 3 ends at, as steps become very many; "corrected" leaves order 3. "plain" here, as in diffusers.

    Raises:
        ValueError: for values other than these.

    Source: arXiv 2204.13902, section 3.3 and appendix B (tAB, rhoAB); log rho: its official code and diffusers.

    >>> import torch; from mezzotint.core import Gaussian, VP
    >>> d = Gaussian(torch.zeros(2), std=1.0).denoiser(VP())
    >>> DEIS(order=3)(d, torch.ones(1, 2), steps=8).shape
    torch.Size([1, 2])
    """

    order: int = 2  # type: ignore[misc]  # an instance's choice here, a constant of the class elsewhere
    lower_order_final: LowerFinal = "auto"
    # exact integrals are what DEIS is: these choices of its base are not offered
    form: Literal["midpoint", "taylor"] = field(default="taylor", init=False, repr=False)
    third: Literal["exact", "published"] = field(default="exact", init=False, repr=False)
    _: KW_ONLY
    variable: Literal["log-rho", "rho"] = "log-rho"
    start: Literal["auto", "plain", "corrected"] = "plain"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.variable not in ("log-rho", "rho"):
            raise ValueError(f"DEIS got variable={self.variable!r}; expected 'log-rho' or 'rho'")

    def integral(self, nodes: Sequence[Node], k: int) -> tuple[float, ...]:
        """See PolynomialMultistep.integral; in units of -sigma_t/alpha_t, as DPMSolver weighs noise predictions."""
        if self.variable == "log-rho":
            return super().integral(nodes, k)
        s, t = nodes[k], nodes[k + 1]
        step = t.ratio - s.ratio
        offsets = ((nodes[k - i].ratio - s.ratio) / step for i in range(1, self._order_at(nodes, k)))
        weights = [-step / t.ratio * w for w in lagrange((1.0, 1 / 2, 1 / 3), (0.0, *offsets))]
        if k == 1 and len(weights) == 2 and self._corrects:
            missing = 0.5 * (nodes[0].ratio - s.ratio) / t.ratio  # the first step's rectangle made a trapezium
            weights = [weights[0] + missing, weights[1] - missing]
        return (*weights, *(0.0,) * (self.order - len(weights)))
