"""What a training step minimises, one file an idea."""

from mezzotint.objective.anchor import DiffusionAnchor
from mezzotint.objective.batch import Batch, Loss, Objective, Scheduled
from mezzotint.objective.cascade import CascadeLevel, CascadeObjective, Corruption, ShiftedTimes
from mezzotint.objective.consistency import (
    ConsistencyStage,
    ConsistencyTraining,
    ExtraTerm,
    Partner,
    SameNoise,
    latent_consistency,
)
from mezzotint.objective.contrastive import Gather, all_ranks, nce, own_rank
from mezzotint.objective.coupling import Coupling, Independent, OptimalTransport
from mezzotint.objective.curriculum import CeilDoubling, Curriculum, Doubling, FixedLevels
from mezzotint.objective.denoise import Denoise
from mezzotint.objective.ect import ECT, ECTPairs, NormalisedSquare, SameImage
from mezzotint.objective.guided import GuidedDistillation, guided_target
from mezzotint.objective.levels import IndexLaw, KarrasLevels, LogNormalIndex, Pairs, UniformIndex
from mezzotint.objective.progressive import EncoderDistillation, ProgressiveDistillation, two_step_target
from mezzotint.objective.representation import Augmentation, Representation, RepresentationStep, Twins, represent
from mezzotint.objective.resolution import KarrasSpacing, ResolutionLevels, SnappedLogNormal
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
from mezzotint.objective.snr import SNRPlusOne, TruncatedSNR
from mezzotint.objective.spread import check_spread
from mezzotint.objective.structured import Structured
from mezzotint.objective.temperature import ConstantTau, CosineTau, Temperature
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
    "Structured",
    "TimeSampling",
    "UniformIndex",
    "UniformTime",
    "Unweighted",
    "Weighting",
    "check_spread",
    "latent_consistency",
    "Gather",
    "all_ranks",
    "nce",
    "own_rank",
    "ECT",
    "ECTPairs",
    "NormalisedSquare",
    "SameImage",
    "Augmentation",
    "Representation",
    "RepresentationStep",
    "Twins",
    "represent",
    "KarrasSpacing",
    "ResolutionLevels",
    "SnappedLogNormal",
    "ConstantTau",
    "CosineTau",
    "Temperature",
    "EncoderDistillation",
    "GuidedDistillation",
    "ProgressiveDistillation",
    "SNRPlusOne",
    "TruncatedSNR",
    "guided_target",
    "two_step_target",
    "CascadeLevel",
    "CascadeObjective",
    "Corruption",
    "ShiftedTimes",
]
