"""Restoration: an image from a measurement of it, over any denoiser."""

from mezzotint.restore.anomaly import Anomaly, PartialDiffusion, healthy_twin
from mezzotint.restore.ddnm import DDNM
from mezzotint.restore.ddrm import DDRM
from mezzotint.restore.diffpir import DiffPIR
from mezzotint.restore.dps import DPS
from mezzotint.restore.ensemble import MaskEnsemble, coded, segment
from mezzotint.restore.exact_posterior import ExactPosterior, exact_posterior
from mezzotint.restore.expected import Expected
from mezzotint.restore.from_guess import FromGuess
from mezzotint.restore.guess_pigdm import GuessPiGDM
from mezzotint.restore.ilvr import ILVR
from mezzotint.restore.match import denoise, time_of_noise
from mezzotint.restore.mcg import MCG
from mezzotint.restore.moment import MomentMatching
from mezzotint.restore.pigdm import PiGDM
from mezzotint.restore.posterior import Posterior, calibrate, posterior
from mezzotint.restore.predictor_corrector import PredictorCorrector
from mezzotint.restore.problem import Problem
from mezzotint.restore.red_weight import RED_WEIGHTS, ClippedRatio, LogRatio, RatioPower, REDWeight
from mezzotint.restore.reddiff import REDDiff, REDDiffParallel, REDDiffPrior
from mezzotint.restore.repaint import RePaint
from mezzotint.restore.restorer import Restorer, SampledRestorer
from mezzotint.restore.total_variation import total_variation
from mezzotint.restore.travel import TimeTravel

__all__ = [
    "Expected",
    "PiGDM",
    "MomentMatching",
    "DiffPIR",
    "DDRM",
    "DDNM",
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
    "GuessPiGDM",
    "ExactPosterior",
    "exact_posterior",
    "Posterior",
    "calibrate",
    "posterior",
    "Anomaly",
    "MaskEnsemble",
    "PartialDiffusion",
    "PredictorCorrector",
    "coded",
    "denoise",
    "healthy_twin",
    "segment",
    "time_of_noise",
    "total_variation",
]
