"""Pixel-space filters of image prompts."""

from mezzotint.edit.filters.band import Bands, Blur, Edges, HighPass, Sharpen
from mezzotint.edit.filters.filter import Filter, FilterChain
from mezzotint.edit.filters.parse import FILTERS, parse
from mezzotint.edit.filters.point import Contrast, Desaturate, HueRotate, Invert, Posterise, Recolour, luma
from mezzotint.edit.filters.window import Maximum, Minimum, Rank

__all__ = [
    "FILTERS",
    "Bands",
    "Blur",
    "Contrast",
    "Desaturate",
    "Edges",
    "Filter",
    "FilterChain",
    "HighPass",
    "HueRotate",
    "Invert",
    "Maximum",
    "Minimum",
    "Posterise",
    "Rank",
    "Recolour",
    "Sharpen",
    "luma",
    "parse",
]
