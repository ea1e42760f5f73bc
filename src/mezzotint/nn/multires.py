"""One backbone for all levels of a resolution pyramid."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from .dit import DiT
from .embed import GlobalEmbedding, positions_2d, sinusoidal
from .guidance import GuidanceBranch
from .unet import UNet

__all__ = ["MultiResNetwork"]

MOST_AUG = 0.5  # noise on the condition, in the units of its level


class _LevelEmbedding(nn.Module):
    """A backbone's embedding, plus those of the level and of the noise on its condition: both start at zero.

    The two numbers travel as the last entries of the pooled vector.
    """

    def __init__(self, plain: GlobalEmbedding, levels: int) -> None:
        super().__init__()
        width = plain.time_out.out_features
        self.plain, self.level = plain, nn.Embedding(levels, width)
        self.aug = GuidanceBranch(width, (0.0, MOST_AUG), features=64)
        nn.init.zeros_(self.level.weight)

    def forward(
        self, time: Float[Tensor, " b"], label: Int[Tensor, " b"] | None, pooled: Float[Tensor, "b features"]
    ) -> Float[Tensor, "b width"]:
        rest = pooled[:, :-2] if pooled.shape[1] > 2 else None
        own = self.level(pooled[:, -2].round().long()) + self.aug(pooled[:, -1])
        return self.plain(time, label, rest) + own


class _LowStem(nn.Module):
    """A backbone's stem on its own channels, plus a convolution of the level below that starts at zero.

    For a DiT, tokens of a lower level are moved to the places they have in the highest: token i of a side with 1/f as
    many of them lies at (i + 1/2) f - 1/2. The backbone adds the positions 0, 1, ... later; here goes the difference.
    """

    def __init__(self, stem: nn.Conv2d, channels: int, tokens: int) -> None:
        super().__init__()
        self.stem, self.tokens = stem, tokens
        self.low = nn.Conv2d(
            channels,
            stem.out_channels,
            stem.kernel_size,  # type: ignore[arg-type]
            stride=stem.stride,  # type: ignore[arg-type]
            padding=stem.padding,  # type: ignore[arg-type]
            bias=False,
        )
        nn.init.zeros_(self.low.weight)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b width h2 w2"]:
        own, low = x.split([self.stem.in_channels, self.low.in_channels], dim=1)
        h = self.stem(own) + self.low(low)
        factor = self.tokens // h.shape[2] if self.tokens else 1
        return h if factor == 1 else h + _moved(h, factor)


class MultiResNetwork(nn.Module):
    """The same weights at every level: F(x_l, time, level, low, s_aug), low the level below at the size of x_l.

    The level below and a channel m, 1 where it is told and 0 where not, are concatenated to x; what is not told is
    masked, whatever it holds. Level and s_aug are added to the time embedding. All that is added starts at zero:
    before training the network is the backbone itself at the highest level, bit for bit. Plain reuse: a UNet has all
    its stages at every level (entering it further in, at the matching depth, is what it does not do).

    Args:
        base: a `UNet` or `DiT`, fresh or trained at the highest level; it is taken over and changed.
        levels: sides in pixels, rising; all of them sizes that the backbone takes.

    Raises:
        ValueError: for another network, one with batch normalisation (statistics of several levels would be mixed), or
            levels that it cannot take. When called: for a size that is no level, a condition of a wrong shape.

    Source: in the style of arXiv 2509.15342: the architecture is our choice.

    >>> net = MultiResNetwork(DiT(3, patch=2, width=8, depth=1, heads=2), (4, 8))
    >>> net(torch.zeros(1, 3, 4, 4), torch.zeros(1)).shape
    torch.Size([1, 3, 4, 4])
    """

    def __init__(self, base: Any, levels: Sequence[int]) -> None:
        super().__init__()
        if not isinstance(base, (UNet, DiT)) or not isinstance(base.embed, GlobalEmbedding):
            raise ValueError(
                f"MultiResNetwork got a {type(base).__name__}; expected a plain UNet or DiT of this library"
            )
        if any(isinstance(part, nn.modules.batchnorm._BatchNorm) for part in base.modules()):
            raise ValueError("this network has batch normalisation, whose statistics would mix the levels; use groups")
        levels = tuple(levels)
        if not levels or any(a >= b for a, b in zip(levels, levels[1:])):
            raise ValueError(f"MultiResNetwork got levels {list(levels)}; expected rising sides, as [16, 32]")
        for side in levels:
            if side % base.multiple:
                raise ValueError(
                    f"this network takes multiples of {base.multiple} and no level of {side} pixels a side"
                )
        self.levels, self.reads, self.multiple = levels, base.reads, base.multiple
        self.channels = int(base.config["in_channels"])
        width = base.reads.pooled + 2
        tokens = levels[-1] // base.multiple if isinstance(base, DiT) else 0
        base.embed = _LevelEmbedding(base.embed, len(levels))  # type: ignore[assignment]
        base.stem = _LowStem(base.stem, self.channels + 1, tokens)  # type: ignore[assignment]
        base.reads = replace(base.reads, pooled=width, concat=base.reads.concat + self.channels + 1)
        self.base = base

    @property
    def config(self) -> dict[str, Any]:
        """Constructor keywords; "base" is the network itself."""
        return {"base": self.base, "levels": list(self.levels)}

    def forward(
        self, x: Float[Tensor, "b *chw"], time: Float[Tensor, "*b"], c: Mapping[str, Tensor] | None = None
    ) -> Float[Tensor, "b out h w"]:
        """The backbone's output.

        Args:
            x: (b, in_channels, h, w), h one of the levels.
            time: (b,), as the backbone has it.
            c: its keys, and "level" (b,) int64 (by the size of x where it is left out), "low" (b, in_channels, h, w),
                "low_given" (b,) of 0 and 1 (all 1 where left out), "low_aug" (b,) in [0, 0.5] (0).
        """
        c = {} if c is None else c
        if x.ndim != 4 or x.shape[2] not in self.levels:
            raise ValueError(f"this model was trained for levels {list(self.levels)}, and got x of {tuple(x.shape)}")
        own = self.reads(x, c)
        more, given = self._low(x, c)
        level = c.get("level")
        number = x.new_full((len(x),), self.levels.index(x.shape[2])) if level is None else level.to(x)
        aug = given * c["low_aug"].to(x) if "low_aug" in c else torch.zeros_like(given)
        told = torch.stack([number, aug], 1)
        rest = {k: v for k, v in c.items() if k not in ("level", "low", "low_given", "low_aug")}
        rest["pooled"] = told if own.pooled is None else torch.cat([own.pooled.to(x), told], 1)
        rest["concat"] = more if own.concat is None else torch.cat([own.concat, more], 1)
        return self.base(x, time, rest)

    def _low(self, x: Tensor, c: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """What is concatenated to x, (b, channels + 1, h, w), and m, (b,)."""
        if "low" not in c:
            shape = (len(x), self.channels + 1, *x.shape[2:])
            return x.new_zeros(shape), x.new_zeros(len(x))
        low = c["low"]
        if low.shape != x.shape:
            raise ValueError(
                f"the condition low has shape {tuple(low.shape)} for x of {tuple(x.shape)}; enlarge it first"
            )
        given = c["low_given"].to(x) if "low_given" in c else x.new_ones(len(x))
        m = given.view(-1, 1, 1, 1)
        seen = torch.where(m > 0, low, torch.zeros_like(low))
        return torch.cat([seen, m.expand(-1, 1, *x.shape[2:])], 1), given


def _moved(h: Tensor, factor: int) -> Tensor:
    """The positions of the highest level at a lower one's tokens, less the plain ones, (1, width, rows, columns)."""
    rows, columns = h.shape[2:]
    half = h.shape[1] // 2
    place = [(torch.arange(n, dtype=torch.float32, device=h.device) + 0.5) * factor - 0.5 for n in (rows, columns)]
    down, across = (sinusoidal(p, half) for p in place)
    both = torch.cat([down[:, None].expand(-1, columns, -1), across[None].expand(rows, -1, -1)], -1)
    plain = positions_2d(rows, columns, h.shape[1], device=h.device).view(rows, columns, -1)
    return (both - plain).permute(2, 0, 1)[None].to(h.dtype)
