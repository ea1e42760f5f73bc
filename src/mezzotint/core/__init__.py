"""The mathematics: schedules, grids, predictions, denoisers, conditions, noise. No networks, no files."""

from mezzotint.core.bernoulli import BernoulliChain
from mezzotint.core.boundary import BoundaryDenoiser
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
from mezzotint.core.direct import DirectDenoiser
from mezzotint.core.discrete import Discrete
from mezzotint.core.exact import Empirical, ExactDenoiser, Gaussian, GaussianMixture, LowRankMixture
from mezzotint.core.grid import explicit, karras, quadratic, resolve_grid, uniform_lambda, uniform_t
from mezzotint.core.grid_discrete import leading, linspace, trailing
from mezzotint.core.grid_levels import beta, beta_levels, exponential, karras_own
from mezzotint.core.grid_named import GRIDS, NAMED_GRIDS, NamedGrid, grid_named
from mezzotint.core.grid_sigmas import at_sigmas
from mezzotint.core.guided import WConditioned, extra_of_weight, handles_guidance, student_in, weight_of_extra
from mezzotint.core.multires import LevelDenoisers, MultiResDenoiser, pyramid_of, with_low
from mezzotint.core.noise import BrownianPath, Noise, fold
from mezzotint.core.prediction import Prediction
from mezzotint.core.pyramid import AveragePool, ResolutionPyramid
from mezzotint.core.schedule import VE, VP, Cosine, Flow, Schedule
from mezzotint.core.shifted import Shifted
from mezzotint.core.simplex import Simplex, SimplexNoise

__all__ = [
    "BernoulliChain",
    "GRIDS",
    "NAMED_GRIDS",
    "VE",
    "VP",
    "BoundaryDenoiser",
    "BrownianPath",
    "Condition",
    "Cosine",
    "Denoiser",
    "DirectDenoiser",
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
    "NamedGrid",
    "NetworkDenoiser",
    "Noise",
    "Prediction",
    "Schedule",
    "Shifted",
    "Simplex",
    "SimplexNoise",
    "VDenoiser",
    "WConditioned",
    "X0Denoiser",
    "at_sigmas",
    "beta",
    "beta_levels",
    "explicit",
    "exponential",
    "extra_of_weight",
    "fold",
    "grid_named",
    "handles_guidance",
    "karras",
    "karras_own",
    "leading",
    "linspace",
    "quadratic",
    "resolve_grid",
    "student_in",
    "trailing",
    "uniform_lambda",
    "uniform_t",
    "weight_of_extra",
    "LevelDenoisers",
    "MultiResDenoiser",
    "pyramid_of",
    "with_low",
    "AveragePool",
    "ResolutionPyramid",
]
