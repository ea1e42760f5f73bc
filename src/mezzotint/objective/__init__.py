"""What a training step minimises, one file an idea."""

from mezzotint.objective.anchor import DiffusionAnchor
from mezzotint.objective.batch import Batch, Loss, Objective, Scheduled
from mezzotint.objective.consistency import (
    ConsistencyStage,
    ConsistencyTraining,
    ExtraTerm,
    Partner,
    SameNoise,
    latent_consistency,
)
from mezzotint.objective.coupling import Coupling, Independent, OptimalTransport
from mezzotint.objective.curriculum import CeilDoubling, Curriculum, Doubling, FixedLevels
from mezzotint.objective.denoise import Denoise
from mezzotint.objective.levels import IndexLaw, KarrasLevels, LogNormalIndex, Pairs, UniformIndex
from mezzotint.objective.robust import (
    AdaptiveScale,
    Cauchy,
    ConstantScale,
    ElementwiseCauchy,
    FixedScale,
    GemanMcClure,
    PseudoHuber,
    RobustLoss,
    RobustScale,
    Squared,
)
from mezzotint.objective.spread import check_spread
from mezzotint.objective.times import LogitNormalTime, LogNormalSigma, TimeSampling, UniformTime
from mezzotint.objective.weight import EDMWeight, MinSNR, Unweighted, Weighting

__all__ = [
    "AdaptiveScale",
    "Batch",
    "Cauchy",
    "CeilDoubling",
    "ConsistencyStage",
    "ConsistencyTraining",
    "ConstantScale",
    "Coupling",
    "Curriculum",
    "Denoise",
    "DiffusionAnchor",
    "Doubling",
    "EDMWeight",
    "ElementwiseCauchy",
    "ExtraTerm",
    "FixedLevels",
    "FixedScale",
    "GemanMcClure",
    "Independent",
    "IndexLaw",
    "KarrasLevels",
    "LogNormalIndex",
    "LogNormalSigma",
    "LogitNormalTime",
    "Loss",
    "MinSNR",
    "Objective",
    "OptimalTransport",
    "Pairs",
    "Partner",
    "PseudoHuber",
    "RobustLoss",
    "RobustScale",
    "SameNoise",
    "Scheduled",
    "Squared",
    "TimeSampling",
    "UniformIndex",
    "UniformTime",
    "Unweighted",
    "Weighting",
    "check_spread",
    "latent_consistency",
]
