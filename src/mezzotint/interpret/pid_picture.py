"""Maps of information as pictures, beside the image."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor

from mezzotint.interpret.pid import Decomposition
from mezzotint.io.picture import pixels

__all__ = ["SHEET", "heat", "pid_sheet", "pid_strip"]

SHEET = ("i1", "i2", "i12", "r", "u1", "u2", "s")  # columns of a sheet, after the picture
_SIDE = 96  # pixels that a tile has at the least
_LINE = 14


def heat(map: Float[Tensor, "h w"], image: Float[Tensor, "3 H W"], top: float) -> Float[Tensor, "3 H W"]:
    """A map over a darkened, grey image: red where it reaches `top`, blue where -`top`; enlarged for display only.

    Args:
        map: nats a pixel.
        image: in [-1, 1].
        top: > 0, nats a pixel that are fully red: one for all maps that are compared.
    """
    size = image.shape[1:]
    share = F.interpolate(map[None, None].float(), size, mode="bilinear")[0].div(max(top, 1e-12)).clamp(-1, 1)
    grey = image.mean(0, keepdim=True).expand(3, -1, -1) * 0.4 - 0.4
    red, blue = (torch.tensor(v, dtype=grey.dtype).view(3, 1, 1) for v in ([1.0, 0.1, -0.8], [-0.8, 0.0, 1.0]))
    return grey + share.abs().to(grey) * (torch.where(share.to(grey) >= 0, red, blue) - grey)


def pid_strip(image: Float[Tensor, "3 H W"], told: Decomposition, row: int = 0) -> UInt8[Tensor, "H W5 3"]:
    """Side by side: the image, redundancy, both uniquenesses, synergy, on one scale (the largest value of the four)."""
    maps = [getattr(told.maps, name)[row] for name in ("r", "u1", "u2", "s")]
    top = max(float(m.abs().max()) for m in maps)
    shown = [image.cpu().float(), *(heat(m, image.cpu().float(), top) for m in maps)]
    return torch.cat(list(pixels(torch.stack(shown))), 1)


def pid_sheet(images: Float[Tensor, "b 3 H W"], told: Decomposition, concepts: Sequence[str]) -> UInt8[Tensor, "h w 3"]:
    """Two rows an image: the image and the maps of `SHEET`; below, the standard errors on the same scale.

    The scale of an image is its largest information; red is above 0, blue below.

    Args:
        images: in [-1, 1].
        told: of the same images.
        concepts: the two, for the headings.
    """
    from PIL import Image, ImageDraw

    one, two = concepts
    heads = ("picture", one, two, "both words", "redundant", f"only {one}", f"only {two}", "synergy")
    big = images.cpu().float()
    big = big.repeat_interleave(n := max(1, -(-_SIDE // min(big.shape[2:]))), 2).repeat_interleave(n, 3)
    height, width = big.shape[2:]
    rows: list[Tensor] = []
    for k, image in enumerate(big):
        top = max(float(getattr(told.maps, name)[k].abs().max()) for name in SHEET)
        for atoms, first in ((told.maps, image), (told.errors, torch.ones_like(image))):
            tiles = [first, *(heat(getattr(atoms, name)[k], image, top) for name in SHEET)]
            rows += [torch.cat(list(pixels(torch.stack(tiles))), 1)]
    sheet = torch.full((len(rows) * (height + _LINE), width * len(heads), 3), 255, dtype=torch.uint8)
    for k, row in enumerate(rows):
        sheet[k * (height + _LINE) + _LINE : (k + 1) * (height + _LINE)] = row
    drawn = Image.fromarray(sheet.numpy())
    pen = ImageDraw.Draw(drawn)
    for k in range(len(rows)):
        for column, words in enumerate(heads):
            shown = words if k % 2 == 0 else "" if column else "standard errors"
            shown = shown.encode("latin-1", "replace").decode("latin-1")  # what the font has everywhere
            while pen.textlength(shown) > width - 4:
                shown = shown[:-1]
            pen.text((column * width + 2, k * (height + _LINE) + 1), shown, fill=(0, 0, 0))
    return torch.frombuffer(bytearray(drawn.tobytes()), dtype=torch.uint8).view(sheet.shape)
