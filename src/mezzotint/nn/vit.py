"""A vision transformer that reads noisy images: patches, one token that sums the image up, one that tells the level."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from .attention import Attention
from .embed import sinusoidal
from .inputs import check_image
from .recompute import recomputed
from .site import name_sites

__all__ = ["Encoded", "ViTBlock", "ViTEncoder", "xavier"]


@dataclass(frozen=True, eq=False)
class Encoded:
    """What an encoder hands on.

    Args:
        cls: (b, width), the class token after the last norm: the representation.
        tokens: (b, n + 2, width), all tokens after the last norm: class, time, patches row by row.
        skips: what every block gave, first to last, each like `tokens`.
        time: (b, width), the embedding of the time, before positions were added.
    """

    cls: Float[Tensor, "b width"]
    tokens: Float[Tensor, "b n width"]
    skips: tuple[Tensor, ...]
    time: Float[Tensor, "b width"]


class ViTBlock(nn.Module):
    """x += self(LN x); x += mlp(LN x).

    Args:
        width: features of a token.
        heads: number of heads.

    Source: arXiv 2010.11929, section 3.1; no bias on q, k, v as in the code of 2510.12586.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm_self, self.norm_mlp = nn.LayerNorm(width, eps=1e-6), nn.LayerNorm(width, eps=1e-6)
        self.self = Attention(width, heads)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x: Float[Tensor, "b n width"]) -> Float[Tensor, "b n width"]:
        x = x + self.self(self.norm_self(x))
        return x + self.mlp(self.norm_mlp(x))


class ViTEncoder(nn.Module):
    """An encoder of noisy images: E(x, time) is the class token after the last block.

    tokens = [class + label, time, patches] + positions, then blocks, then a norm. The positions are learned for one
    image size. The time is embedded by sines alone, without a network (as in the authors' code).

    Args:
        in_channels: channels of x.
        size: height and width of the images, or one number for both.
        patch: side of a patch in pixels; divides both.
        width: features of a token; even, a multiple of `heads`.
        depth: number of blocks.
        heads: number of heads.
        checkpoint: recompute activations in the backward pass: slower, less memory, the same gradients.

    Raises:
        ValueError: a setting that makes no network, or images that the patch does not divide.

    Source: arXiv 2510.12586, code (encoder); initial values as there: Xavier, positions truncated normal of 0.02, class
    token normal of 1e-6.

    >>> net = ViTEncoder(3, size=8, patch=4, width=16, depth=2, heads=2)
    >>> net(torch.zeros(2, 3, 8, 8), torch.zeros(2)).shape
    torch.Size([2, 16])
    """

    def __init__(
        self,
        in_channels: int = 3,
        size: int | Sequence[int] = 32,
        patch: int = 4,
        width: int = 192,
        depth: int = 6,
        heads: int = 6,
        checkpoint: bool = False,
    ) -> None:
        super().__init__()
        sides = (size, size) if isinstance(size, int) else tuple(size)
        self.config: dict[str, Any] = {
            "in_channels": in_channels, "size": list(sides), "patch": patch, "width": width, "depth": depth,
            "heads": heads, "checkpoint": checkpoint,
        }  # fmt: skip
        _check(self.config)
        self.checkpoint, self.patch, self.width = checkpoint, patch, width
        self.grid = (sides[0] // patch, sides[1] // patch)
        self.stem = nn.Conv2d(in_channels, width, patch, stride=patch)
        self.cls = nn.Parameter(torch.empty(1, 1, width))
        self.positions = nn.Parameter(torch.empty(1, self.grid[0] * self.grid[1] + 2, width))
        self.blocks = nn.ModuleList(ViTBlock(width, heads) for _ in range(depth))
        self.norm = nn.LayerNorm(width, eps=1e-6)
        xavier(self.blocks)
        assert self.stem.bias is not None
        nn.init.xavier_uniform_(self.stem.weight.view(width, -1))
        nn.init.zeros_(self.stem.bias)
        nn.init.normal_(self.cls, std=1e-6)
        nn.init.trunc_normal_(self.positions, std=0.02)
        name_sites(self)

    def forward(self, x: Float[Tensor, "b c h w"], time: Float[Tensor, " b"]) -> Float[Tensor, "b width"]:
        """The representation of noisy images; arguments as for `encode`."""
        return self.encode(x, time).cls

    def encode(
        self, x: Float[Tensor, "b c h w"], time: Float[Tensor, " b"], label: Float[Tensor, "b width"] | None = None
    ) -> Encoded:
        """Everything a decoder wants.

        Args:
            x: (b, in_channels, h, w) of the encoder's size, scaled to unit variance by c_in.
            time: (b,); 250 ln sigma.
            label: (b, width), added to the class token; None for none.

        Raises:
            ValueError: a shape that does not fit.
        """
        check_image(x, time, self.config["in_channels"], self.patch)
        h, w = self.config["size"]
        if x.shape[2:] != (h, w):
            raise ValueError(
                f"this encoder has learned positions for images of {h} x {w}, got {x.shape[2]} x {x.shape[3]}; "
                "resize them, or build an encoder of that size"
            )
        patches = self.stem(x).flatten(2).transpose(1, 2)
        told = sinusoidal(time, self.width).to(patches.dtype)
        cls = self.cls.expand(len(x), -1, -1)
        if label is not None:
            cls = cls + label[:, None]
        tokens = torch.cat([cls, told[:, None], patches], dim=1) + self.positions
        skips = []
        for block in self.blocks:
            tokens = recomputed(block, tokens) if self.checkpoint else block(tokens)
            skips.append(tokens)
        tokens = self.norm(tokens)
        return Encoded(tokens[:, 0], tokens, tuple(skips), told)


def xavier(module: nn.Module) -> None:
    """Xavier-uniform weights (q, k and v each by itself) and biases of zero for every linear layer below."""
    for layer in module.modules():
        if isinstance(layer, nn.Linear):
            nn.init.xavier_uniform_(layer.weight)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


def _check(config: dict[str, Any]) -> None:
    for key in ("in_channels", "patch", "width", "depth", "heads"):
        if config[key] < 1:
            raise ValueError(f"ViTEncoder needs {key} of at least 1, got {config[key]}")
    sides, patch = config["size"], config["patch"]
    if len(sides) != 2 or min(sides) < 1:
        raise ValueError(f"ViTEncoder needs a size (height, width) of at least 1 each, got {sides}")
    if sides[0] % patch or sides[1] % patch:
        up = [-(-side // patch) * patch for side in sides]
        raise ValueError(
            f"image {sides[0]}x{sides[1]} is not divisible by patch {patch}; resize or pad to {up[0]}x{up[1]}, or "
            "choose another patch"
        )
    if config["width"] % 2 or config["width"] % config["heads"]:
        raise ValueError(
            f"ViTEncoder needs an even width that heads={config['heads']} divide, got width={config['width']}"
        )
