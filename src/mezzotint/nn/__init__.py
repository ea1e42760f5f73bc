"""Backbones and their blocks. Networks are called as net(x, time, c) -> Tensor."""

from .attention import Attention, attend
from .dit import DiT
from .embed import LabelEmbedding, positions_2d, sinusoidal
from .norm import NonScalingGroupNorm, NonScalingLayerNorm, without_gains
from .site import Call, Handler, find_sites, handling, name_sites
from .unet import UNet

__all__ = [
    "Attention",
    "Call",
    "DiT",
    "Handler",
    "LabelEmbedding",
    "NonScalingGroupNorm",
    "NonScalingLayerNorm",
    "UNet",
    "attend",
    "find_sites",
    "handling",
    "name_sites",
    "positions_2d",
    "sinusoidal",
    "without_gains",
]
