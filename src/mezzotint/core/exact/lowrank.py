"""A mixture of low-rank Gaussians: data on a union of subspaces."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from mezzotint.core.condition import Condition
from mezzotint.core.exact.base import Distribution, checked_weights, chosen, log_weights
from mezzotint.core.noise import Noise, fold

__all__ = ["LowRankMixture"]


class LowRankMixture(Distribution):
    """x = m_k + U_k diag(scale_k) a, a ~ N(0, I_d), with probability w_k: a union of subspaces.

    With y = x - alpha m_k, E[x0 | x] = sum_k p(k | x) [m_k + U_k diag(alpha s^2 / (alpha^2 s^2 + sigma^2)) U_k^T y] and
    2 log p(x | k) = sum_j (alpha s_j)^2 (u_j^T y)^2 / (sigma^2 ((alpha s_j)^2 + sigma^2))
    - sum_j log((alpha s_j)^2 + sigma^2) - |y|^2 / sigma^2 + terms that do not depend on k.
    A condition c["label"] = k restricts the mixture to component k; the label K means the whole mixture.

    Args:
        bases: (k, n, d) with orthonormal columns.
        weights: (k,) positive; None for equal ones.
        scales: (k, d) standard deviations inside the subspace, >= 0; None for ones. A column whose scale is 0 plays no
            part: components of unequal dimension have such columns.
        shape: sample shape with n elements; None for (n,).
        means: (k, n); None for zeros.

    Raises:
        ValueError: for bases whose columns are not orthonormal, or shapes that disagree.

    Source: arXiv 2409.02426, definition 1 (means and scales: its remark on the general case).

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
        means: Float[Tensor, "k n"] | None = None,
    ) -> None:
        bases = torch.as_tensor(bases, dtype=torch.float64)
        if bases.ndim != 3 or 0 in bases.shape:
            raise ValueError(
                f"LowRankMixture got bases of shape {tuple(bases.shape)}; expected (k, n, d), none of it 0"
            )
        k, n, d = bases.shape
        gram = bases.transpose(1, 2) @ bases
        if not torch.allclose(gram, torch.eye(d, dtype=torch.float64).expand(k, d, d), atol=1e-6):
            raise ValueError("LowRankMixture got bases whose columns are not orthonormal; use torch.linalg.qr first")
        self.bases = bases
        self.weights = checked_weights(weights, k, "LowRankMixture")
        self.scales = torch.ones(k, d, dtype=torch.float64) if scales is None else torch.as_tensor(scales).double()
        if self.scales.shape != (k, d) or not bool((self.scales >= 0).all()):
            raise ValueError(
                f"LowRankMixture got scales of shape {tuple(self.scales.shape)}; expected {(k, d)}, none below 0"
            )
        self.means = torch.zeros(k, n, dtype=torch.float64) if means is None else torch.as_tensor(means).double()
        if self.means.shape != (k, n):
            raise ValueError(f"LowRankMixture got means of shape {tuple(self.means.shape)}; expected {(k, n)}")
        self.shape = (n,) if shape is None else tuple(shape)
        if self.size != n:
            raise ValueError(f"LowRankMixture got shape {self.shape} for bases of {n} rows; expected {n} elements")

    @classmethod
    def orthogonal(
        cls, n: int, dims: int | Sequence[int], components: int | None = None, *, seed: int = 0,
        shape: tuple[int, ...] | None = None,
    ) -> LowRankMixture:  # fmt: skip
        """Subspaces orthogonal to one another: consecutive columns of one random orthogonal matrix, equal weights.

        Args:
            n: dimension of the space.
            dims: of the subspaces: one number for all, or one each.
            components: their number; may be left out where dims has one each.
            seed: of the matrix.
            shape: see the class.

        Raises:
            ValueError: where the subspaces do not fit into n dimensions, or a dimension is below 1.

        Source: arXiv 2409.02426, section 2 and official code (their columns of one orthogonal matrix).

        >>> LowRankMixture.orthogonal(48, 7, 2).bases.shape
        torch.Size([2, 48, 7])
        """
        each = list(dims) if isinstance(dims, Sequence) else [dims] * (2 if components is None else components)
        if not each or min(each) < 1 or (components is not None and components != len(each)):
            raise ValueError(
                f"LowRankMixture.orthogonal got dims={dims!r}, components={components}; expected each >= 1"
            )
        if sum(each) > n:
            raise ValueError(
                f"{len(each)} orthogonal subspaces of dimensions {each} need {sum(each)} dimensions but n={n}; "
                "take fewer, smaller ones, or a larger n"
            )
        square = Noise([fold(seed, "subspaces")])("subspaces", 0, (n, n), dtype=torch.float64)[0]
        q, widest = torch.linalg.qr(square)[0], max(each)
        bases, scales, start = torch.zeros(len(each), n, widest).double(), torch.zeros(len(each), widest).double(), 0
        for k, d in enumerate(each):
            own, rest = q[:, start : start + d], torch.cat([q[:, :start], q[:, start + d :]], 1)
            bases[k] = torch.cat([own, rest[:, : widest - d]], 1)
            scales[k, :d] = 1.0
            start += d
        return cls(bases, scales=scales, shape=shape)

    @property
    def dims(self) -> tuple[int, ...]:
        """Dimension of each component."""
        return tuple((self.scales > 0).sum(-1).tolist())

    def _project(self, x: Tensor) -> Tensor:
        """u_kj^T x, (b, k, d)."""
        return torch.stack([torch.einsum("knd,n->kd", self.bases, row) for row in x])

    def _inside(self, x: Tensor, alpha: Tensor) -> Tensor:
        """u_kj^T (x - alpha m_k), (b, k, d)."""
        return self._project(x) - alpha[..., None] * torch.einsum("knd,kn->kd", self.bases, self.means)

    def _log_joint(self, x: Tensor, p: Tensor, alpha: Tensor, sigma: Tensor, c: Condition | None = None) -> Tensor:
        signal, noise = (alpha[..., None] * self.scales) ** 2, sigma[..., None] ** 2
        var = signal + noise
        inside = (signal * p**2 / (noise * var) - var.log()).sum(-1)
        apart = (x**2).sum(-1, keepdim=True) - 2 * alpha * (x[:, None] * self.means).sum(-1)
        apart = apart + alpha**2 * (self.means**2).sum(-1)
        rest = apart / sigma**2 + (self.size - p.shape[-1]) * 2 * sigma.log()
        logs = 0.5 * (inside - rest - self.size * math.log(2 * math.pi))
        return log_weights(self.weights, c, len(x)) + logs

    def responsibilities(self, x: Tensor, alpha: Tensor, sigma: Tensor, c: Condition | None = None) -> Tensor:
        """p(k | x), (b, k), for flat float64 x (b, n), alpha and sigma (b, 1), sigma > 0."""
        return self._log_joint(x, self._inside(x, alpha), alpha, sigma, c).softmax(-1)

    def _component_means(self, x: Tensor, alpha: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
        """u_kj^T (x - alpha m_k), and what E[x0 | x, k] - m_k is in the basis k; each (b, k, d)."""
        p = self._inside(x, alpha)
        signal = alpha[..., None] * self.scales**2
        return p, signal / (alpha[..., None] * signal + sigma[..., None] ** 2) * p

    def posterior_mean(self, x: Tensor, alpha: Tensor, sigma: Tensor, c: Condition | None) -> Tensor:
        """See Distribution.posterior_mean."""
        p, inner = self._component_means(x, alpha, sigma)
        weight = self._log_joint(x, p, alpha, sigma, c).softmax(-1)
        rows = zip(weight[..., None] * inner, weight, strict=True)
        return torch.stack([torch.einsum("knd,kd->n", self.bases, a) + w @ self.means for a, w in rows])

    def posterior_cov(self, x: Tensor, alpha: Tensor, sigma: Tensor, c: Condition | None = None) -> Tensor:
        """Cov[x0 | x], (b, n, n), for the arguments of `posterior_mean`; the Jacobian of that is alpha / sigma^2 of it.

        sum_k p(k | x) (U_k diag(sigma^2 s^2 / (alpha^2 s^2 + sigma^2)) U_k^T + mean_k mean_k^T) - mean mean^T.

        Source: the second-order formula of Tweedie; arXiv 2409.02426, the Jacobian of its denoiser.
        """
        p, inner = self._component_means(x, alpha, sigma)
        weight = self._log_joint(x, p, alpha, sigma, c).softmax(-1)
        noise, power = sigma[..., None] ** 2, self.scales**2
        width = noise * power / (alpha[..., None] ** 2 * power + noise)
        means = self.means + torch.einsum("knd,bkd->bkn", self.bases, inner)
        apart = means - (weight[..., None] * means).sum(1, keepdim=True)
        within = torch.einsum("knd,bkd,kmd->bnm", self.bases, weight[..., None] * width, self.bases)
        return within + torch.einsum("bk,bkn,bkm->bnm", weight, apart, apart)

    def sample(self, noise: Noise) -> Float[Tensor, "b *s"]:
        """See Distribution.sample."""
        return self.sample_of(chosen(noise, self.weights), noise)

    def sample_of(self, component: Tensor, noise: Noise) -> Float[Tensor, "b *s"]:
        """One float64 sample a seed of the components named, (b,)."""
        a = noise("exact", 0, (self.bases.shape[-1],), dtype=torch.float64) * self.scales[component]
        rows = zip(component.tolist(), a, strict=True)
        return torch.stack([self.means[i] + self.bases[i] @ row for i, row in rows]).reshape(-1, *self.shape)

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
        return self._log_joint(flat, self._inside(flat, a), a, s).logsumexp(-1)
