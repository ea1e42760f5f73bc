"""Guidance: maps from denoisers to denoisers. They compose; a sampler never knows that it is guided."""

from mezzotint.guide.cfg import CFG
from mezzotint.guide.compose import compose
from mezzotint.guide.energy import Energy
from mezzotint.guide.guided import Guide, GuidedDenoiser
from mezzotint.guide.interval import Interval
from mezzotint.guide.langevin import LatentDraw, LatentLangevin
from mezzotint.guide.level_interval import LevelInterval
from mezzotint.guide.region import Box, Disc, Region
from mezzotint.guide.rescale import Rescale
from mezzotint.guide.spacetime import SpaceTime
from mezzotint.guide.threshold import DynamicThreshold, StaticThreshold
from mezzotint.guide.window import PatchMean, Windowed

__all__ = [
    "Box",
    "CFG",
    "Disc",
    "DynamicThreshold",
    "Energy",
    "LatentDraw",
    "LatentLangevin",
    "Guide",
    "GuidedDenoiser",
    "Interval",
    "Region",
    "Rescale",
    "SpaceTime",
    "StaticThreshold",
    "PatchMean",
    "Windowed",
    "compose",
    "LevelInterval",
]
