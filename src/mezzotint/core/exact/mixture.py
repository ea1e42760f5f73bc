"""A mixture of isotropic Gaussians, and the mixture with no width: a finite data set."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from mezzotint.core.condition import Condition
from mezzotint.core.exact.base import Distribution, checked_weights, chosen, log_weights
from mezzotint.core.noise import Noise

__all__ = ["Empirical", "GaussianMixture"]


class GaussianMixture(Distribution):
    """sum_k w_k N(m_k, s_k^2 I): E[x0 | x] = sum_k p(k | x) [m_k + alpha s_k^2 / var_k (x - alpha m_k)].

    var_k = alpha^2 s_k^2 + sigma^2. A condition c["label"] = k restricts the mixture to component k; the label
    K (the number of components) means the whole mixture, so that classifier-free guidance has a known answer.

    Args:
        means: (k, *s).
        stds: (k,) each >= 0.
        weights: (k,) positive, normalised here; None for equal ones.

    Raises:
        ValueError: for shapes that disagree, a negative std or a weight that is not positive.

    >>> from mezzotint.core import VP
    >>> mix = GaussianMixture(torch.tensor([[-1.0], [1.0]]), torch.tensor([0.1, 0.1]))
    >>> mix.denoiser(VP())(torch.zeros(1, 1), torch.tensor([1.0])).x0.abs().item() < 1e-12
    True
    """

    def __init__(
        self, means: Float[Tensor, "k *s"], stds: Float[Tensor, " k"], weights: Float[Tensor, " k"] | None = None
    ) -> None:
        means = torch.as_tensor(means, dtype=torch.float64)
        if means.ndim < 1 or len(means) == 0:
            raise ValueError(f"GaussianMixture got means of shape {tuple(means.shape)}; expected (k, *s) with k >= 1")
        self.shape = tuple(means.shape[1:])
        self.means = means.reshape(len(means), -1)
        self.stds = torch.as_tensor(stds, dtype=torch.float64)
        if self.stds.shape != (len(means),) or not bool((self.stds >= 0).all()):
            raise ValueError(f"GaussianMixture got stds {self.stds.tolist()}; expected {len(means)} numbers >= 0")
        self.weights = checked_weights(weights, len(means), "GaussianMixture")

    def _joint(self, x: Tensor, alpha: Tensor | float, sigma: Tensor | float, log_w: Tensor) -> Tensor:
        """log w_k + log N(x; alpha m_k, var_k), (b, k)."""
        var = alpha**2 * self.stds**2 + sigma**2
        scale = torch.as_tensor(alpha, dtype=torch.float64, device=x.device).view(-1, 1, 1)
        offset = x[:, None, :] - scale * self.means
        logs = -0.5 * ((offset**2).sum(-1) / var + self.size * (var.log() + math.log(2 * math.pi)))
        return log_w + logs

    def posterior_mean(self, x: Tensor, alpha: Tensor, sigma: Tensor, c: Condition | None) -> Tensor:
        """See Distribution.posterior_mean."""
        p = self._joint(x, alpha, sigma, log_weights(self.weights, c, len(x))).softmax(-1)
        gain = alpha * self.stds**2 / (alpha**2 * self.stds**2 + sigma**2)
        means = self.means + gain[..., None] * (x[:, None, :] - alpha[..., None] * self.means)
        return (p[..., None] * means).sum(1)

    def sample(self, noise: Noise) -> Float[Tensor, "b *s"]:
        """See Distribution.sample."""
        k = chosen(noise, self.weights)
        z = noise("exact", 0, (self.size,), dtype=torch.float64)
        return (self.means[k] + self.stds[k, None] * z).reshape(-1, *self.shape)

    def log_prob(self, x: Float[Tensor, "b *s"], alpha: float = 1.0, sigma: float = 0.0) -> Float[Tensor, " b"]:
        """See Distribution.log_prob."""
        flat = self.flat(x)
        return self._joint(flat, alpha, sigma, log_weights(self.weights, None, len(flat))).logsumexp(-1)


class Empirical(GaussianMixture):
    """The exact denoiser of a finite data set: E[x0 | x] = softmax_i(-|x - alpha x_i|^2 / (2 sigma^2)) x_i.

    What a network with unlimited capacity would learn: it reproduces the data set and nothing else.

    Args:
        data: (n, *s).
        weights: (n,) positive; None for equal ones.

    >>> from mezzotint.core import VE
    >>> d = Empirical(torch.tensor([[0.0], [4.0]])).denoiser(VE(0.1, 10.0))
    >>> round(d(torch.tensor([[2.0]]), torch.tensor([0.9])).x0.item(), 6)
    2.0
    """

    def __init__(self, data: Float[Tensor, "n *s"], weights: Float[Tensor, " n"] | None = None) -> None:
        super().__init__(data, torch.zeros(len(data), dtype=torch.float64), weights)

    def log_prob(self, x: Float[Tensor, "b *s"], alpha: float = 1.0, sigma: float = 0.0) -> Float[Tensor, " b"]:
        """See Distribution.log_prob.

        Raises:
            ValueError: at sigma = 0, where a finite data set has no density.
        """
        if not sigma > 0:
            raise ValueError(
                f"Empirical.log_prob got sigma={sigma}; a finite data set has a density only for sigma > 0"
            )
        return super().log_prob(x, alpha, sigma)
