"""The exact denoiser of every level of a pyramid over a Gaussian: what cascades are measured against."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from mezzotint.core.condition import Condition
from mezzotint.core.denoiser import Denoiser
from mezzotint.core.prediction import Prediction
from mezzotint.core.pyramid import AveragePool, ResolutionPyramid
from mezzotint.core.schedule import Schedule

__all__ = ["PooledGaussian"]


class PooledGaussian(Denoiser):
    """E[x_l | x_t, y] for x ~ N(0, C), y = x_(l-1) + s n: the level below, noise included, is the condition.

    With C_l the covariance of x_l and B what pools x_l to x_(l-1):
        G = C_l B^T (B C_l B^T + s^2)^-1,    x_l | y ~ N(G y, V),    V = C_l - G B C_l,
        D = G y + alpha V (alpha^2 V + sigma^2)^-1 (x_t - alpha G y).
    Without a condition G = 0 and V = C_l. Linear in (x_t, y), in float64.

    Args:
        cov: (n, n), n the number of elements of a sample of the highest level.
        schedule: any.
        pyramid: levels and scales; `up` plays no part, as y is taken as it is.
        shape: of a sample of the highest level, (c, *places).

    Raises:
        ValueError: for a shape that does not fit.
    """

    def __init__(self, cov: Tensor, schedule: Schedule, pyramid: ResolutionPyramid, shape: tuple[int, ...]) -> None:
        super().__init__(schedule)
        n = math.prod(shape)
        if cov.shape != (n, n) or shape[1] != pyramid.levels[-1]:
            raise ValueError(
                f"PooledGaussian got cov {tuple(cov.shape)} for samples of shape {shape} and levels "
                f"{list(pyramid.levels)}; expected ({n}, {n}) and a first side of {pyramid.levels[-1]}"
            )
        self.pyramid, whole = pyramid, torch.eye(n, dtype=torch.float64).reshape(n, *shape)
        maps = [pyramid.down(whole, level).reshape(n, -1).T for level in range(len(pyramid))]
        self.covs = [a @ cov.double() @ a.T for a in maps]
        self._down = [torch.zeros(0, len(self.covs[0]), dtype=torch.float64)]
        for level in range(1, len(pyramid)):
            places = tuple(side // pyramid.factor(level) for side in shape[1:])
            here = torch.eye(len(self.covs[level]), dtype=torch.float64).reshape(-1, shape[0], *places)
            pooled = AveragePool(pyramid.levels[level] // pyramid.levels[level - 1], pyramid.dims)(here)
            self._down.append(pooled.reshape(len(here), -1).T * (pyramid.scales[level] / pyramid.scales[level - 1]))

    def conditional(self, level: int, s: Float[Tensor, " b"]) -> tuple[Tensor, Tensor]:
        """G, (b, n_l, n_(l-1)), and V, (b, n_l, n_l), for noise of standard deviation s on the level below."""
        c, b = self.covs[level], self._down[level]
        inner = (b @ c @ b.T).expand(len(s), -1, -1) + torch.diag_embed((s.double() ** 2)[:, None].expand(-1, len(b)))
        g = torch.linalg.solve(inner, (b @ c).expand(len(s), -1, -1)).transpose(1, 2)
        return g, c - g @ b @ c

    def forward(self, x_t: Float[Tensor, "b *s"], t: Float[Tensor, " b"], c: Condition | None = None) -> Prediction:
        """See Denoiser.forward; c may hold what `with_low` puts there."""
        level, x, wide = self.pyramid.level_of(x_t), x_t.double().flatten(1), t.double()
        mean, v = torch.zeros_like(x), self.covs[level][None]
        if c is not None and "low" in c:
            s, given = _once(c["low_aug"].double()), c["low_given"].double()[:, None]
            g, rest = self.conditional(level, s)
            mean = given * (g @ c["low"].double().flatten(1)[..., None])[..., 0]
            v = torch.where(_once(given)[..., None] > 0, rest, v)
        row = _once(wide)  # as in a sampler: one gain serves the batch
        alpha, sigma = self.schedule.alpha(row)[:, None, None], self.schedule.sigma(row)[:, None, None]
        noisy = torch.where(sigma > 0, sigma, 1.0)
        inner = alpha**2 * v + noisy**2 * torch.eye(x.shape[1], dtype=torch.float64)
        gain = alpha * torch.linalg.solve(inner, v.expand_as(inner)).transpose(1, 2)
        alpha, sigma = alpha[..., 0], sigma[..., 0]
        x0 = mean + (gain @ (x - alpha * mean)[..., None])[..., 0]
        x0 = torch.where(sigma > 0, x0, x / torch.where(sigma > 0, 1.0, alpha))
        return Prediction("x0", x0.to(x_t.dtype).reshape(x_t.shape), x_t, t, self.schedule)


def _once(rows: Tensor) -> Tensor:
    """One row where all are equal."""
    return rows[:1] if bool((rows == rows[0]).all()) else rows
