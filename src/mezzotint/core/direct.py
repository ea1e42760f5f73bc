"""A network that predicts the data itself, scaled at its input alone."""

from __future__ import annotations

import math
from typing import Any

from jaxtyping import Float
from torch import Tensor

from mezzotint.core.condition import Condition
from mezzotint.core.denoiser import ScaledDenoiser
from mezzotint.core.prediction import Prediction
from mezzotint.core.schedule import Schedule

__all__ = ["DirectDenoiser"]

_MOST = 20.0  # of |ln s| told to the network, which is infinite at either end


class DirectDenoiser(ScaledDenoiser):
    """x-prediction in pixel space: x0 = F(c_in x_t, scale ln s), without a skip; s = sigma / alpha.

    c_in = 1 / sqrt(sigma^2 + alpha^2 d^2) brings the input to unit variance, d = sigma_data. A network whose output
    layer starts at zero predicts 0 at first, whatever the level.

    Args:
        net: as for NetworkDenoiser; receives scale * ln s as its time.
        schedule: any; in the paper VE, shifted by the resolution.
        sigma_data: standard deviation d of the data, > 0.
        scale: of ln s; 250 is EDM's ln(s) / 4 times 1000.

    Raises:
        ValueError: unless sigma_data and scale are positive and finite.

    Source: arXiv 2510.12586, code (stage 2, diffusion).

    >>> import torch
    >>> from mezzotint.core.schedule import VE
    >>> d = DirectDenoiser(lambda x, time, c: x, VE())
    >>> t = VE().t_of(-torch.tensor([1.2], dtype=torch.float64).log())
    >>> round(d(torch.tensor([[1.3]]), t).x0.item(), 6)
    1.0
    """

    kind = "x0"

    def __init__(self, net: Any, schedule: Schedule, sigma_data: float = 0.5, scale: float = 250.0) -> None:
        super().__init__(net, schedule)
        for name, value in (("sigma_data", sigma_data), ("scale", scale)):
            if not 0 < value < math.inf:
                raise ValueError(f"DirectDenoiser got {name}={value}; expected a finite number > 0")
        self.sigma_data, self.scale = float(sigma_data), float(scale)

    @property
    def config(self) -> dict[str, Any]:
        """Constructor keywords besides the network and the schedule."""
        return {"sigma_data": self.sigma_data, "scale": self.scale}

    def code(self, lam: Any) -> Any:
        """scale ln s."""
        return -self.scale * lam

    @property
    def ends(self) -> tuple[float, float]:
        """|ln s| is at most 20 (our choice)."""
        return -self.scale * _MOST, self.scale * _MOST

    def weights(self, alpha: Any, sigma: Any) -> tuple[Any, ...]:
        """c_in alone."""
        return ((sigma**2 + (alpha * self.sigma_data) ** 2) ** -0.5,)

    def forward(self, x_t: Float[Tensor, "b *s"], t: Float[Tensor, " b"], c: Condition | None = None) -> Prediction:
        """See Denoiser.forward."""
        (c_in,), time = self.scaled(x_t, t)
        return Prediction("x0", self.raw(c_in * x_t, time, c), x_t, t, self.schedule)
