"""Frechet distance between two sets of features, by eigenvalues in float64."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

__all__ = ["frechet_distance", "frechet_gaussians"]


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
    for name, value in (("features_a", features_a), ("features_b", features_b)):
        if value.ndim != 2 or value.shape[0] < 2:
            raise ValueError(f"{name} has shape {tuple(value.shape)}; expected (n, d) with at least two rows")
        if not bool(torch.isfinite(value).all()):
            raise ValueError(f"{name} has NaN or infinite values; look where they were made")
    if features_a.shape[1] != features_b.shape[1]:
        raise ValueError(
            f"features have {features_a.shape[1]} and {features_b.shape[1]} numbers a row; use one extractor for both"
        )
    return frechet_gaussians(*_moments(features_a), *_moments(features_b))


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


def _moments(features: Tensor) -> tuple[Tensor, Tensor]:
    rows = features.detach().cpu().double()
    mean = rows.mean(0)
    centred = rows - mean
    return mean, centred.T @ centred / (len(rows) - 1)
