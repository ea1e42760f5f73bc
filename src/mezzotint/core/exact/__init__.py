"""Distributions whose answer is known: the ground that every method of the library is measured on."""

from mezzotint.core.exact.base import Distribution, ExactDenoiser
from mezzotint.core.exact.flow import probability_flow
from mezzotint.core.exact.gaussian import Gaussian
from mezzotint.core.exact.lowrank import LowRankMixture
from mezzotint.core.exact.mixture import Empirical, GaussianMixture
from mezzotint.core.exact.pooled import PooledGaussian

__all__ = [
    "Distribution",
    "Empirical",
    "ExactDenoiser",
    "Gaussian",
    "GaussianMixture",
    "LowRankMixture",
    "probability_flow",
    "PooledGaussian",
]
