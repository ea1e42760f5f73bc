"""The UNet of latent diffusion."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from .embed import GlobalEmbedding
from .inputs import Inputs, Reads, check_image
from .norm import Gainless, without_gains
from .recompute import recomputed
from .resblock import Downsample, ResBlock, Upsample, group_norm, zeroed
from .site import name_sites
from .spatial import SelfAttention2d, SpatialTransformer


class UNet(nn.Module):
    """ADM's UNet, with LDM's spatial transformers where there are text tokens.

    Per level `blocks` residual blocks, with attention where the level's downsampling factor is listed; in the
    middle block, attention, block; upwards `blocks + 1` blocks a level, each fed its counterpart on the way down.

    Args:
        in_channels: channels of x.
        out_channels: channels of the result; None means `in_channels`.
        channels: width of the first level.
        mult: width of each level as a multiple of `channels`; each level after the first halves h and w.
        blocks: residual blocks a level.
        attention: downsampling factors (not sizes) of the levels with attention; the middle always has it.
        head_dim: features a head; the number of heads is the nearest smaller one that divides the width.
        context: features of a text token, read from c["text"] and c["text_mask"]; 0 for none.
        classes: number of classes, read from c["label"] (`classes` itself is the null label); 0 for none.
        pooled: features of c["pooled"], added to the time embedding; 0 for none.
        concat: channels of c["concat"], concatenated to x; 0 for none.
        dropout: probability inside the residual blocks (from torch's generator, which the caller seeds).
        checkpoint: recompute activations in the backward pass: slower, less memory, the same gradients.
        gainless: norms without a learned gain, "none", that before the "output", or "all" (see `without_gains`).
        patch: pixels a side that the network sees as one, their channels side by side (FFDNet's way, arXiv
            1710.04026): an image of patch h x patch w for the work of h x w.
    Raises:
        ValueError: a setting that makes no network.

    Source: arXiv 2112.10752, section 3.3 of the sheet (our choices: groups of GroupNorm, see `group_norm`).

    >>> net = UNet(4, channels=16, mult=(1, 2), blocks=1, context=8)
    >>> c = {"text": torch.zeros(2, 5, 8)}
    >>> net(torch.zeros(2, 4, 8, 8), torch.tensor([0.0, 999.0]), c).shape
    torch.Size([2, 4, 8, 8])
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int | None = None,
        channels: int = 64,
        mult: Sequence[int] = (1, 2),
        blocks: int = 2,
        attention: Sequence[int] = (2,),
        head_dim: int = 32,
        context: int = 0,
        classes: int = 0,
        pooled: int = 0,
        concat: int = 0,
        dropout: float = 0.0,
        checkpoint: bool = False,
        gainless: Gainless = "none",
        patch: int = 1,
    ) -> None:
        super().__init__()
        out_channels = in_channels if out_channels is None else out_channels
        self.config: dict[str, Any] = {
            "in_channels": in_channels, "out_channels": out_channels, "channels": channels,
            "mult": list(mult), "blocks": blocks, "attention": list(attention), "head_dim": head_dim,
            "context": context, "classes": classes, "pooled": pooled, "concat": concat,
            "dropout": dropout, "checkpoint": checkpoint, "gainless": "none", "patch": patch,
        }  # fmt: skip
        _check(self.config)
        self.checkpoint = checkpoint
        self.multiple = patch * 2 ** (len(mult) - 1)
        self.reads = Reads(context, classes, pooled, concat)
        width = 4 * channels
        self.embed = GlobalEmbedding(channels, width, classes, pooled)

        def stage(inputs: int, outputs: int, factor: int) -> nn.ModuleList:
            parts: list[nn.Module] = [ResBlock(inputs, outputs, width, dropout)]
            if factor in attention:
                parts.append(_attention(outputs, head_dim, context))
            return nn.ModuleList(parts)

        self.stem = nn.Conv2d((in_channels + concat) * patch**2, channels, 3, padding=1)
        now, skips, down = channels, [channels], []
        for level, m in enumerate(mult):
            for _ in range(blocks):
                down.append(stage(now, m * channels, 2**level))
                now = m * channels
                skips.append(now)
            if level < len(mult) - 1:
                down.append(nn.ModuleList([Downsample(now)]))
                skips.append(now)
        self.down = nn.ModuleList(down)
        first, last = (ResBlock(now, now, width, dropout) for _ in range(2))
        self.mid = nn.ModuleList([first, _attention(now, head_dim, context), last])
        up = []
        for level, m in reversed(list(enumerate(mult))):
            for block in range(blocks + 1):
                parts = stage(now + skips.pop(), m * channels, 2**level)
                now = m * channels
                if level and block == blocks:
                    parts.append(Upsample(now))
                up.append(parts)
        self.up = nn.ModuleList(up)
        self.norm = group_norm(now)
        self.head = zeroed(nn.Conv2d(now, out_channels * patch**2, 3, padding=1))
        name_sites(self)
        if gainless != "none":
            without_gains(self, gainless)

    def forward(
        self, x: Float[Tensor, "b *chw"], time: Float[Tensor, "*b"], c: Mapping[str, Tensor] | None = None
    ) -> Float[Tensor, "b out h w"]:
        """Return the network's output for noisy images.

        Args:
            x: (b, in_channels, h, w), h and w multiples of patch * 2 ** (levels - 1), of any size.
            time: (b,); 1000 t, or EDM's c_noise.
            c: the condition, with the keys the network was built for ("text_mask" may be left out).
        Raises:
            ValueError: a shape, a size or a condition that does not fit.
        """
        check_image(x, time, self.config["in_channels"], self.multiple)
        given = self.reads(x, c)
        emb = self.embed(time, given.label, given.pooled)
        h = x if given.concat is None else torch.cat([x, given.concat], dim=1)
        h = self.stem(F.pixel_unshuffle(h, self.config["patch"]))
        skips = [h]
        for parts in self.down:
            h = self._run(parts, h, emb, given)
            skips.append(h)
        h = self._run(self.mid, h, emb, given)
        for parts in self.up:
            h = self._run(parts, torch.cat([h, skips.pop()], dim=1), emb, given)
        return F.pixel_shuffle(self.head(F.silu(self.norm(h))), self.config["patch"])

    def _run(self, parts: nn.Module, h: Tensor, emb: Tensor, given: Inputs) -> Tensor:
        assert isinstance(parts, nn.ModuleList)
        for part in parts:
            if isinstance(part, ResBlock):
                h = recomputed(part, h, emb) if self.checkpoint else part(h, emb)
            elif isinstance(part, (SelfAttention2d, SpatialTransformer)):
                args = (h, given.text, given.text_mask)
                h = recomputed(part, *args) if self.checkpoint else part(*args)
            else:
                h = part(h)
        return h


