"""A mixture of low-rank Gaussians: data on a union of subspaces."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from mezzotint.core.condition import Condition
from mezzotint.core.exact.base import Distribution, checked_weights, chosen
from mezzotint.core.noise import Noise

__all__ = ["LowRankMixture"]


class LowRankMixture(Distribution):
    """x = U_k diag(scale_k) a, a ~ N(0, I_d), with probability w_k: a union of subspaces.

    E[x0 | x] = sum_k p(k | x) U_k diag(alpha s^2 / (alpha^2 s^2 + sigma^2)) U_k^T x, and
    2 log p(x | k) = sum_j (alpha s_j)^2 (u_j^T x)^2 / (sigma^2 ((alpha s_j)^2 + sigma^2))
    - sum_j log((alpha s_j)^2 + sigma^2) + terms that do not depend on k.

    Args:
        bases: (k, n, d) with orthonormal columns.
        weights: (k,) positive; None for equal ones.
        scales: (k, d) standard deviations inside the subspace, > 0; None for ones.
        shape: sample shape with n elements; None for (n,).

    Raises:
        ValueError: for bases whose columns are not orthonormal, or shapes that disagree.

    Source: arXiv 2409.02426, definition 1 (scales: our extension).

    >>> mix = LowRankMixture(torch.eye(3, 1)[None])
    >>> mix.sample(Noise([0]))[0, 1:].tolist()
    [0.0, 0.0]
    """

    def __init__(
        self,
        bases: Float[Tensor, "k n d"],
        weights: Float[Tensor, " k"] | None = None,
        scales: Float[Tensor, "k d"] | None = None,
        shape: tuple[int, ...] | None = None,
    ) -> None:
        bases = torch.as_tensor(bases, dtype=torch.float64)
        if bases.ndim != 3:
            raise ValueError(f"LowRankMixture got bases of shape {tuple(bases.shape)}; expected (k, n, d)")
        k, n, d = bases.shape
        gram = bases.transpose(1, 2) @ bases
        if not torch.allclose(gram, torch.eye(d, dtype=torch.float64).expand(k, d, d), atol=1e-6):
            raise ValueError("LowRankMixture got bases whose columns are not orthonormal; use torch.linalg.qr first")
        self.bases = bases
        self.weights = checked_weights(weights, k, "LowRankMixture")
        self.scales = torch.ones(k, d, dtype=torch.float64) if scales is None else torch.as_tensor(scales).double()
        if self.scales.shape != (k, d) or not bool((self.scales > 0).all()):
            raise ValueError(
                f"LowRankMixture got scales of shape {tuple(self.scales.shape)}; expected {(k, d)}, all > 0"
            )
        self.shape = (n,) if shape is None else tuple(shape)
        if self.size != n:
            raise ValueError(f"LowRankMixture got shape {self.shape} for bases of {n} rows; expected {n} elements")

    def _project(self, x: Tensor) -> Tensor:
        """u_kj^T x, (b, k, d)."""
        return torch.stack([torch.einsum("knd,n->kd", self.bases, row) for row in x])

    def _log_joint(self, x: Tensor, p: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
        signal, noise = (alpha[..., None] * self.scales) ** 2, sigma[..., None] ** 2
        var = signal + noise
        inside = (signal * p**2 / (noise * var) - var.log()).sum(-1)
        rest = (x**2).sum(-1, keepdim=True) / sigma**2 + (self.size - p.shape[-1]) * 2 * sigma.log()
        return self.weights.log() + 0.5 * (inside - rest - self.size * math.log(2 * math.pi))

    def posterior_mean(self, x: Tensor, alpha: Tensor, sigma: Tensor, c: Condition | None) -> Tensor:
        """See Distribution.posterior_mean."""
        p = self._project(x)
        weight = self._log_joint(x, p, alpha, sigma).softmax(-1)
        signal = alpha[..., None] * self.scales**2
        gain = signal / (alpha[..., None] * signal + sigma[..., None] ** 2)
        inner = weight[..., None] * gain * p
        return torch.stack([torch.einsum("knd,kd->n", self.bases, row) for row in inner])

    def sample(self, noise: Noise) -> Float[Tensor, "b *s"]:
        """See Distribution.sample."""
        k = chosen(noise, self.weights)
        a = noise("exact", 0, (self.bases.shape[-1],), dtype=torch.float64) * self.scales[k]
        return torch.stack([self.bases[i] @ row for i, row in zip(k.tolist(), a, strict=True)]).reshape(-1, *self.shape)

    def log_prob(self, x: Float[Tensor, "b *s"], alpha: float = 1.0, sigma: float = 0.0) -> Float[Tensor, " b"]:
        """See Distribution.log_prob.

        Raises:
            ValueError: at sigma = 0, where the distribution has no density.
        """
        if not sigma > 0:
            raise ValueError(
                f"LowRankMixture.log_prob got sigma={sigma}; off its subspaces the density needs sigma > 0"
            )
        flat = self.flat(x)
        a, s = (torch.full((len(flat), 1), q, dtype=torch.float64) for q in (alpha, sigma))
        return self._log_joint(flat, self._project(flat), a, s).logsumexp(-1)
