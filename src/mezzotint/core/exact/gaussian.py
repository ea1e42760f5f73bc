"""A Gaussian with full covariance."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from mezzotint.core.condition import Condition
from mezzotint.core.exact.base import Distribution, rows_times
from mezzotint.core.noise import Noise

__all__ = ["Gaussian"]


class Gaussian(Distribution):
    """N(mean, C): E[x0 | x] = mean + alpha C (alpha^2 C + sigma^2 I)^-1 (x - alpha mean).

    Args:
        mean: (*s).
        cov: (n, n) symmetric positive semi-definite, n the number of elements of mean, in row-major order.
        std: instead of cov, a number or (*s): a diagonal covariance std^2. Exactly one of the two.

    Raises:
        ValueError: for both or neither of cov and std, a wrong shape, an asymmetric or indefinite cov, a negative std.

    >>> from mezzotint.core import Flow
    >>> d = Gaussian(torch.zeros(2), std=1.0).denoiser(Flow())
    >>> d(torch.ones(1, 2), torch.tensor([0.5])).x0.tolist()
    [[1.0, 1.0]]
    """

    def __init__(
        self, mean: Float[Tensor, "*s"], cov: Float[Tensor, "n n"] | None = None, std: Tensor | float | None = None
    ) -> None:
        mean = torch.as_tensor(mean, dtype=torch.float64)
        self.shape = tuple(mean.shape)
        self.mean = mean.reshape(-1)
        n = self.mean.numel()
        if (cov is None) == (std is None):
            raise ValueError("Gaussian needs exactly one of cov and std")
        if std is not None:
            spread = torch.as_tensor(std, dtype=torch.float64)
            if bool((spread < 0).any()):
                raise ValueError(f"Gaussian got a negative std {float(spread.min())}; expected >= 0")
            self.values = spread.expand(self.shape).reshape(-1) ** 2
            self.vectors: Tensor | None = None  # a diagonal is its own basis, and n^2 numbers would fill the memory
            return
        cov = torch.as_tensor(cov, dtype=torch.float64)
        if cov.shape != (n, n):
            raise ValueError(f"Gaussian got cov of shape {tuple(cov.shape)}; expected ({n}, {n}) for mean {self.shape}")
        if not torch.allclose(cov, cov.T, rtol=1e-9, atol=1e-12):
            raise ValueError("Gaussian got an asymmetric cov; expected a symmetric positive semi-definite matrix")
        values, self.vectors = torch.linalg.eigh(0.5 * (cov + cov.T))
        if float(values.min()) < -1e-9 * max(1.0, float(values.max())):
            raise ValueError(f"Gaussian got cov with eigenvalue {float(values.min()):.3g}; expected none below 0")
        self.values = values.clamp(min=0)

    @property
    def cov(self) -> Tensor:
        """The covariance, (n, n)."""
        if self.vectors is None:
            return self.values.diag()
        return (self.vectors * self.values) @ self.vectors.T

    def posterior_mean(self, x: Tensor, alpha: Tensor, sigma: Tensor, c: Condition | None) -> Tensor:
        """See Distribution.posterior_mean."""
        gain = alpha * self.values / (alpha**2 * self.values + sigma**2)
        return self.mean + self.back(gain * self.along(x - alpha * self.mean))

    def sample(self, noise: Noise) -> Float[Tensor, "b *s"]:
        """See Distribution.sample."""
        z = noise("exact", 0, (self.size,), dtype=torch.float64)
        return (self.mean + self.back(z * self.values.sqrt())).reshape(-1, *self.shape)

    def log_prob(self, x: Float[Tensor, "b *s"], alpha: float = 1.0, sigma: float = 0.0) -> Float[Tensor, " b"]:
        """See Distribution.log_prob."""
        var = alpha**2 * self.values + sigma**2
        z = self.along(self.flat(x) - alpha * self.mean)
        return -0.5 * (z**2 / var + var.log() + math.log(2 * math.pi)).sum(-1)

    def along(self, x: Float[Tensor, "b n"]) -> Float[Tensor, "b n"]:
        """Coordinates along the axes of the covariance, whose variances are `values`."""
        return x if self.vectors is None else rows_times(x, self.vectors)

    def back(self, z: Float[Tensor, "b n"]) -> Float[Tensor, "b n"]:
        """From coordinates along the axes."""
        return z if self.vectors is None else rows_times(z, self.vectors.T)
