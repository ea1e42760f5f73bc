"""A network that predicts the data itself, scaled at its input alone."""

from __future__ import annotations

import math
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from mezzotint.core.condition import Condition
from mezzotint.core.denoiser import NetworkDenoiser
from mezzotint.core.known import known_levels
from mezzotint.core.prediction import Prediction
from mezzotint.core.schedule import Schedule

__all__ = ["DirectDenoiser"]

_MOST = 20.0  # of |ln s| told to the network, which is infinite at either end


class DirectDenoiser(NetworkDenoiser):
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

    def time(self, t: Float[Tensor, " b"]) -> Float[Tensor, " b"]:
        """scale ln s, with |ln s| at most 20 (our choice: it is infinite at either end)."""
        known = known_levels(t, self.schedule)
        if known is not None:
            alpha, sigma = known
            level = math.log(sigma / alpha) if alpha and sigma else math.copysign(math.inf, sigma - alpha)
            return torch.full_like(t, self.scale * min(max(level, -_MOST), _MOST))
        return self.scale * (-self.schedule.half_log_snr(t)).clamp(-_MOST, _MOST)

    def forward(self, x_t: Float[Tensor, "b *s"], t: Float[Tensor, " b"], c: Condition | None = None) -> Prediction:
        """See Denoiser.forward."""
        known = known_levels(t, self.schedule)
        if known is not None:
            c_in, time = (known[1] ** 2 + (known[0] * self.sigma_data) ** 2) ** -0.5, self.time(t)
        else:
            wide = t.to(torch.float64)
            dtype = torch.promote_types(x_t.dtype, torch.float32)
            k = self.schedule.sigma(wide) ** 2 + (self.schedule.alpha(wide) * self.sigma_data) ** 2
            c_in, time = k.rsqrt().to(dtype).view(-1, *[1] * (x_t.ndim - 1)), self.time(wide).to(dtype)
        return Prediction("x0", self.raw(c_in * x_t, time, c), x_t, t, self.schedule)
