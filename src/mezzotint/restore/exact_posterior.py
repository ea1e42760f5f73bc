"""The posterior that is known: Gaussians and mixtures of them under a linear operator with Gaussian noise."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from mezzotint.core import Gaussian, GaussianMixture, Noise
from mezzotint.restore.operators import LinearOperator

__all__ = ["ExactPosterior", "exact_posterior", "matrix_of"]

_LEAST = 1e-10  # of the largest singular value: those below count as 0


@dataclass(frozen=True, eq=False)
class ExactPosterior:
    """sum_k w_k N(m_k, C_k), what x is given y.

    Args:
        weights: (k,), of sum 1.
        means: (k, n).
        covs: (k, n, n).
        shape: of one image, n numbers.
    """

    weights: Tensor
    means: Tensor
    covs: Tensor
    shape: tuple[int, ...]

    @property
    def mean(self) -> Float[Tensor, "*s"]:
        """E[x | y], (*s)."""
        return (self.weights @ self.means).view(self.shape)

    @property
    def cov(self) -> Float[Tensor, "n n"]:
        """Cov[x | y], (n, n), of the numbers in row-major order."""
        apart = self.means - self.mean.flatten()
        return torch.einsum("k,kij->ij", self.weights, self.covs + apart[:, :, None] * apart[:, None, :])

    @property
    def std(self) -> Float[Tensor, "*s"]:
        """Of each number, (*s)."""
        return self.cov.diagonal().clamp_min(0).sqrt().view(self.shape)

    def sample(self, noise: Noise) -> Float[Tensor, "b *s"]:
        """One sample a seed, (b, *s) float64."""
        u = noise.uniform("component", 0, (), dtype=torch.float64)
        k = torch.searchsorted(self.weights.cumsum(0), u, right=True).clamp(max=len(self.weights) - 1)
        values, vectors = torch.linalg.eigh(self.covs)
        roots = vectors * values.clamp_min(0).sqrt()[:, None, :]
        z = noise("exact", 0, (self.means.shape[1],), dtype=torch.float64)
        return (self.means[k] + torch.einsum("bij,bj->bi", roots[k], z)).view(-1, *self.shape)


def exact_posterior(
    prior: Gaussian | GaussianMixture, operator: LinearOperator, y: Float[Tensor, "1 *m"], std: float
) -> ExactPosterior:
    """p(x | y) for y = A x + std n.

    A component N(m, C) of the prior becomes N(m + G (y - A m), C - G A C), G = C A* (A C A* + std^2 I)^-1, and its
    weight is multiplied by N(y; A m, A C A* + std^2 I). What of y lies outside of the range of A tells nothing of x.

    Args:
        prior: over x.
        operator: A; small, as its matrix is made.
        y: one measurement.
        std: of its noise, >= 0; 0 needs a prior that is wide in all that is measured.

    Raises:
        ValueError: for another prior, several measurements, a negative std, or std = 0 where the prior has no width.

    >>> from mezzotint.restore.operators import Matrix
    >>> told = exact_posterior(Gaussian(torch.zeros(2), std=1.0), Matrix(torch.eye(2)), torch.ones(1, 2), std=1.0)
    >>> told.mean.round(decimals=9).tolist(), told.std.square().round(decimals=9).tolist()
    ([0.5, 0.5], [0.5, 0.5])
    """
    if len(y) != 1:
        raise ValueError(f"exact_posterior got {len(y)} measurements; expected one, (1, ...)")
    if not 0 <= std < math.inf:
        raise ValueError(f"exact_posterior got std={std}; expected a finite number >= 0")
    weights, means, covs = _parts(prior)
    matrix, seen = matrix_of(operator, prior.shape), y.to(torch.float64).flatten()
    u, s, vh = torch.linalg.svd(matrix, full_matrices=False)
    kept = s > _LEAST * s.max()
    a, told = s[kept, None] * vh[kept], u[:, kept].T @ seen
    inside = a @ covs @ a.T + std**2 * torch.eye(len(a), dtype=torch.float64)
    root, failed = torch.linalg.cholesky_ex(inside)
    if bool(failed.any()):
        raise ValueError(f"the prior has no width in what is measured, and std={std:g}; give std > 0")
    rest = told - means @ a.T
    gain = torch.cholesky_solve(a @ covs, root).mT
    white = torch.linalg.solve_triangular(root, rest[..., None], upper=False)[..., 0]
    logs = weights.log() - 0.5 * white.square().sum(-1) - root.diagonal(dim1=-2, dim2=-1).log().sum(-1)
    return ExactPosterior(
        logs.softmax(0), means + (gain @ rest[..., None])[..., 0], covs - gain @ a @ covs, prior.shape
    )


def matrix_of(operator: LinearOperator, shape: tuple[int, ...]) -> Float[Tensor, "m n"]:
    """The matrix of a linear operator on images of a shape, float64: its columns are the images of single pixels.

    >>> from mezzotint.restore.operators import AveragePool
    >>> matrix_of(AveragePool(2), (1, 2, 2)).tolist()
    [[0.25, 0.25, 0.25, 0.25]]
    """
    n = math.prod(shape)
    with torch.no_grad():
        return operator(torch.eye(n, dtype=torch.float64).view(n, *shape)).flatten(1).T.contiguous()


def _parts(prior: Gaussian | GaussianMixture) -> tuple[Tensor, Tensor, Tensor]:
    if isinstance(prior, Gaussian):
        return torch.ones(1, dtype=torch.float64), prior.mean[None], prior.cov[None]
    if isinstance(prior, GaussianMixture):
        eye = torch.eye(prior.size, dtype=torch.float64)
        return prior.weights, prior.means, prior.stds[:, None, None] ** 2 * eye
    raise ValueError(f"exact_posterior got a {type(prior).__name__}; expected a Gaussian or a GaussianMixture")
