"""Encoder and decoder of the convolutional autoencoders (arXiv 2112.10752; layout of its released code)."""

from __future__ import annotations

import math
from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from mezzotint.nn.attention import Attention


def _norm(channels: int, groups: int) -> nn.GroupNorm:
    return nn.GroupNorm(math.gcd(groups, channels), channels, eps=1e-6)


class ResBlock(nn.Module):
    """x + conv(SiLU(GN(conv(SiLU(GN(x)))))), with a 1x1 shortcut where the width changes."""

    def __init__(self, channels: int, out: int, groups: int) -> None:
        super().__init__()
        self.norm1 = _norm(channels, groups)
        self.conv1 = nn.Conv2d(channels, out, 3, padding=1)
        self.norm2 = _norm(out, groups)
        self.conv2 = nn.Conv2d(out, out, 3, padding=1)
        self.shortcut = nn.Identity() if channels == out else nn.Conv2d(channels, out, 1)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d h w"]:
        h = self.conv1(F.silu(self.norm1(x)))
        return self.shortcut(x) + self.conv2(F.silu(self.norm2(h)))


class SelfAttention(nn.Module):
    """Single-head self-attention over all positions, with a residual."""

    def __init__(self, channels: int, groups: int) -> None:
        super().__init__()
        self.norm = _norm(channels, groups)
        self.attention = Attention(channels, heads=1, bias=True)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        h, w = x.shape[-2:]
        tokens = self.norm(x).flatten(2).transpose(1, 2)
        return x + self.attention(tokens, grid=(h, w)).transpose(1, 2).unflatten(2, (h, w))


class Downsample(nn.Module):
    """Stride-2 3x3 convolution after padding the right and the bottom by one."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride=2)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h2 w2"]:
        return self.conv(F.pad(x, (0, 1, 0, 1)))


class Upsample(nn.Module):
    """Nearest x2, then a 3x3 convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h2 w2"]:
        return self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))


def _mid(channels: int, attention: bool, groups: int) -> nn.Sequential:
    middle = [SelfAttention(channels, groups)] if attention else []
    return nn.Sequential(ResBlock(channels, channels, groups), *middle, ResBlock(channels, channels, groups))


class Encoder(nn.Module):
    """Images to features of the latent's size.

    conv3x3, then a level for each entry of mult (``blocks`` residual blocks, downsampling between levels),
    residual - attention - residual, GroupNorm, SiLU, conv3x3 to ``out`` channels.

    Args:
        in_channels: channels of the image.
        out: channels of the result.
        channels: width of the first level.
        mult: width of each level as a multiple of channels; each level after the first halves the size.
        blocks: residual blocks a level.
        patch: side of the pixel-unshuffle stem (1: none); our choice, it makes the first level cheap.
        attention: self-attention in the middle.
        attention_at: levels with attention after every block, named by the image side over their side.
        groups: groups of the normalisations (fewer where the width asks for it).
    """

    def __init__(
        self,
        in_channels: int,
        out: int,
        channels: int,
        mult: Sequence[int],
        blocks: int,
        patch: int,
        attention: bool,
        attention_at: Sequence[int],
        groups: int,
    ) -> None:
        super().__init__()
        self.patch = patch
        self.conv_in = nn.Conv2d(in_channels * patch**2, channels, 3, padding=1)
        body: list[nn.Module] = []
        width = channels
        for level, m in enumerate(mult):
            for _ in range(blocks):
                body.append(ResBlock(width, channels * m, groups))
                width = channels * m
                if patch * 2**level in attention_at:
                    body.append(SelfAttention(width, groups))
            if level < len(mult) - 1:
                body.append(Downsample(width))
        self.body = nn.Sequential(*body)
        self.mid = _mid(width, attention, groups)
        self.norm_out = _norm(width, groups)
        self.conv_out = nn.Conv2d(width, out, 3, padding=1)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b k hz wz"]:
        if self.patch > 1:
            x = F.pixel_unshuffle(x, self.patch)
        h = self.mid(self.body(self.conv_in(x)))
        return self.conv_out(F.silu(self.norm_out(h)))


class Decoder(nn.Module):
    """The encoder mirrored: ``blocks + 1`` residual blocks a level, upsampling between levels, no tanh.

    Args: as :class:`Encoder`; ``latent`` is the number of channels that come in. ``conv_out`` is the last
    layer, the one whose gradients weigh the adversarial loss.
    """

    def __init__(
        self,
        out_channels: int,
        latent: int,
        channels: int,
        mult: Sequence[int],
        blocks: int,
        patch: int,
        attention: bool,
        attention_at: Sequence[int],
        groups: int,
    ) -> None:
        super().__init__()
        self.patch = patch
        width = channels * mult[-1]
        self.conv_in = nn.Conv2d(latent, width, 3, padding=1)
        self.mid = _mid(width, attention, groups)
        body: list[nn.Module] = []
        for level, m in reversed(list(enumerate(mult))):
            for _ in range(blocks + 1):
                body.append(ResBlock(width, channels * m, groups))
                width = channels * m
                if patch * 2**level in attention_at:
                    body.append(SelfAttention(width, groups))
            if level > 0:
                body.append(Upsample(width))
        self.body = nn.Sequential(*body)
        self.norm_out = _norm(width, groups)
        self.conv_out = nn.Conv2d(width, out_channels * patch**2, 3, padding=1)

    def forward(self, z: Float[Tensor, "b k hz wz"]) -> Float[Tensor, "b c h w"]:
        h = self.body(self.mid(self.conv_in(z)))
        x = self.conv_out(F.silu(self.norm_out(h)))
        return F.pixel_shuffle(x, self.patch) if self.patch > 1 else x
