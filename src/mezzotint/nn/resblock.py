"""Residual blocks and resampling of the UNet."""

from __future__ import annotations

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn


def group_norm(channels: int, eps: float = 1e-5) -> nn.GroupNorm:
    """Return a GroupNorm whose groups divide the channels: the most groups up to 32 with four channels each or more
    (our choice below 128 channels; from 128 on the papers' 32 wherever that divides).

    >>> [group_norm(c).num_groups for c in (6, 16, 64, 192)]
    [1, 4, 16, 32]
    """
    most = max(1, min(32, channels // 4))
    return nn.GroupNorm(next(g for g in range(most, 0, -1) if channels % g == 0), channels, eps=eps)


def zeroed(layer: nn.Conv2d) -> nn.Conv2d:
    """Set weight and bias to zero, and return the layer."""
    nn.init.zeros_(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer


class ResBlock(nn.Module):
    """h = conv(SiLU(GN(x))) + W SiLU(emb);  out = skip(x) + conv0(dropout(SiLU(GN(h)))), conv0 starting at zero.

    Args:
        inputs, outputs: channels; where they differ the skip is a 1x1 convolution.
        embedding: width of the global embedding.
        dropout: probability.

    Source: ADM's block with an added (not scaling) embedding, as LDM uses it (arXiv 2112.10752, section 3.3).
    """

    def __init__(self, inputs: int, outputs: int, embedding: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.norm_in = group_norm(inputs)
        self.conv_in = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.embed = nn.Linear(embedding, outputs)
        self.norm_out = group_norm(outputs)
        self.dropout = nn.Dropout(dropout) if dropout else nn.Identity()
        self.conv_out = zeroed(nn.Conv2d(outputs, outputs, 3, padding=1))
        self.skip = nn.Conv2d(inputs, outputs, 1) if inputs != outputs else nn.Identity()

    def forward(self, x: Float[Tensor, "b inputs h w"], emb: Float[Tensor, "b e"]) -> Float[Tensor, "b outputs h w"]:
        h = self.conv_in(F.silu(self.norm_in(x)))
        h = h + self.embed(F.silu(emb))[:, :, None, None]
        h = self.conv_out(self.dropout(F.silu(self.norm_out(h))))
        return self.skip(x) + h


class Downsample(nn.Conv2d):
    """Halve height and width by a strided 3x3 convolution.

    >>> import torch
    >>> Downsample(4)(torch.zeros(1, 4, 8, 6)).shape
    torch.Size([1, 4, 4, 3])
    """

    def __init__(self, channels: int) -> None:
        super().__init__(channels, channels, 3, stride=2, padding=1)


class Upsample(nn.Conv2d):
    """Double height and width by repetition, then a 3x3 convolution.

    >>> import torch
    >>> Upsample(4)(torch.zeros(1, 4, 4, 3)).shape
    torch.Size([1, 4, 8, 6])
    """

    def __init__(self, channels: int) -> None:
        super().__init__(channels, channels, 3, padding=1)

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(F.interpolate(input, scale_factor=2.0, mode="nearest"))
