"""The law of what a cascade makes of a Gaussian signal, without sampling: covariances carried through its solvers."""

from __future__ import annotations

import torch
from jaxtyping import Float64
from torch import Tensor

from mezzotint.core import VE, ResolutionPyramid
from mezzotint.core.exact import PooledGaussian
from mezzotint.sample import CascadeSampler

__all__ = ["covariance_error", "law", "signal"]


def signal(levels: tuple[int, ...] = (8, 16)) -> PooledGaussian:
    """A periodic signal of 16 pixels with spectrum 1 / (1 + k)^2 and variance 0.25, pooled in one dimension.

    Source: the sheet's oracle for arXiv 2509.15342, our choice.
    """
    n = levels[-1]
    k = torch.arange(n)
    power = (1 + torch.minimum(k, n - k).double()) ** -2
    row = torch.fft.ifft(power / power.mean() * 0.25).real
    cov = torch.stack([row.roll(i) for i in range(n)])
    return PooledGaussian(cov, VE(), ResolutionPyramid(levels, dims=1, up="nearest"), (1, n))


def law(sampler: CascadeSampler, d: PooledGaussian) -> Float64[Tensor, "n n"]:
    """The covariance of x_L: with a linear denoiser a deterministic solver is a linear map of the numbers drawn.

    x_l = M eps + T x_(l-1) + S n,    cov_l = M M^T + T cov_(l-1) T^T + S S^T

    Args:
        sampler: with solvers that draw no noise.
        d: the exact denoiser; its highest level counts in its own units.
    """
    cov = torch.zeros(0, 0, dtype=torch.float64)
    for level, side in enumerate(d.pyramid.levels):
        one, m = torch.eye(side + 2 * len(cov), dtype=torch.float64)[:, None], len(cov)
        eps, low, extra = one[..., :side], one[..., side : side + m], one[..., side + m :]
        made = sampler.level(d, level, eps, low=low, extra=extra) if level else sampler.level(d, 0, eps)
        own, passed, added = made.flatten(1).split([side, m, m])
        cov = own.T @ own + passed.T @ cov @ passed + added.T @ added
    return cov


def covariance_error(sampler: CascadeSampler, d: PooledGaussian) -> float:
    """|cov - C| / |C| at the highest level, in Frobenius norms.

    >>> round(covariance_error(CascadeSampler("heun", (18,)), signal((16,))), 3)
    0.086
    """
    want = d.covs[-1]
    return float((law(sampler, d) - want).norm() / want.norm())
