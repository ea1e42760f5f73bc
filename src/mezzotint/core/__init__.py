"""The mathematics: schedules, grids, predictions, denoisers, conditions, noise. No networks, no files."""

from mezzotint.core.condition import Condition
from mezzotint.core.denoiser import (
    Denoiser,
    EDMDenoiser,
    EncodedDenoiser,
    EpsDenoiser,
    FlowDenoiser,
    NetworkDenoiser,
    VDenoiser,
    X0Denoiser,
)
from mezzotint.core.discrete import Discrete
from mezzotint.core.exact import Empirical, ExactDenoiser, Gaussian, GaussianMixture, LowRankMixture
from mezzotint.core.grid import explicit, karras, quadratic, resolve_grid, trailing, uniform_lambda, uniform_t
from mezzotint.core.noise import BrownianPath, Noise, fold
from mezzotint.core.prediction import Prediction
from mezzotint.core.schedule import VE, VP, Cosine, Flow, Schedule
from mezzotint.core.shifted import Shifted

__all__ = [
    "VE",
    "VP",
    "BrownianPath",
    "Condition",
    "Cosine",
    "Denoiser",
    "Discrete",
    "EDMDenoiser",
    "Empirical",
    "EncodedDenoiser",
    "EpsDenoiser",
    "ExactDenoiser",
    "Flow",
    "FlowDenoiser",
    "Gaussian",
    "GaussianMixture",
    "LowRankMixture",
    "NetworkDenoiser",
    "Noise",
    "Prediction",
    "Schedule",
    "Shifted",
    "VDenoiser",
    "X0Denoiser",
    "explicit",
    "fold",
    "karras",
    "quadratic",
    "resolve_grid",
    "trailing",
    "uniform_lambda",
    "uniform_t",
]
