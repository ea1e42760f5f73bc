"""What a training step minimises, one file an idea."""

from mezzotint.objective.batch import Batch, Loss, Objective, Scheduled
from mezzotint.objective.denoise import Denoise
from mezzotint.objective.times import LogitNormalTime, LogNormalSigma, TimeSampling, UniformTime
from mezzotint.objective.weight import EDMWeight, MinSNR, Unweighted, Weighting

__all__ = [
    "Batch",
    "Denoise",
    "EDMWeight",
    "LogNormalSigma",
    "LogitNormalTime",
    "Loss",
    "MinSNR",
    "Objective",
    "Scheduled",
    "TimeSampling",
    "UniformTime",
    "Unweighted",
    "Weighting",
]
