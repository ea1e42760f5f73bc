"""The preconditioning of consistency models: EDM's, shifted so that the function is the identity at the least noise."""

from __future__ import annotations

import math
from typing import Any

from torch import Tensor

from mezzotint.core.denoiser import ScaledDenoiser
from mezzotint.core.schedule import Schedule

__all__ = ["BoundaryDenoiser"]

_MOST = 20.0  # log of the largest level told to the network: at alpha = 0 it is infinite


class BoundaryDenoiser(ScaledDenoiser):
    """A network made a consistency function: f(x, s) = c_skip x + c_out F(c_in x, scale ln s), with f(x, m) = x.

    x = x_t / alpha, s = sigma / alpha, m = sigma_min, d = sigma_data:
    c_skip = d^2 / ((s - m)^2 + d^2), c_out = d (s - m) / sqrt(s^2 + d^2), c_in = 1 / sqrt(s^2 + d^2).

    Written with alpha multiplied out, so that it holds for every schedule, also at alpha = 0. Levels below m (as t = 0)
    count as m (our choice): there x0 = x_t / alpha whatever the network says.

    Args:
        net: as for NetworkDenoiser; receives scale * ln s as its time.
        schedule: any; consistency training itself is VE.
        sigma_data: standard deviation d of the data, > 0.
        sigma_min: the boundary m, a level sigma / alpha, > 0. Where levels are shifted by a resolution, shift it too.
        scale: of ln s, what the network is told of the time; 250 is EDM's ln(s) / 4 times 1000.

    Raises:
        ValueError: unless sigma_data, sigma_min and scale are positive and finite.

    Source: arXiv 2303.01469, appendix C; constants as in 2310.14189 and 2502.01441; scale: code of the latter.

    >>> import torch
    >>> from mezzotint.core.schedule import VE
    >>> f, schedule = BoundaryDenoiser(lambda x, time, c: torch.ones_like(x), VE()), VE()
    >>> t = schedule.t_of(-torch.tensor([0.002, 1.0], dtype=torch.float64).log())
    >>> [round(v, 4) for v in f(torch.ones(2, 1), t).x0.flatten().tolist()]
    [1.0, 0.647]
    """

    def __init__(
        self, net: Any, schedule: Schedule, sigma_data: float = 0.5, sigma_min: float = 0.002, scale: float = 250.0
    ) -> None:
        super().__init__(net, schedule)
        for name, value in (("sigma_data", sigma_data), ("sigma_min", sigma_min), ("scale", scale)):
            if not 0 < value < math.inf:
                raise ValueError(f"BoundaryDenoiser got {name}={value}; expected a finite number > 0")
        self.sigma_data, self.sigma_min, self.scale = float(sigma_data), float(sigma_min), float(scale)

    @property
    def config(self) -> dict[str, Any]:
        """Constructor keywords besides the network and the schedule."""
        return {"sigma_data": self.sigma_data, "sigma_min": self.sigma_min, "scale": self.scale}

    def code(self, lam: Any) -> Any:
        """scale ln s."""
        return -self.scale * lam

    @property
    def ends(self) -> tuple[float, float]:
        """s is at least sigma_min."""
        return self.scale * math.log(self.sigma_min), self.scale * _MOST

    def weights(self, alpha: Any, sigma: Any) -> tuple[Any, ...]:
        """c_in, c_skip, c_out for x_t itself (not x_t / alpha), of numbers or of tensors."""
        d, above = self.sigma_data, sigma - alpha * self.sigma_min  # alpha (s - m)
        above = above.clamp_min(0) if isinstance(above, Tensor) else max(above, 0.0)
        level = above + alpha * self.sigma_min  # alpha s, with s at least m
        k = level * level + (alpha * d) ** 2
        return k**-0.5, alpha * d**2 / (above * above + (alpha * d) ** 2), d * above * k**-0.5
