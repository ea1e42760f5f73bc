"""Frechet distance between two sets of features, by eigenvalues in float64."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from mezzotint.metric.features import check_pair
from mezzotint.metric.moments import Moments

__all__ = ["frechet_distance", "frechet_error", "frechet_gaussians"]


def frechet_distance(features_a: Float[Tensor, "n d"], features_b: Float[Tensor, "m d"]) -> float:
    """Frechet (2-Wasserstein, squared) distance of the Gaussians fitted to two sets of features.

        |mu_a - mu_b|^2 + tr(S_a + S_b - 2 (S_a^(1/2) S_b S_a^(1/2))^(1/2))

    S is the unbiased covariance. The estimate is biased upwards by about 1/n: compare at the same n, with the
    real-vs-real floor beside it, and never with a published FID (another network).

    Args:
        features_a, features_b: one feature vector a row; any float dtype, worked in float64.

    Raises:
        ValueError: for fewer than two rows, different lengths of feature, or values that are not finite.

    Source: Heusel et al. 2017 (arXiv 1706.08500), equation 6; the symmetric form of the root is our choice.

    >>> a = torch.tensor([[0.0], [2.0]])
    >>> frechet_distance(a, a + 3)
    9.0
    """
    check_pair(features_a, features_b, 2, ("features_a", "features_b"))
    a, b = Moments(features_a), Moments(features_b)
    return frechet_gaussians(a.mean, a.cov, b.mean, b.cov)


def frechet_gaussians(
    mean_a: Float[Tensor, "d"],
    cov_a: Float[Tensor, "d d"],
    mean_b: Float[Tensor, "d"],
    cov_b: Float[Tensor, "d d"],
) -> float:
    """The same distance of two Gaussians given by mean and covariance (symmetric, positive semi-definite).

    The eigenvalues of S_a^(1/2) S_b S_a^(1/2) are those of S_a S_b, but real and non-negative by construction.

    >>> one = torch.eye(2)
    >>> round(frechet_gaussians(torch.zeros(2), one, torch.ones(2), 4 * one), 9)
    4.0
    """
    mean_a, cov_a, mean_b, cov_b = (value.detach().cpu().double() for value in (mean_a, cov_a, mean_b, cov_b))
    values, vectors = torch.linalg.eigh(cov_a)
    root = (vectors * values.clamp(min=0).sqrt()) @ vectors.T
    product = root @ cov_b @ root
    cross = torch.linalg.eigvalsh(0.5 * (product + product.T)).clamp(min=0).sqrt().sum()
    distance = (mean_a - mean_b).square().sum() + cov_a.trace() + cov_b.trace() - 2 * cross
    return max(float(distance), 0.0)


def frechet_error(features_a: Float[Tensor, "n d"], features_b: Float[Tensor, "m d"]) -> float:
    """Standard error of `frechet_distance`, by the infinitesimal jackknife: one decomposition, no resampling.

        I_a(x) = 2 (mu_a - mu_b)^T y + y^T (1 - T) y - tr((1 - T) S_a),   y = x - mu_a
        error^2 = mean I_a^2 / n + mean I_b^2 / m

    T = S_a^(-1/2) (S_a^(1/2) S_b S_a^(1/2))^(1/2) S_a^(-1/2) carries one Gaussian to the other; b has its inverse.
    It is the spread over other samples of the same size; the bias (about 1/n) is not in it.

    Raises:
        ValueError: as `frechet_distance`, or where a covariance is singular (not more rows than features).

    Source: the linear term of Rippl, Munk, Sturm 2016 (arXiv 1507.04090), theorem 2.1.

    >>> a = torch.tensor([[0.0], [2.0], [4.0]], dtype=torch.float64)
    >>> round(frechet_error(a, a + 3), 6)  # 2 * 3 * sqrt(8/3 / 3 + 8/3 / 3)
    8.0
    """
    check_pair(features_a, features_b, 2, ("features_a", "features_b"))
    a, b = Moments(features_a), Moments(features_b)
    shift, identity = a.mean - b.mean, torch.eye(len(a.mean), dtype=torch.float64)
    there, back = _transports(a.cov, b.cov)
    variance = 0.0
    for features, own, gradient, slope in (
        (features_a, a, identity - there, 2 * shift),
        (features_b, b, identity - back, -2 * shift),
    ):
        y = features.detach().cpu().double() - own.mean
        influence = y @ slope + ((y @ gradient) * y).sum(1)
        variance += float(influence.var(correction=0)) / len(y)
    return variance**0.5


def _transports(cov_a: Tensor, cov_b: Tensor) -> tuple[Tensor, Tensor]:
    """The symmetric T with T cov_a T = cov_b, and its inverse."""
    values, vectors = torch.linalg.eigh(cov_a)
    least = torch.finfo(torch.float64).eps * len(values)
    if bool(values[0] > least * values[-1]):
        root, inverse = ((vectors * values**power) @ vectors.T for power in (0.5, -0.5))
        product = root @ cov_b @ root
        inner, turned = torch.linalg.eigh(0.5 * (product + product.T))
        if bool(inner[0] > least * inner[-1]):
            there, back = ((turned * inner**power) @ turned.T for power in (0.5, -0.5))
            return inverse @ there @ inverse, root @ back @ root
    raise ValueError("a covariance is singular, so the error has no estimate; give more rows than features")
