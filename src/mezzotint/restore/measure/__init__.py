"""The noise of measurements: y = A(x) disturbed, how much, and how to find out."""

from mezzotint.restore.measure.counts import CTNoise, PoissonNoise, poisson_counts
from mezzotint.restore.measure.estimate import estimate_kspace_std, estimate_std
from mezzotint.restore.measure.gaussian import GaussianNoise
from mezzotint.restore.measure.model import InTurn, MeasurementNoise
from mezzotint.restore.measure.rician import RicianNoise
from mezzotint.restore.measure.rounding import Rounding
from mezzotint.restore.measure.salt_pepper import SaltPepper
from mezzotint.restore.measure.speckle import Speckle

__all__ = [
    "CTNoise",
    "GaussianNoise",
    "InTurn",
    "MeasurementNoise",
    "PoissonNoise",
    "RicianNoise",
    "Rounding",
    "SaltPepper",
    "Speckle",
    "estimate_kspace_std",
    "estimate_std",
    "poisson_counts",
]
