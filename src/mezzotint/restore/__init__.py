"""Restoration: an image from a measurement of it, over any denoiser."""

from mezzotint.restore.dps import DPS
from mezzotint.restore.from_guess import FromGuess
from mezzotint.restore.ilvr import ILVR
from mezzotint.restore.mcg import MCG
from mezzotint.restore.problem import Problem
from mezzotint.restore.red_weight import RED_WEIGHTS, ClippedRatio, LogRatio, RatioPower, REDWeight
from mezzotint.restore.reddiff import REDDiff, REDDiffParallel, REDDiffPrior
from mezzotint.restore.repaint import RePaint
from mezzotint.restore.restorer import Restorer, SampledRestorer
from mezzotint.restore.travel import TimeTravel

__all__ = [
    "Problem",
    "Restorer",
    "SampledRestorer",
    "DPS",
    "ILVR",
    "MCG",
    "RED_WEIGHTS",
    "ClippedRatio",
    "LogRatio",
    "RatioPower",
    "REDWeight",
    "REDDiff",
    "REDDiffParallel",
    "REDDiffPrior",
    "RePaint",
    "TimeTravel",
    "FromGuess",
]