def _attention(channels: int, head_dim: int, context: int) -> nn.Module:
    heads = next(n for n in range(max(1, channels // head_dim), 0, -1) if channels % n == 0)
    return SpatialTransformer(channels, heads, context) if context else SelfAttention2d(channels, heads)


def _check(config: Mapping[str, Any]) -> None:
    for key in ("in_channels", "out_channels", "channels", "blocks", "head_dim", "patch"):
        if config[key] < 1:
            raise ValueError(f"UNet needs {key} of at least 1, got {config[key]}")
    for key in ("context", "classes", "pooled", "concat"):
        if config[key] < 0:
            raise ValueError(f"UNet needs {key} of 0 (none) or more, got {config[key]}")
    if config["channels"] % 2:
        raise ValueError(f"UNet needs an even number of channels, got {config['channels']}")
    if not config["mult"] or min(config["mult"]) < 1:
        raise ValueError(f"UNet needs a multiple of at least 1 for each level, got mult={config['mult']}")
    factors = [2**level for level in range(len(config["mult"]))]
    if not set(config["attention"]) <= set(factors):
        raise ValueError(
            f"attention lists downsampling factors, not sizes: got {config['attention']}, this UNet has {factors}"
        )
    if not 0 <= config["dropout"] < 1:
        raise ValueError(f"dropout is a probability in [0, 1), got {config['dropout']}")
