"""A small transformer encoder over token sequences, in which padding has no part."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from mezzotint.nn.attention import Attention


class TokenEncoder(nn.Module):
    """Token and position embeddings, then an unmasked (not causal) pre-norm transformer.

    h_0 = E[token] + P[position];  h += Attention(LN h);  h += W_2 gelu(W_1 LN h);  out = LN h

    Padding is masked as a key, and its own output is zero, so nothing depends on how far a batch is padded.

    Args:
        vocab: Number of token indices.
        length: Most tokens in a sequence.
        width: Channels of a token.
        depth: Transformer blocks.
        heads: Attention heads; divides ``width``.

    Raises:
        ValueError: A size below 1, or ``heads`` that does not divide ``width``.

    Source: arXiv 2112.10752, appendix E (unmasked transformer as condition encoder); the sizes are our choice.
    """

    def __init__(self, vocab: int, length: int, width: int, depth: int, heads: int) -> None:
        super().__init__()
        sizes = {"vocab": vocab, "length": length, "width": width, "depth": depth, "heads": heads}
        for name, size in sizes.items():
            if not isinstance(size, int) or size < 1:
                raise ValueError(f"{name} must be an integer of at least 1, got {size!r}")
        if width % heads:
            raise ValueError(f"heads must divide width, got width {width} and heads {heads}")
        self.tokens = nn.Embedding(vocab, width)
        self.positions = nn.Embedding(length, width)
        nn.init.normal_(self.tokens.weight, std=0.02)
        nn.init.normal_(self.positions.weight, std=0.02)
        self.blocks = nn.ModuleList(_Block(width, heads) for _ in range(depth))
        self.norm = nn.LayerNorm(width)

    def forward(
        self, tokens: Int[Tensor, "b n"], mask: Bool[Tensor, "b n"], added: Float[Tensor, "b n d"] | None = None
    ) -> Float[Tensor, "b n d"]:
        """Encode sequences; outputs where ``mask`` is False (padding) are zero. ``added`` joins the embeddings."""
        n, most = tokens.shape[1], self.positions.num_embeddings
        if n > most:
            raise ValueError(f"sequences have at most {most} tokens, got {n}; truncate them")
        h = self.tokens(tokens) + self.positions(torch.arange(n, device=tokens.device))
        h = h if added is None else h + added
        for block in self.blocks:
            h = block(h, mask)
        return self.norm(h) * mask.unsqueeze(-1)


class _Block(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm_attention = nn.LayerNorm(width)
        self.attention = Attention(width, heads=heads)
        self.norm_mlp = nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, h: Tensor, mask: Tensor) -> Tensor:
        h = h + self.attention(self.norm_attention(h), mask=mask)
        return h + self.mlp(self.norm_mlp(h))


class MaskedPool(nn.Module):
    """The mean of the real tokens through a linear layer.

    pooled = W (sum_i m_i h_i / sum_i m_i) + b

    Source: our choice.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.linear = nn.Linear(width, width)

    def forward(self, h: Float[Tensor, "b n d"], mask: Bool[Tensor, "b n"]) -> Float[Tensor, "b d"]:
        weight = mask.to(h.dtype).unsqueeze(-1)
        return self.linear((h * weight).sum(1) / weight.sum(1).clamp(min=1))
