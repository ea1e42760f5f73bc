"""Handles on attention: taps that record it and edits that change it, for the length of a block."""

from .contexts import Contexts, mix_contexts, save_contexts
from .edit import add_mask, explicit, rescale, reweight
from .entropy import Entropy, EntropyProbe, entropy_probe, row_entropy
from .feature import Features, features
from .heat import token_maps
from .image_denoiser import ImagePrompted
from .image_prompt import DecoupledAttention, image_prompt
from .keys import Saved, save, swap
from .places import as_map, cross_sites, decoder_places, decoder_sites, self_sites
from .rows import OnRows
from .scaling import LogRatio, MatchedEntropy, attention_scaling, log_ratio, token_counts
from .tap import Record, tap

__all__ = [
    "Contexts",
    "DecoupledAttention",
    "Entropy",
    "EntropyProbe",
    "Features",
    "ImagePrompted",
    "LogRatio",
    "MatchedEntropy",
    "OnRows",
    "Record",
    "Saved",
    "add_mask",
    "as_map",
    "attention_scaling",
    "cross_sites",
    "decoder_places",
    "decoder_sites",
    "entropy_probe",
    "explicit",
    "features",
    "image_prompt",
    "log_ratio",
    "mix_contexts",
    "rescale",
    "reweight",
    "row_entropy",
    "save",
    "save_contexts",
    "self_sites",
    "swap",
    "tap",
    "token_counts",
    "token_maps",
]
