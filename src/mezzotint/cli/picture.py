"""What the commands write of images: PNG files, and digests that tell whether two pictures are one."""

from __future__ import annotations

import hashlib

from jaxtyping import UInt8
from torch import Tensor

from mezzotint.io.picture import grid, pixels, write_png

__all__ = ["digest", "grid", "pixels", "write_png"]


def digest(picture: UInt8[Tensor, "h w c"]) -> str:
    """SHA-256 of the raw pixels: the same for the same picture however it is compressed."""
    return hashlib.sha256(picture.numpy().tobytes()).hexdigest()
