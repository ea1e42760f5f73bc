"""A pre-trained vision transformer with a diffusion decoder on top: a backbone for pixels, without an autoencoder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from .attention import Attention
from .embed import LabelEmbedding
from .inputs import Reads
from .recompute import recomputed
from .site import name_sites
from .vit import ViTEncoder, xavier

__all__ = ["DecoderBlock", "EncoderDecoderViT", "load_encoder"]


class DecoderBlock(nn.Module):
    """x = LN(W [x; skip]); x += g1 self(m1(LN x)); x += g2 mlp(m2(LN x)), with m(h) = h (1 + scale) + shift.

    shift, scale and gate g come from one linear layer of SiLU(emb) that starts at zero, so that a fresh block is its
    first line.

    Args:
        width: features of the decoder's tokens.
        heads: number of heads.
        below: features of the skip and of the embedding: the encoder's.
        dropout: after the attention and inside the MLP (where, is our choice).

    Source: arXiv 2510.12586, code (decoder); adaLN-zero: 2212.09748.
    """

    def __init__(self, width: int, heads: int, below: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.join, self.norm = nn.Linear(width + below, width), nn.LayerNorm(width, eps=1e-6)
        self.self = Attention(width, heads)
        self.drop = nn.Dropout(dropout)
        self.mlp = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(), nn.Dropout(dropout), nn.Linear(4 * width, width)
        )
        self.modulation = nn.Linear(below, 6 * width)
        xavier(self)
        _zero(self.modulation)

    def forward(
        self, x: Float[Tensor, "b n width"], skip: Float[Tensor, "b n below"], emb: Float[Tensor, "b below"]
    ) -> Float[Tensor, "b n width"]:
        shift1, scale1, gate1, shift2, scale2, gate2 = self.modulation(F.silu(emb))[:, None].chunk(6, dim=-1)
        x = self.norm(self.join(torch.cat([x, skip], dim=-1)))
        x = x + gate1 * self.drop(self.self(_modulated(x, shift1, scale1)))
        return x + gate2 * self.mlp(_modulated(x, shift2, scale2))


class EncoderDecoderViT(nn.Module):
    """A ViT encoder, its blocks' outputs handed to a decoder last first, and an image out.

        y = label embedding (added to the class token);  x = LN(encoder);  x = W x where the widths differ
        x = block_j(x, skip_j, time + y),  skip_j = output of encoder block depth - j
        image = unpatchify(W LN(x)),  W = 0 at the start

    Called as net(x, time, c) with time = 250 ln sigma, as `DirectDenoiser` and `BoundaryDenoiser` do.

    Args:
        in_channels: channels of x and of the result.
        size: height and width of the images, or one number for both.
        patch: side of a patch in pixels; divides both.
        width, depth, heads: of the encoder.
        decoder_width, decoder_depth, decoder_heads: of the decoder; 0 for the encoder's. Not deeper than the encoder.
        classes: number of classes, read from c["label"] (`classes` itself is the null label); 0 for none.
        dropout: in the decoder; 0.5 for consistency training in the paper's code.
        checkpoint: recompute activations in the backward pass: slower, less memory, the same gradients.

    Raises:
        ValueError: a setting that makes no network.

    Source: arXiv 2510.12586, code (stage 2).

    >>> net = EncoderDecoderViT(3, size=8, patch=4, width=16, depth=2, heads=2, classes=10)
    >>> net(torch.zeros(1, 3, 8, 8), torch.zeros(1), {"label": torch.tensor([10])}).abs().max().item()
    0.0
    """

    def __init__(
        self,
        in_channels: int = 3,
        size: int | Sequence[int] = 32,
        patch: int = 4,
        width: int = 192,
        depth: int = 6,
        heads: int = 6,
        decoder_width: int = 0,
        decoder_depth: int = 0,
        decoder_heads: int = 0,
        classes: int = 0,
        dropout: float = 0.0,
        checkpoint: bool = False,
    ) -> None:
        super().__init__()
        self.encoder = ViTEncoder(in_channels, size, patch, width, depth, heads, checkpoint)
        decoder_width, decoder_depth = decoder_width or width, decoder_depth or depth
        decoder_heads = decoder_heads or heads
        self.config: dict[str, Any] = {
            **self.encoder.config, "decoder_width": decoder_width, "decoder_depth": decoder_depth,
            "decoder_heads": decoder_heads, "classes": classes, "dropout": dropout,
        }  # fmt: skip
        _check(self.config)
        self.checkpoint = checkpoint
        self.reads = Reads(classes=classes)
        self.label = LabelEmbedding(classes, width) if classes else None
        self.bridge = nn.Linear(width, decoder_width) if decoder_width != width else nn.Identity()
        self.blocks = nn.ModuleList(
            DecoderBlock(decoder_width, decoder_heads, width, dropout) for _ in range(decoder_depth)
        )
        self.norm = nn.LayerNorm(decoder_width, eps=1e-6)
        self.head = nn.Linear(decoder_width, patch * patch * in_channels)
        xavier(self.bridge)
        _zero(self.head)
        name_sites(self)

    @classmethod
    def from_encoder(cls, encoder: ViTEncoder, **config: Any) -> EncoderDecoderViT:
        """A network around a copy of an encoder, with a fresh decoder; keywords are those of the decoder."""
        net = cls(**{**encoder.config, **config})
        load_encoder(net, encoder.state_dict())
        return net

    def forward(
        self, x: Float[Tensor, "b c h w"], time: Float[Tensor, " b"], c: Mapping[str, Tensor] | None = None
    ) -> Float[Tensor, "b c h w"]:
        """Return the network's output for noisy images.

        Args:
            x: (b, in_channels, h, w) of the network's size.
            time: (b,); 250 ln sigma.
            c: the condition: "label", where the network was built for classes.

        Raises:
            ValueError: a shape, a size or a condition that does not fit.
        """
        label = self.reads(x, c).label
        told = None if self.label is None or label is None else self.label(label)
        below = self.encoder.encode(x, time, told)
        emb = below.time if told is None else below.time + told
        tokens = self.bridge(below.tokens)
        for block, skip in zip(self.blocks, reversed(below.skips)):  # a shallower decoder leaves the first ones
            tokens = recomputed(block, tokens, skip, emb) if self.checkpoint else block(tokens, skip, emb)
        out = self.head(self.norm(tokens[:, 2:])).transpose(1, 2).unflatten(2, self.encoder.grid)
        return F.pixel_shuffle(out, self.encoder.patch)


def load_encoder(net: EncoderDecoderViT, state: Mapping[str, Tensor]) -> tuple[int, int]:
    """Fill the encoder of a network with pre-trained weights: every tensor of it, or none.

    Args:
        net: its decoder stays as it is.
        state: an encoder's tensors by name, as `ViTEncoder.state_dict()` or as saved by pre-training, where their names
            begin with "encoder." and others (a projector's) come along unread.

    Returns:
        (matched, expected) numbers of tensors; equal, as anything less is refused.

    Raises:
        ValueError: where a tensor is missing or has another shape; tells how many matched and names the others.

    >>> net = EncoderDecoderViT(3, size=8, patch=4, width=16, depth=1, heads=2)
    >>> load_encoder(net, net.encoder.state_dict())
    (19, 19)
    """
    prefix = "encoder." if any(name.startswith("encoder.") for name in state) else ""
    own, named = net.encoder.state_dict(), {k[len(prefix) :]: v for k, v in state.items() if k.startswith(prefix)}
    missing = [name for name in own if name not in named]
    other = [
        f"{name} {tuple(named[name].shape)}, expected {tuple(own[name].shape)}"
        for name in own
        if name in named and named[name].shape != own[name].shape
    ]
    unknown = [name for name in named if name not in own]
    matched = len(own) - len(missing) - len(other)
    if missing or other or unknown:
        lists = (("missing", missing), ("of another shape", other), ("unknown", unknown))
        told = "; ".join(f"{what}: {', '.join(names[:5])}{' ...' * (len(names) > 5)}" for what, names in lists if names)
        raise ValueError(
            f"{matched} of {len(own)} encoder tensors match these weights ({told}); the encoder must have the width, "
            "depth, patch and image size that it was pre-trained with"
        )
    net.encoder.load_state_dict(named)
    return matched, len(own)


def _modulated(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    return F.layer_norm(x, x.shape[-1:], eps=1e-6) * (1 + scale) + shift


def _zero(layer: nn.Linear) -> None:
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)


def _check(config: Mapping[str, Any]) -> None:
    if config["decoder_depth"] > config["depth"]:
        raise ValueError(
            f"a decoder of {config['decoder_depth']} blocks needs as many blocks of the encoder to take skips from, "
            f"which has {config['depth']}"
        )
    for key in ("decoder_width", "decoder_depth", "decoder_heads"):
        if config[key] < 1:
            raise ValueError(f"EncoderDecoderViT needs {key} of at least 1 (or 0 for the encoder's), got {config[key]}")
    if config["decoder_width"] % config["decoder_heads"]:
        raise ValueError(
            f"decoder_heads={config['decoder_heads']} do not divide decoder_width={config['decoder_width']}"
        )
    if config["classes"] < 0:
        raise ValueError(f"EncoderDecoderViT needs classes of 0 (none) or more, got {config['classes']}")
    if not 0 <= config["dropout"] < 1:
        raise ValueError(f"dropout is a probability in [0, 1), got {config['dropout']}")
