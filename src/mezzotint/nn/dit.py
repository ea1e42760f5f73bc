"""The diffusion transformer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from .attention import Attention
from .embed import GlobalEmbedding, positions_2d
from .inputs import Reads, check_image
from .norm import Gainless, without_gains
from .recompute import recomputed
from .site import name_sites


class DiTBlock(nn.Module):
    """x += g1 self(m1(LN x)); x += cross(LN x, context); x += g2 mlp(m2(LN x)), with m(h) = h (1 + scale) + shift.

    shift, scale and gate g come from one linear layer of SiLU(emb) that starts at zero (adaLN-zero); W_o of the
    cross-attention starts at zero too (our choice), so that a fresh block is the identity.

    Args:
        width: features of a token and of the embedding.
        heads: number of heads.
        context: features of a context token; 0 for no cross-attention.

    Source: DiT (arXiv 2212.09748), section 3.2, adaLN-zero; the unmodulated cross-attention as in PixArt-alpha
    (arXiv 2310.00426).
    """

    def __init__(self, width: int, heads: int, context: int = 0) -> None:
        super().__init__()
        self.self = Attention(width, heads, bias=True)
        self.norm_cross = nn.LayerNorm(width) if context else None
        self.cross = Attention(width, heads, context, bias=True) if context else None
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU("tanh"), nn.Linear(4 * width, width))
        self.modulation = nn.Linear(width, 6 * width)
        _xavier(self)
        _zero(self.modulation)
        if self.cross is not None:
            _zero(self.cross.to_out)

    def forward(
        self,
        x: Float[Tensor, "b n width"],
        emb: Float[Tensor, "b width"],
        context: Float[Tensor, "b m d"] | None,
        mask: Bool[Tensor, "b m"] | None,
        grid: tuple[int, int],
    ) -> Float[Tensor, "b n width"]:
        shift1, scale1, gate1, shift2, scale2, gate2 = self.modulation(F.silu(emb))[:, None].chunk(6, dim=-1)
        x = x + gate1 * self.self(_modulated(x, shift1, scale1), grid=grid)
        if self.cross is not None:
            assert self.norm_cross is not None
            x = x + self.cross(self.norm_cross(x), context, mask, grid)
        return x + gate2 * self.mlp(_modulated(x, shift2, scale2))


class DiT(nn.Module):
    """The diffusion transformer: patches as tokens, modulated by time, class and pooled text, crossed with text tokens.

    Args:
        in_channels: channels of x.
        out_channels: channels of the result; None means `in_channels`.
        patch: side of a patch in pixels; h and w must be multiples of it.
        width: features of a token; a multiple of 4 and of `heads`.
        depth: number of blocks.
        heads: number of heads.
        context: features of a text token, read from c["text"] and c["text_mask"]; 0 for none.
        classes: number of classes, read from c["label"] (`classes` itself is the null label); 0 for none.
        pooled: features of c["pooled"], added to the time embedding; 0 for none.
        concat: channels of c["concat"], concatenated to x; 0 for none.
        checkpoint: recompute activations in the backward pass: slower, less memory, the same gradients.
        gainless: norms without a learned gain, "none" or "all" (those before cross-attention; see `without_gains`).
    Raises:
        ValueError: a setting that makes no network.

    Source: DiT (arXiv 2212.09748). Our choices: positions are computed for the size at hand, so any size runs; the
    time embedding has 256 sinusoidal features.

    >>> net = DiT(4, patch=2, width=16, depth=1, heads=2, classes=10)
    >>> net(torch.zeros(1, 4, 8, 6), torch.zeros(1), {"label": torch.tensor([10])}).shape
    torch.Size([1, 4, 8, 6])
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int | None = None,
        patch: int = 1,
        width: int = 192,
        depth: int = 6,
        heads: int = 6,
        context: int = 0,
        classes: int = 0,
        pooled: int = 0,
        concat: int = 0,
        checkpoint: bool = False,
        gainless: Gainless = "none",
    ) -> None:
        super().__init__()
        out_channels = in_channels if out_channels is None else out_channels
        self.config: dict[str, Any] = {
            "in_channels": in_channels, "out_channels": out_channels, "patch": patch, "width": width,
            "depth": depth, "heads": heads, "context": context, "classes": classes, "pooled": pooled,
            "concat": concat, "checkpoint": checkpoint, "gainless": "none",
        }  # fmt: skip
        _check(self.config)
        self.checkpoint = checkpoint
        self.multiple = patch
        self.reads = Reads(context, classes, pooled, concat)
        self.embed = GlobalEmbedding(256, width, classes, pooled)
        self.stem = nn.Conv2d(in_channels + concat, width, patch, stride=patch)
        self.blocks = nn.ModuleList(DiTBlock(width, heads, context) for _ in range(depth))
        self.modulation = nn.Linear(width, 2 * width)
        self.head = nn.Linear(width, patch * patch * out_channels)
        _zero(self.modulation)
        _zero(self.head)
        # As in DiT: a patch is one vector to Xavier, and a narrow normal for the time embedding.
        assert self.stem.bias is not None
        nn.init.xavier_uniform_(self.stem.weight.view(width, -1))
        nn.init.zeros_(self.stem.bias)
        _xavier(self.embed)
        nn.init.normal_(self.embed.time_in.weight, std=0.02)
        nn.init.normal_(self.embed.time_out.weight, std=0.02)
        name_sites(self)
        if gainless != "none":
            without_gains(self, gainless)

    def forward(
        self, x: Float[Tensor, "b *chw"], time: Float[Tensor, "*b"], c: Mapping[str, Tensor] | None = None
    ) -> Float[Tensor, "b out h w"]:
        """Return the network's output for noisy images.

        Args:
            x: (b, in_channels, h, w), h and w multiples of `patch`, of any size.
            time: (b,); 1000 t, or EDM's c_noise.
            c: the condition, with the keys the network was built for ("text_mask" may be left out).
        Raises:
            ValueError: a shape, a size or a condition that does not fit.
        """
        check_image(x, time, self.config["in_channels"], self.multiple)
        given = self.reads(x, c)
        emb = self.embed(time, given.label, given.pooled)
        h = self.stem(x if given.concat is None else torch.cat([x, given.concat], dim=1))
        grid = (h.shape[2], h.shape[3])
        tokens = h.flatten(2).transpose(1, 2)
        tokens = tokens + positions_2d(*grid, tokens.shape[-1], device=x.device).to(tokens.dtype)
        for block in self.blocks:
            args = (tokens, emb, given.text, given.text_mask, grid)
            tokens = recomputed(block, *args) if self.checkpoint else block(*args)
        shift, scale = self.modulation(F.silu(emb))[:, None].chunk(2, dim=-1)
        out = self.head(_modulated(tokens, shift, scale)).transpose(1, 2).unflatten(2, grid)
        return F.pixel_shuffle(out, self.multiple)


def _modulated(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    return F.layer_norm(x, x.shape[-1:], eps=1e-6) * (1 + scale) + shift


def _xavier(module: nn.Module) -> None:
    for layer in module.modules():
        if isinstance(layer, nn.Linear):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)


def _zero(layer: nn.Linear) -> None:
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)


def _check(config: Mapping[str, Any]) -> None:
    for key in ("in_channels", "out_channels", "patch", "width", "depth", "heads"):
        if config[key] < 1:
            raise ValueError(f"DiT needs {key} of at least 1, got {config[key]}")
    for key in ("context", "classes", "pooled", "concat"):
        if config[key] < 0:
            raise ValueError(f"DiT needs {key} of 0 (none) or more, got {config[key]}")
    if config["width"] % 4 or config["width"] % config["heads"]:
        raise ValueError(
            f"DiT needs a width that is a multiple of 4 (the positions) and of heads={config['heads']}, "
            f"got width={config['width']}"
        )
