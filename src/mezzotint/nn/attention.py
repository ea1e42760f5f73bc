"""The one door through which every attention layer of our backbones goes.

softmax(q k^T / sqrt(d) + mask) v, by the fused kernel while nobody looks, in plain operations where a handler
asked for logits or maps (`mezzotint.nn.site`).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from .site import Call, Door, Opened, opened


class Attention(Door):
    """Multi-head attention over tokens, to themselves or to a context.

    q = W_q x, k = W_k y, v = W_v y, out = W_o softmax(q k^T / sqrt(d)) v; y = x (self) or the context (cross).

    Args:
        width: features of a token.
        heads: number of heads; divides `width`.
        context: features of a context token; 0 means self-attention.
        bias: whether q, k and v have a bias (LDM: no, DiT: yes).
        zero_out: start with W_o = 0, so that a residual around the layer is the identity.
    Raises:
        ValueError: `heads` does not divide `width`.

    Source: arXiv 2112.10752, section 3.3 (no bias on q, k, v).

    >>> layer = Attention(8, heads=2, context=4)
    >>> layer(torch.zeros(1, 5, 8), torch.zeros(1, 3, 4)).shape
    torch.Size([1, 5, 8])
    """

    def __init__(self, width: int, heads: int, context: int = 0, *, bias: bool = False, zero_out: bool = False) -> None:
        super().__init__()
        if heads < 1 or width % heads:
            raise ValueError(f"{heads} heads do not divide a width of {width}; choose heads that divide it")
        self.heads, self.context = heads, context
        self.to_q = nn.Linear(width, width, bias=bias)
        self.to_k = nn.Linear(context or width, width, bias=bias)
        self.to_v = nn.Linear(context or width, width, bias=bias)
        self.to_out = nn.Linear(width, width)
        if zero_out:
            nn.init.zeros_(self.to_out.weight)
            nn.init.zeros_(self.to_out.bias)

    def forward(
        self,
        x: Float[Tensor, "b n width"],
        context: Float[Tensor, "b m features"] | None = None,
        mask: Bool[Tensor, "b m"] | None = None,
        grid: tuple[int, int] | None = None,
    ) -> Float[Tensor, "b n width"]:
        """Attend.

        Args:
            x: query tokens.
            context: context tokens; None in a self-attention layer.
            mask: True where a key is real; a sample without any real key gets zeros in place of values.
            grid: (height, width) of the query tokens where they form an image: handlers see it.
        Raises:
            ValueError: a cross-attention layer without context, or a self-attention layer with one.
        """
        if (context is None) != (self.context == 0):
            kind = "self" if self.context == 0 else "cross"
            given = "none was given" if context is None else "one was given"
            raise ValueError(
                f"attention site {self.site!r} is {kind}-attention: pass a context only to cross-attention; {given}"
            )
        y = x if context is None else context
        q, k, v = (
            part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in (self.to_q(x), self.to_k(y), self.to_v(y))
        )
        real = None
        if mask is not None:
            # A row with every key hidden is 0 / 0: let it see all keys, then blank what it saw.
            real = mask.any(-1, keepdim=True)
            mask = (mask | ~real)[:, None, None, :]
        out = attend(q, k, v, mask, [(o, o.call(self.site, self.context > 0, grid)) for o in opened(self)])
        if real is not None:
            out = out * real[:, None, None, :].to(out.dtype)
        return self.to_out(out.transpose(1, 2).flatten(2))


def attend(
    q: Float[Tensor, "b heads n d"],
    k: Float[Tensor, "b heads m d"],
    v: Float[Tensor, "b heads m d"],
    mask: Bool[Tensor, "#b #heads #n #m"] | None = None,
    handlers: Sequence[tuple[Opened, Call]] = (),
) -> Float[Tensor, "b heads n d"]:
    """Compute softmax(q k^T / sqrt(d)) v under the open handlers.

    Args:
        q, k, v: queries, keys, values.
        mask: True where a query may see a key; every query must see at least one.
        handlers: open handlers with their description of this call, in order.
    Returns:
        The mixed values. Without an explicit handler they come from `F.scaled_dot_product_attention`.

    >>> q = torch.ones(1, 1, 2, 4)
    >>> torch.equal(attend(q, q, q), q)
    True
    """
    for entry, call in handlers:
        q, k, v = entry.handler.tokens(call, q, k, v)
    explicit = [(entry.handler, call) for entry, call in handlers if entry.handler.explicit]
    if not explicit:
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
    logits = (q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2)
    if logits.dtype in (torch.float16, torch.bfloat16):
        logits = logits.float()
    for handler, call in explicit:
        logits = handler.logits(call, logits)
    if mask is not None:
        logits = logits.masked_fill(~mask, -torch.inf)
    maps = logits.softmax(-1)
    for handler, call in explicit:
        maps = handler.maps(call, maps)
    return maps.to(v.dtype) @ v
