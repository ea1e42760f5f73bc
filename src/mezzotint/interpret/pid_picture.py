"""Maps of information as pictures, beside the image."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor

from mezzotint.interpret.pid import Decomposition
from mezzotint.io.picture import pixels

__all__ = ["heat", "pid_strip"]


def heat(map: Float[Tensor, "h w"], image: Float[Tensor, "3 H W"], top: float) -> Float[Tensor, "3 H W"]:
    """A map over a darkened, grey image: red where it reaches `top`; enlarged for display only.

    Args:
        map: nats a pixel; below 0 is shown as 0.
        image: in [-1, 1].
        top: > 0, nats a pixel that are fully red: one for all maps that are compared.
    """
    size = image.shape[1:]
    share = F.interpolate(map[None, None].float(), size, mode="bilinear")[0].div(max(top, 1e-12)).clamp(0, 1)
    grey = image.mean(0, keepdim=True).expand(3, -1, -1) * 0.4 - 0.4
    hot = torch.tensor([1.0, 0.1, -0.8], dtype=grey.dtype).view(3, 1, 1)
    return grey + share.to(grey) * (hot - grey)


def pid_strip(image: Float[Tensor, "3 H W"], told: Decomposition, row: int = 0) -> UInt8[Tensor, "H W5 3"]:
    """Side by side: the image, redundancy, both uniquenesses, synergy, on one scale (the largest value of the four)."""
    maps = [getattr(told.maps, name)[row] for name in ("r", "u1", "u2", "s")]
    top = max(float(m.max()) for m in maps)
    shown = [image.cpu().float(), *(heat(m, image.cpu().float(), top) for m in maps)]
    return torch.cat(list(pixels(torch.stack(shown))), 1)
