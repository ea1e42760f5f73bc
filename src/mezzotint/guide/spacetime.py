"""Spatial-temporal attention: inside an object's region cross-attention reads a caption of that object too."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from mezzotint.attention.contexts import Contexts, mix_contexts, save_contexts
from mezzotint.core import Condition, Denoiser, Prediction
from mezzotint.core.known import known_time
from mezzotint.guide.cfg import CFG
from mezzotint.guide.guided import GuidedDenoiser
from mezzotint.guide.region import Region, region_masks
from mezzotint.nn.site import Call, none_opened

__all__ = ["SpaceTime", "mixed", "read_contexts"]

Mode = Literal["convex", "boost"]
Regions = Sequence[Region | Sequence[Region]]


@dataclass(frozen=True)
class SpaceTime:
    """Guidance that writes object k, told by a caption c_k of its own, into its region m_k with weight w_kj at step j.

    In every cross-attention layer, of the conditional half of the batch, with g(c) the layer's output for a context:
        "convex": g = (1 - sum_k a_k) g(c) + sum_k a_k g(c_k),   a_k = w_kj m_k / max(1, sum_l w_lj m_l)
        "boost":  g = g(c) + sum_k w_kj m_k (g(c_k) - g_null),   g_null of the null half, its own queries
    "convex" is the paper's formula (the division where regions overlap is our choice), "boost" that of its code. The
    null half stays as it is. Then eps = eps_null + w (eps_c - eps_null), as `CFG`, which this guide holds.

    Step j is the one within which t lies, so that solvers of several evaluations a step share its weights. What the
    layers read for an object costs one evaluation, in the first call; after that an object costs attention alone.

    Args:
        locals: for each object a condition, of one row or one a sample, or what `read_contexts` gave for it.
        regions: of each object; or a sequence of them, one a sample.
        weights: (k, n) for all samples or (b, k, n), one for each object and step; "convex": 0 to 1. May want
            gradients.
        times: (n + 1,) falling, the grid of the run.
        w: guidance weight; "boost" needs a null half, so not 1.
        mode: see above.
        sites: a glob as in `mezzotint.nn.find_sites`.

    Raises:
        ValueError: for numbers that do not fit together, weights out of range, or, when called, a model without
            cross-attention, whose queries form no image, or a batch of another size.

    Source: arXiv 2304.03869, sheet section 3.2.

    >>> from mezzotint.core import Flow, FlowDenoiser, uniform_t; from mezzotint.guide import Disc
    >>> from mezzotint.nn import UNet
    >>> c = [Condition({"text": torch.full((1, 2, 8), x)}, {"text": torch.zeros(1, 2, 8)}) for x in (1.0, 2.0)]
    >>> guide = SpaceTime(c[1:], [Disc(0.3, 0.5)], torch.full((1, 10), 0.5), uniform_t(Flow(), 10))
    >>> guide(FlowDenoiser(UNet(4, channels=16, context=8), Flow()))(torch.zeros(1, 4, 8, 8), torch.ones(1), c[0])
    Prediction(x0, (1, 4, 8, 8), torch.float32)
    """

    locals: Sequence[Condition | Contexts]
    regions: Regions
    weights: Float[Tensor, "*b k n"]
    times: Float[Tensor, " m"]
    w: float | int = 7.5
    mode: Mode = "convex"
    sites: str = "*cross"

    def __post_init__(self) -> None:
        k = len(self.locals)
        if self.mode not in ("convex", "boost"):
            raise ValueError(f"SpaceTime got mode={self.mode!r}; expected 'convex' or 'boost'")
        if not k or len(self.regions) != k:
            raise ValueError(f"{k} captions of objects and {len(self.regions)} regions; give one region an object")
        n = len(self.times) - 1
        if self.times.ndim != 1 or n < 1 or not bool((self.times.diff() < 0).all()):
            raise ValueError("SpaceTime's times must fall, (n + 1,): the grid of the run")
        if self.weights.ndim not in (2, 3) or self.weights.shape[-2:] != (k, n):
            raise ValueError(
                f"weights {tuple(self.weights.shape)} for {k} objects and {n} steps; expected ({k}, {n}) or one such "
                "table a sample"
            )
        if not bool(torch.isfinite(self.weights).all()):
            raise ValueError("the weights hold NaN or infinity")
        if self.mode == "convex" and not bool(((self.weights >= 0) & (self.weights <= 1)).all()):
            raise ValueError("weights of the convex mode are shares from 0 to 1; the boost mode takes any")
        if self.mode == "boost" and self.w == 1:
            raise ValueError("the boost mode needs the null half of guidance, so another w than 1; or take 'convex'")

    def __call__(self, denoiser: Denoiser) -> GuidedDenoiser:
        """The guided denoiser.

        Raises:
            ValueError: for one that has its guidance inside.
        """
        return _SpaceTimeDenoiser(denoiser, self)


def mixed(
    mode: Mode, own: Tensor, null: Tensor | None, others: Sequence[Tensor], amounts: Float[Tensor, "k #b #n 1"]
) -> Tensor:
    """One layer's output: g(c) with what the objects' captions give, by w m of each object.

    Args:
        mode: as of `SpaceTime`.
        own: g(c), (b, n, d).
        null: g_null, (b, n, d); only "boost" reads it.
        others: g(c_k), k of (b, n, d).
        amounts: w_k m_k.

    >>> one = torch.ones(1, 2, 1)
    >>> mixed("convex", one, None, [3 * one], torch.tensor([0.5, 0.0]).view(1, 1, 2, 1)).flatten().tolist()
    [2.0, 1.0]
    """
    if mode == "boost":
        assert null is not None
        out = own
        for amount, other in zip(amounts, others, strict=True):
            out = out + amount * (other - null)
        return out
    shares = amounts / amounts.sum(0).clamp_min(1)
    out = (1 - shares.sum(0)) * own
    for share, other in zip(shares, others, strict=True):
        out = out + share * other
    return out


@torch.no_grad()
def read_contexts(
    denoiser: Denoiser, x_t: Float[Tensor, "b *s"], t: Float[Tensor, " b"], c: Condition, sites: str = "*cross"
) -> Contexts:
    """What each cross-attention layer reads for a condition, found in one evaluation (x_t and t only need to fit).

    Raises:
        ValueError: for a model without cross-attention, or fewer rows of x_t than of c.
    """
    if c.batch > len(x_t):
        raise ValueError(f"a caption of {c.batch} rows for a batch of {len(x_t)}; give one for all, or one a sample")
    with none_opened(), save_contexts(denoiser, sites) as saved:  # a tap of the run does not count this evaluation
        denoiser(x_t[: c.batch].detach(), t[: c.batch], c)
    return saved


def _rows(c: Condition | Contexts) -> int:
    return c.batch if isinstance(c, Condition) else len(next(iter(c.given.values()))[0])


class _SpaceTimeDenoiser(GuidedDenoiser):
    def __init__(self, denoiser: Denoiser, guide: SpaceTime) -> None:
        super().__init__(denoiser)
        self.guide, self.plain = guide, CFG(guide.w)(denoiser)
        self.table = guide.weights if guide.weights.ndim == 3 else guide.weights[None]
        self.saved: list[Contexts] = []
        self.masks: dict[tuple[int, int], Tensor] = {}

    def pair(
        self, x_t: Float[Tensor, "b *s"], t: Float[Tensor, " b"], c: Condition | None = None
    ) -> tuple[Prediction, Prediction]:
        """See GuidedDenoiser.pair."""
        guide, b = self.guide, len(x_t)
        self._check(b)
        if not self.saved:
            self.saved = [
                c if isinstance(c, Contexts) else read_contexts(self.denoiser, x_t, t, c, guide.sites)
                for c in guide.locals
            ]
        now = self.table[:, :, self._step(t)].to(x_t)
        halves = guide.w != 1

        def mix(call: Call, own: Tensor, others: tuple[Tensor, ...]) -> Tensor:
            null, mine = own.chunk(2) if halves else (None, own)
            amounts = now.T[:, :, None, None].to(own.dtype) * self._masks(call, own)
            made = mixed(guide.mode, mine, null, others, amounts)
            return made if null is None else torch.cat([null, made])

        rows = slice(b, None) if halves else None
        with mix_contexts(self.denoiser, self.saved, mix, guide.sites, rows=rows):
            return self.plain.pair(x_t, t, c)

    def forward(self, x_t: Float[Tensor, "b *s"], t: Float[Tensor, " b"], c: Condition | None = None) -> Prediction:
        """See Denoiser.forward; w = 0 is the null half alone, which no object reaches, at half the cost."""
        return self.plain(x_t, t, c) if self.guide.w == 0 else self.pair(x_t, t, c)[0]

    def _step(self, t: Tensor) -> int:
        """j with times[j] >= t > times[j + 1]."""
        known = known_time(t)
        time = float(t[0]) if known is None else known
        times = self.guide.times
        gap = 1e-6 * float(times[0] - times[-1])  # the sampler's times may be float32
        return min(max(int((times >= time - gap).sum()) - 1, 0), len(times) - 2)

    def _check(self, b: int) -> None:
        guide = self.guide
        for what, size in (
            ("tables of weights", len(self.table)),
            *((f"rows of caption {i}", _rows(c)) for i, c in enumerate(guide.locals)),
            *((f"regions of object {i}", len(r)) for i, r in enumerate(guide.regions) if isinstance(r, Sequence)),
        ):
            if size not in (1, b):
                raise ValueError(f"{size} {what} for a batch of {b}; give one for all, or one a sample")

    def _masks(self, call: Call, own: Tensor) -> Float[Tensor, "k b n 1"]:
        if call.grid is None or math.prod(call.grid) != own.shape[1]:
            raise ValueError(
                f"the queries at {call.site!r} form no image, so regions mean nothing there; narrow `sites` to layers "
                "of a network over an image"
            )
        if call.grid not in self.masks:
            by = [list(r) if isinstance(r, Sequence) else [r] for r in self.guide.regions]
            rows = max(map(len, by))
            made = [region_masks(one, *call.grid).expand(rows, -1, -1).flatten(1) for one in by]
            self.masks[call.grid] = torch.stack(made).unsqueeze(-1)
        return self.masks[call.grid].to(own)
