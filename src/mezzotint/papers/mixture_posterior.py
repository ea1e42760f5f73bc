"""The exact posterior of a mixture of Gaussians under y = M x + std n, and how far restorers' results are from it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from mezzotint.core import VP, GaussianMixture, Noise, fold
from mezzotint.restore import Restorer
from mezzotint.restore.operators import Matrix

__all__ = ["MixtureProblem"]


@dataclass(frozen=True)
class MixtureProblem:
    """Measurements y of draws x of a mixture, and what is known of x | y.

    Component k has the weight w_k N(y; M m_k, s_k^2 M M^T + std^2 I), the mean m_k + G_k (y - M m_k) with
    G_k = s_k^2 M^T (s_k^2 M M^T + std^2 I)^-1, and the covariance s_k^2 (I - G_k M).

    Args:
        mixture: over n numbers.
        matrix: M, (m, n).
        std: of the noise, > 0.
        x, y: (p, n) and (p, m).
        mean, width: of the posterior, (p, n): its standard deviation along each axis.
        modes: weight of each component, (p, k).
    """

    mixture: GaussianMixture
    matrix: Tensor
    std: float
    x: Tensor
    y: Tensor
    mean: Tensor
    width: Tensor
    modes: Tensor

    @classmethod
    def draw(cls, seed: int, problems: int, *, n: int = 64, m: int = 4, k: int = 6, std: float = 0.1) -> MixtureProblem:
        """A random mixture, matrix and measurements: means of scale 0.5, widths 0.15 to 0.3, rows of length 1 or so."""

        def normal(purpose: str, *shape: int) -> Tensor:
            return Noise([fold(seed, purpose)])(purpose, 0, shape, dtype=torch.float64)[0]

        matrix = normal("matrix", m, n) / math.sqrt(n)
        mixture = GaussianMixture(0.5 * normal("means", k, n), torch.linspace(0.15, 0.3, k))
        noise = Noise([fold(seed, "problem", i) for i in range(problems)])
        x = mixture.sample(noise)
        y = x @ matrix.T + std * noise("measured", 0, (m,), dtype=torch.float64)
        return cls(mixture, matrix, std, x, y, *_posterior(mixture, matrix, std, y))

    def judge(self, method: Restorer, draws: int, steps: int, seed: int) -> dict[str, float]:
        """`compare` of so many results a problem, over the exact denoiser of the mixture under a VP schedule."""
        noise = Noise([fold(seed, "draw", i) for i in range(len(self.y) * draws)])
        y, d = self.y.repeat_interleave(draws, 0), self.mixture.denoiser(VP())
        made = method(d, Matrix(self.matrix), y, noise, std=self.std, steps=steps)
        return self.compare(made.unflatten(0, (-1, draws)))

    def compare(self, made: Float[Tensor, "p s n"]) -> dict[str, float]:
        """Of s results a problem, in units of the posterior's width sqrt(tr C):

        error: of one result, from the posterior's mean; 1 for exact samples. bias: of the mean of all s. width: of the
        results around their mean, 1 for exact samples. coverage: of the true x by mean +- 1.645 standard deviations of
        the results, 0.9 for exact samples of nearly Gaussian posteriors. hits: results nearest to the component that
        weighs most; `sure` is the mean weight of that one, what exact samples hit.
        """
        scale = self.width.square().sum(-1)
        middle, spread = made.mean(1), made.std(1)
        apart = (made - self.mean[:, None]).square().sum(-1).mean(1) / scale
        bias = (middle - self.mean).square().sum(-1) / scale
        near = torch.cdist(made.flatten(0, 1), self.mixture.means).argmin(-1).view(made.shape[:2])
        return {
            "error": float(apart.mean().sqrt()),
            "bias": float(bias.mean().sqrt()),
            "width": float((spread.square().sum(-1) / scale).mean().sqrt()),
            "coverage": float(((self.x - middle).abs() <= 1.645 * spread).double().mean()),
            "hits": float((near == self.modes.argmax(-1)[:, None]).double().mean()),
            "sure": float(self.modes.max(-1).values.mean()),
        }


def _posterior(mixture: GaussianMixture, matrix: Tensor, std: float, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Mean, width and component weights."""
    logs, means, variances = [], [], []
    eye = torch.eye(len(matrix), dtype=torch.float64)
    for mean, s, w in zip(mixture.means, mixture.stds, mixture.weights):
        seen = s**2 * matrix @ matrix.T + std**2 * eye
        gain = torch.linalg.solve(seen, s**2 * matrix).T
        rest = y - matrix @ mean
        logs.append(w.log() - 0.5 * ((rest @ torch.linalg.inv(seen) * rest).sum(-1) + torch.logdet(seen)))
        means.append(mean + rest @ gain.T)
        variances.append(s**2 * (1 - (gain * matrix.T).sum(-1)))
    modes = torch.stack(logs, -1).softmax(-1)
    each, within = torch.stack(means, 1), torch.stack(variances)
    mean = (modes[..., None] * each).sum(1)
    variance = (modes[..., None] * (within + (each - mean[:, None]).square())).sum(1)
    return mean, variance.sqrt(), modes
