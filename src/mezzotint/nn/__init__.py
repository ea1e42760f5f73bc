"""Backbones and their blocks. Networks are called as net(x, time, c) -> Tensor."""

from .attention import Attention, attend
from .dit import DiT
from .embed import LabelEmbedding, positions_2d, sinusoidal
from .encoder_decoder import EncoderDecoderViT, load_encoder
from .guidance import GuidanceBranch, GuidedNetwork, guided_student, halved_student
from .layout_predictor import CentreMixture, LayoutPredictor
from .multires import MultiResNetwork
from .norm import NonScalingGroupNorm, NonScalingLayerNorm, without_gains
from .projector import ProjectedEncoder, Projector
from .site import Call, Handler, find_sites, handling, name_sites
from .unet import UNet
from .vit import Encoded, ViTEncoder

__all__ = [
    "Attention",
    "Call",
    "CentreMixture",
    "DiT",
    "Handler",
    "LabelEmbedding",
    "LayoutPredictor",
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
    "EncoderDecoderViT",
    "load_encoder",
    "ProjectedEncoder",
    "Projector",
    "Encoded",
    "ViTEncoder",
    "GuidanceBranch",
    "GuidedNetwork",
    "guided_student",
    "halved_student",
    "MultiResNetwork",
]
