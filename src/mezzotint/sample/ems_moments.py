"""The moments of one noise level from which EMS are fitted, and the fit.

With y = x / alpha, m = x0(x, t) the data prediction and ' = d/dlambda along the probability flow (y' = m - y):
    1 - l = alpha E[v * (dm/dx v)],  v = +-1            (Hutchinson: sigma deps/dx = 1 - alpha dm/dx)
    f  = (1 - l) y - m,
    f' = -l' y - (1 - l) (y - m) - m'.
f and f' are linear in 1 - l and l', so the means of (v dm/dx v, y, m, m') and the products (yy, ym, mm, ym', mm')
suffice, and one pass does what otherwise takes two (one for l, one for f). The paper writes the same with eps; with
m nothing large cancels at high noise, where y is large and l nearly 1 (our choice).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from mezzotint.core import Condition, Denoiser
from mezzotint.sample.plan import Node

__all__ = ["MOMENTS", "Derivative", "fit", "observe", "rate_of"]

MOMENTS = ("r", "y", "m", "d", "yy", "ym", "mm", "yd", "md")  # r = 1 - l, d = m'
# s beyond this is noise; beyond _PER_CELL / (spacing of lambda) the trapezoids of exp(int s) no longer hold
_LARGEST_S, _PER_CELL = 20.0, 0.5
_FLAT, _NOTHING = 1e-10, 1e-12


class Derivative:
    """The derivative of a function of (x, t) along a direction, with its value.

    Forward mode where every operation has it; double backward from the first failure on. Fused attention has neither,
    so attention is computed in plain operations meanwhile.
    """

    def __init__(self, function: Callable[[Tensor, Tensor], Tensor]) -> None:
        self.function, self.forward_mode = function, True

    def __call__(self, x: Tensor, t: Tensor, dx: Tensor, dt: Tensor) -> tuple[Tensor, Tensor]:
        """(f(x, t), df/dx dx + df/dt dt)."""
        from torch.nn.attention import SDPBackend, sdpa_kernel

        with sdpa_kernel(SDPBackend.MATH):
            if self.forward_mode:
                try:
                    with torch.no_grad():
                        forward: Any = torch.func.jvp(self.function, (x, t), (dx, dt))
                        return forward
                except (NotImplementedError, RuntimeError):  # what else is wrong goes wrong below too
                    self.forward_mode = False
            with torch.enable_grad():
                double: Any = torch.autograd.functional.jvp(self.function, (x, t), (dx, dt))
            return double[0].detach(), double[1].detach()


def prediction(d: Denoiser, c: Condition | None) -> Callable[[Tensor, Tensor], Tensor]:
    """x0 as a function of (x, t)."""
    return lambda x, t: d(x, t, c).x0


def rate_of(curve: str, node: Node) -> float:
    """d log alpha / dlambda on a schedule's curve.

    Raises:
        ValueError: for an unknown curve.
    """
    rates = {"variance": node.sigma**2, "straight": node.sigma, "exploding": 0.0}
    if curve not in rates:
        raise ValueError(f"a schedule's curve is one of {', '.join(rates)}; this one has {curve!r}")
    return rates[curve]


def observe(
    derivative: Derivative, x: Tensor, node: Node, rate: float, dt: float, probe: Tensor | None
) -> dict[str, Tensor]:
    """Sums over the batch of every moment, float64, each of a sample's shape.

    Args:
        derivative: of the data prediction.
        x: noisy samples of this level, (b, *s).
        node: the level.
        rate: d log alpha / dlambda there.
        dt: dt / dlambda there, negative.
        probe: v of x's shape; None where l is given as 1.
    """
    t = torch.full((len(x),), node.t, dtype=x.dtype, device=x.device)
    if probe is None:
        with torch.no_grad():
            m = derivative.function(x, t)
        r = torch.zeros_like(m)
    else:
        m, slope = derivative(x, t, probe, torch.zeros_like(t))
        r = node.alpha * probe * slope
    y = x / node.alpha
    _, d = derivative(x, t, node.alpha * (rate * y - (y - m)), torch.full_like(t, dt))
    r, y, m, d = (value.to(torch.float64) for value in (r, y, m, d))
    every = {"r": r, "y": y, "m": m, "d": d, "yy": y * y, "ym": y * m, "mm": m * m, "yd": y * d, "md": m * d}
    return {name: every[name].sum(0) for name in MOMENTS}


def fit(lam: Tensor, mean: Mapping[str, Tensor], ones: bool = False) -> tuple[Tensor, Tensor, Tensor]:
    """l, s and b of every level from the means of the moments, (n, *s) float64.

    s = Cov(f, f') / Var(f) and b = E[f'] - s E[f] per coordinate; where f does not vary (Var f < 1e-10 E[f^2] + 1e-12)
    s = 0, and |s| <= min(20, 0.5 / spacing of lambda): guards of our choice, without which a coarse grid with few
    samples fails at high noise, where f hardly varies. l' is a finite difference over the grid.

    Args:
        lam: (n,).
        mean: name -> (n, *s).
        ones: l = 1 instead of the fitted one.

    Source: arXiv 2310.13268, equations 8 and 10, appendix C.1.1.
    """
    r = torch.zeros_like(mean["y"]) if ones else mean["r"]
    slope = torch.gradient(-r, spacing=(lam,), dim=0, edge_order=2)[0]  # l'
    y, m, d = mean["y"], mean["m"], mean["d"]
    yy, ym, mm, yd, md = (mean[name] for name in MOMENTS[4:])
    # f = r y - m and f' = p y + r m - m', with p = -l' - r
    p = -slope - r
    f, df = r * y - m, p * y + r * m - d
    ff = r * r * yy - 2 * r * ym + mm
    fdf = r * (p * yy + r * ym - yd) - (p * ym + r * mm - md)
    var = ff - f * f
    bound = min(_LARGEST_S, _PER_CELL / float(lam.diff().max()))
    flat = var < _FLAT * ff + _NOTHING
    s = torch.where(flat, 0.0, (fdf - f * df) / torch.where(flat, 1.0, var)).clamp(-bound, bound)
    return 1 - r, s, df - s * f
