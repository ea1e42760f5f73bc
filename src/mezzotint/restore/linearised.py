"""The data prediction at a noisy image, with products of its Jacobian: what guidance through a network needs."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from mezzotint.core import Condition, Denoiser, Prediction
from mezzotint.core.known import known_levels

__all__ = ["Linearised", "over"]


def over(a: float | Tensor, b: float | Tensor) -> Any:
    """a / b, and 0 where b is 0; numbers or tensors.

    >>> over(1.0, 0.0), over(torch.ones(2), torch.tensor([0.0, 4.0])).tolist()
    (0.0, [0.0, 0.25])
    """
    if isinstance(b, Tensor):
        return a / torch.where(b == 0, torch.inf, b)
    return a / (b or math.inf)


@dataclass(frozen=True, eq=False)
class Linearised:
    """D(x_t) and v -> J^T v, J = dD/dx_t. Nothing reaches the parameters of the network.

    Args:
        x_t: the noisy image, (b, *s), a leaf of its own.
        x0: D, (b, *s), through which gradients come; `data` without them.
        alpha, sigma: the levels, numbers or (b, 1, ...).
        prediction: what the denoiser said.
    """

    x_t: Tensor
    x0: Tensor
    alpha: float | Tensor
    sigma: float | Tensor
    prediction: Prediction

    @classmethod
    def at(cls, d: Denoiser, x_t: Float[Tensor, "b *s"], t: Float[Tensor, " b"], c: Condition | None) -> Linearised:
        """Of a denoiser, guided or not, at x_t; one network call, also where the caller keeps no gradients.

        Raises:
            ValueError: for a denoiser through which no gradient comes.
        """
        with torch.inference_mode(False), torch.enable_grad():
            leaf = (x_t.clone() if x_t.is_inference() else x_t.detach()).requires_grad_()
            made = d(leaf, t, c)
            x0 = made.x0
        if not x0.requires_grad:
            raise ValueError(
                f"no gradient comes from {type(d).__name__} to the noisy image, which this method needs; the denoiser "
                "must not work under torch.no_grad(). DDNM, DDRM, DiffPIR and REDDiff need none"
            )
        levels = known_levels(t, d.schedule) or (made.alpha, made.sigma)
        return cls(leaf, x0, *levels, made)

    @property
    def data(self) -> Float[Tensor, "b *s"]:
        """D, without its gradient."""
        return self.x0.detach()

    def back(self, v: Float[Tensor, "b *s"], *, keep: bool = False) -> Float[Tensor, "b *s"]:
        """J^T v, one backward pass; keep: another product is to follow."""
        (product,) = torch.autograd.grad(self.x0, self.x_t, v, retain_graph=keep)
        return product

    def with_x0(self, x0: Float[Tensor, "b *s"]) -> Prediction:
        """The same place with another data prediction, free of the graph."""
        made = self.prediction
        return Prediction("x0", x0.detach(), made.x_t.detach(), made.t, made.schedule)
