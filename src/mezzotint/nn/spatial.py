"""Attention over the places of a feature map."""

from __future__ import annotations

from jaxtyping import Bool, Float
from torch import Tensor, nn

from .attention import Attention
from .resblock import group_norm, zeroed


class SelfAttention2d(nn.Module):
    """x + W_o attention(GN x) over the places of a feature map, W_o starting at zero (ADM's attention block).

    Args:
        channels: channels of the map.
        heads: number of heads.
    """

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.norm = group_norm(channels)
        self.attention = Attention(channels, heads, bias=True, zero_out=True)

    def forward(
        self,
        x: Float[Tensor, "b channels h w"],
        context: Float[Tensor, "b n d"] | None = None,
        mask: Bool[Tensor, "b n"] | None = None,
    ) -> Float[Tensor, "b channels h w"]:
        """Attend; `context` and `mask` are not read: they keep the signature of `SpatialTransformer`."""
        tokens = self.norm(x).flatten(2).transpose(1, 2)
        out = self.attention(tokens, grid=(x.shape[2], x.shape[3]))
        return x + out.transpose(1, 2).unflatten(2, x.shape[2:])


class GEGLU(nn.Module):
    """W_2 (a * GELU(b)) with (a, b) = W_1 x, inner width 4 times the outer.

    Source: arXiv 2112.10752, section 3.3.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.inner = nn.Linear(width, 8 * width)
        self.outer = nn.Linear(4 * width, width)

    def forward(self, x: Float[Tensor, "b n width"]) -> Float[Tensor, "b n width"]:
        value, gate = self.inner(x).chunk(2, dim=-1)
        return self.outer(value * nn.functional.gelu(gate))


class TransformerBlock(nn.Module):
    """x += self(LN x); x += cross(LN x, context); x += GEGLU(LN x)."""

    def __init__(self, width: int, heads: int, context: int) -> None:
        super().__init__()
        self.norm_self, self.norm_cross, self.norm_mlp = (nn.LayerNorm(width) for _ in range(3))
        self.self = Attention(width, heads)
        self.cross = Attention(width, heads, context)
        self.mlp = GEGLU(width)

    def forward(
        self,
        x: Float[Tensor, "b n width"],
        context: Float[Tensor, "b m d"],
        mask: Bool[Tensor, "b m"] | None,
        grid: tuple[int, int],
    ) -> Float[Tensor, "b n width"]:
        x = x + self.self(self.norm_self(x), grid=grid)
        x = x + self.cross(self.norm_cross(x), context, mask, grid)
        return x + self.mlp(self.norm_mlp(x))


class SpatialTransformer(nn.Module):
    """How LDM brings in a condition: x + conv0(block(conv(GN x), context)), conv0 starting at zero.

    Args:
        channels: channels of the map.
        heads: number of heads.
        context: features of a context token.

    Source: arXiv 2112.10752, section 3.3 (depth 1).
    """

    def __init__(self, channels: int, heads: int, context: int) -> None:
        super().__init__()
        self.norm = group_norm(channels, eps=1e-6)
        self.proj_in = nn.Conv2d(channels, channels, 1)
        self.block = TransformerBlock(channels, heads, context)
        self.proj_out = zeroed(nn.Conv2d(channels, channels, 1))

    def forward(
        self,
        x: Float[Tensor, "b channels h w"],
        context: Float[Tensor, "b n d"],
        mask: Bool[Tensor, "b n"] | None = None,
    ) -> Float[Tensor, "b channels h w"]:
        """Attend to the places and to the context; `mask` is True where a context token is real."""
        grid = (x.shape[2], x.shape[3])
        tokens = self.proj_in(self.norm(x)).flatten(2).transpose(1, 2)
        tokens = self.block(tokens, context, mask, grid)
        return x + self.proj_out(tokens.transpose(1, 2).unflatten(2, grid))
