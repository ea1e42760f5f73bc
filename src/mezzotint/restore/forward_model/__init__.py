"""Diffusion with forward models: denoise observations, and get the signals that they are of."""

from mezzotint.restore.forward_model.cameras import check_cameras
from mezzotint.restore.forward_model.denoiser import ForwardModelDenoiser
from mezzotint.restore.forward_model.model import (
    CropModel,
    Decoded,
    ForwardModel,
    LinearModel,
    MaskModel,
    ParallelBeam,
    Warp,
    check_forward,
)
from mezzotint.restore.forward_model.render import (
    Field,
    Rendering,
    VolumeRender,
    VolumeRender2D,
    VolumeRender3D,
    composite,
    look_at,
)
from mezzotint.restore.forward_model.signals import autoregressive_views, sample_signals

__all__ = [
    "CropModel",
    "Decoded",
    "Field",
    "ForwardModel",
    "ForwardModelDenoiser",
    "LinearModel",
    "MaskModel",
    "ParallelBeam",
    "Rendering",
    "VolumeRender",
    "VolumeRender2D",
    "VolumeRender3D",
    "Warp",
    "autoregressive_views",
    "check_cameras",
    "check_forward",
    "composite",
    "look_at",
    "sample_signals",
]
