"""Restoration: an image from a measurement of it, over any denoiser."""

from mezzotint.restore.problem import Problem
from mezzotint.restore.restorer import Restorer, SampledRestorer

__all__ = ["Problem", "Restorer", "SampledRestorer"]
