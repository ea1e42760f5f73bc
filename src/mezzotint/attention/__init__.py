"""Handles on attention: taps that record it and edits that change it, for the length of a block."""

from .edit import Saved, add_mask, explicit, rescale, reweight, save, swap
from .entropy import Entropy, EntropyProbe, entropy_probe, row_entropy
from .scaling import LogRatio, MatchedEntropy, attention_scaling, log_ratio, token_counts
from .tap import Record, tap

__all__ = [
    "Entropy",
    "EntropyProbe",
    "LogRatio",
    "MatchedEntropy",
    "Record",
    "Saved",
    "add_mask",
    "attention_scaling",
    "entropy_probe",
    "explicit",
    "log_ratio",
    "rescale",
    "reweight",
    "row_entropy",
    "save",
    "swap",
    "tap",
    "token_counts",
]
