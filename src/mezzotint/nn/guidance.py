"""The guidance weight as an input of a network: a branch that is added where the time embedding goes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from mezzotint.core import NetworkDenoiser
from mezzotint.core.guided import WConditioned, handles_guidance

from .embed import GlobalEmbedding
from .inputs import Reads

__all__ = ["GuidanceBranch", "GuidedNetwork", "guided_student", "halved_student"]

_SLOWEST, _FASTEST = 0.25, 2.0  # periods over the range


class GuidanceBranch(nn.Module):
    """e_w = W2 silu(W1 f + b1) + b2,   f = [cos(2 pi B_j u), sin(2 pi B_j u)],   u = (w - low) / (high - low).

    B_j are fixed, log-spaced from 0.25 to 2: nearby weights give nearby networks (with frequencies up to 16 a student
    of [1, 5] swings between weights 0.5 apart, and learns more slowly). W2 and b2 start at zero, so that a student
    starts as its teacher.

    Args:
        width: of the result.
        w_range: (low, high), low < high.
        features: of f, even.

    Raises:
        ValueError: for an odd or too small number of features, or an empty range.

    Source: arXiv 2210.03142, section 3.1 (a Fourier embedding of w); frequencies and zero start are our choice.

    >>> GuidanceBranch(4, (1.0, 5.0))(torch.tensor([1.0, 3.5])).abs().sum().item()
    0.0
    """

    def __init__(self, width: int, w_range: Sequence[float], features: int = 128) -> None:
        super().__init__()
        low, high = (float(w) for w in w_range)
        if features < 4 or features % 2 or not low < high:
            raise ValueError(
                f"GuidanceBranch got features={features}, w_range={w_range}; expected even, and low < high"
            )
        self.low, self.high, self.features = low, high, features
        self.first, self.last = nn.Linear(features, width), nn.Linear(width, width)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)

    def forward(self, w: Float[Tensor, " b"]) -> Float[Tensor, "b width"]:
        """Embed weights."""
        u = (w if w.dtype == torch.float64 else w.float()).sub(self.low).div(self.high - self.low)
        place = torch.linspace(0, 1, self.features // 2, dtype=u.dtype, device=u.device)
        angle = u[:, None] * (2 * math.pi * _SLOWEST) * (math.log(_FASTEST / _SLOWEST) * place).exp()
        f = torch.cat([angle.cos(), angle.sin()], dim=-1).to(self.first.weight.dtype)
        return self.last(F.silu(self.first(f)))


class _GuidedEmbedding(nn.Module):
    """A backbone's embedding plus that of the weight, which travels as the last entry of the pooled vector."""

    def __init__(self, plain: GlobalEmbedding, branch: GuidanceBranch) -> None:
        super().__init__()
        self.plain, self.branch = plain, branch

    def forward(
        self, time: Float[Tensor, " b"], label: Int[Tensor, " b"] | None, pooled: Float[Tensor, "b features"]
    ) -> Float[Tensor, "b width"]:
        rest = pooled[:, :-1].contiguous() if pooled.shape[1] > 1 else None  # so that not a bit differs
        return self.plain(time, label, rest) + self.branch(pooled[:, -1])


class GuidedNetwork(nn.Module):
    """A backbone that also reads c["guidance"], the weight of its guidance.

    Args:
        base: a `UNet` or `DiT`; it is taken over and changed.
        w_range: lowest and highest weight.

    Raises:
        ValueError: for a network of another kind. When called: for a condition without "guidance".

    >>> from mezzotint.nn.dit import DiT
    >>> net = GuidedNetwork(DiT(3, patch=2, width=8, depth=1, heads=2), (1.0, 5.0))
    >>> net(torch.zeros(1, 3, 4, 4), torch.zeros(1), {"guidance": torch.tensor([3.0])}).shape
    torch.Size([1, 3, 4, 4])
    """

    def __init__(self, base: Any, w_range: Sequence[float]) -> None:
        super().__init__()
        reads, embed = getattr(base, "reads", None), getattr(base, "embed", None)
        if not isinstance(reads, Reads) or not isinstance(embed, GlobalEmbedding):
            raise ValueError(
                f"GuidedNetwork got a {type(base).__name__}; expected a plain UNet or DiT of this library, whose time "
                "embedding the weight can be added to"
            )
        self.reads, self.multiple, self.w_range = reads, base.multiple, tuple(float(w) for w in w_range)
        base.embed = _GuidedEmbedding(embed, GuidanceBranch(embed.time_out.out_features, self.w_range))
        base.reads = replace(reads, pooled=reads.pooled + 1)
        self.base = base

    @property
    def config(self) -> dict[str, Any]:
        """Constructor keywords; "base" is the network itself."""
        return {"base": self.base, "w_range": list(self.w_range)}

    def forward(
        self, x: Float[Tensor, "b *chw"], time: Float[Tensor, "*b"], c: Mapping[str, Tensor] | None = None
    ) -> Float[Tensor, "b out h w"]:
        """The backbone's output; c has its keys and "guidance", (b,)."""
        if c is None or "guidance" not in c:
            raise ValueError('this network reads the weight of its guidance: pass c with "guidance", (b,)')
        w = c["guidance"][:, None]
        pooled = self.reads(x, c).pooled
        told = {key: value for key, value in c.items() if key != "guidance"}
        return self.base(x, time, {**told, "pooled": w if pooled is None else torch.cat([pooled, w.to(pooled)], 1)})


def guided_student(teacher: NetworkDenoiser, w_range: Sequence[float], parent: str = "") -> WConditioned:
    """A copy of a denoiser that takes the guidance weight as an input, and as yet ignores it.

    It starts as the conditional teacher, bit for bit; dropout is off, since a student learns from another network.

    Args:
        teacher: a network denoiser over a `UNet` or `DiT`; it is left as it is.
        w_range: lowest and highest weight.
        parent: hash of the teacher's weights, kept with the student.

    Raises:
        ValueError: for another network, or a teacher that has guidance inside.

    Source: arXiv 2210.03142, section 3.1 (initialised from the teacher).
    """
    if handles_guidance(teacher):
        raise ValueError(
            "the teacher has its guidance inside already; its steps can be halved, or distil the plain one"
        )
    copy = _copied(teacher)
    copy.net = GuidedNetwork(copy.net, w_range)
    return WConditioned(copy, w_range, parent=parent)


def halved_student(
    teacher: WConditioned, steps: int, starts: int | None = None, encoder: bool = False, parent: str = ""
) -> WConditioned:
    """A copy of a student, to be distilled to `steps` steps.

    Args:
        teacher: of twice the steps, or of any number; it is left as it is.
        steps, starts, encoder, parent: of the copy, see `WConditioned`.

    Source: arXiv 2210.03142, section 3.2.
    """
    return WConditioned(_copied(teacher.denoiser), teacher.w_range, steps, starts, encoder, parent)


def _copied(denoiser: NetworkDenoiser) -> NetworkDenoiser:
    copy = deepcopy(denoiser).requires_grad_(True)
    for module in copy.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    return copy
