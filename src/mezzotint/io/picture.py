"""From tensors in [-1, 1] to PNG files, each whole or not there."""

from __future__ import annotations

import math
from pathlib import Path

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

__all__ = ["grid", "pixels", "write_png"]


def pixels(images: Float[Tensor, "n c h w"]) -> UInt8[Tensor, "n h w c"]:
    """round(127.5 (x + 1)), on the CPU, channels last.

    >>> pixels(torch.tensor([-1.0, 0.0, 1.0]).reshape(3, 1, 1, 1)).flatten().tolist()
    [0, 128, 255]
    """
    scaled = (images.detach().float().cpu() + 1) * 127.5
    return scaled.round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).contiguous()


def grid(pictures: UInt8[Tensor, "n h w c"], gap: int = 2) -> UInt8[Tensor, "gh gw c"]:
    """All pictures in rows, about as many rows as columns, on white."""
    n, h, w, c = pictures.shape
    columns = math.ceil(math.sqrt(n))
    rows = math.ceil(n / columns)
    sheet = torch.full((rows * (h + gap) + gap, columns * (w + gap) + gap, c), 255, dtype=torch.uint8)
    for i in range(n):
        y, x = gap + (i // columns) * (h + gap), gap + (i % columns) * (w + gap)
        sheet[y : y + h, x : x + w] = pictures[i]
    return sheet


def write_png(path: Path, picture: UInt8[Tensor, "h w c"]) -> None:
    """Write one picture with 1 (grey), 3 (RGB) or 4 (RGBA) channels."""
    from PIL import Image

    from mezzotint.io.atomic import atomic_file

    array = picture.numpy()
    with atomic_file(path) as temporary:
        Image.fromarray(array[:, :, 0] if array.shape[2] == 1 else array).save(temporary, format="PNG")
