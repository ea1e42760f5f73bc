"""Checks of images and latents where they enter; values are looked at on the CPU only (no device sync)."""

from __future__ import annotations

import torch
from torch import Tensor


def check_image(x: Tensor, channels: int, factor: int) -> None:
    """Raise ValueError unless x is a finite float image batch in [-1, 1] whose sides the factor divides."""
    if x.ndim != 4 or x.shape[1] != channels:
        raise ValueError(f"expected images of shape (batch, {channels}, height, width), got {tuple(x.shape)}")
    if not x.dtype.is_floating_point:
        raise ValueError(
            f"expected float images in [-1, 1], got {x.dtype}; for 8-bit images give x.float() / 127.5 - 1"
        )
    height, width = x.shape[-2:]
    if height % factor or width % factor or not height or not width:
        raise ValueError(
            f"image height and width must be multiples of {factor}, got {height} x {width}; "
            f"resize or pad to {_up(height, factor)} x {_up(width, factor)}"
        )
    if x.device.type == "cpu" and x.numel():
        low, high = (float(v) for v in torch.aminmax(x.detach()))
        if not (low > -float("inf") and high < float("inf")):
            raise ValueError("the image holds NaN or infinite values; clean it before encoding")
        if high > 1.5 or low < -1.5:
            raise ValueError(
                f"expected images in [-1, 1], got values from {low:.3g} to {high:.3g}; "
                "rescale first, for 0..255 with x / 127.5 - 1"
            )


def check_latent(z: Tensor, channels: int) -> None:
    """Raise ValueError unless z is a finite float latent batch with the right channels."""
    if z.ndim != 4 or z.shape[1] != channels:
        raise ValueError(f"expected latents (batch, {channels}, height, width), got {tuple(z.shape)}")
    if not z.dtype.is_floating_point:
        raise ValueError(f"expected float latents, got {z.dtype}")
    if z.device.type == "cpu" and z.numel() and not bool(torch.isfinite(z.detach()).all()):
        raise ValueError("the latent holds NaN or infinite values; the sampler or network before it diverged")


def _up(size: int, factor: int) -> int:
    return max(factor, -(-size // factor) * factor)
