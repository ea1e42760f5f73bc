"""Handles on attention: taps that record it and edits that change it, for the length of a block."""

from .edit import Saved, add_mask, explicit, rescale, reweight, save, swap
from .tap import Record, tap

__all__ = ["Record", "Saved", "add_mask", "explicit", "rescale", "reweight", "save", "swap", "tap"]
