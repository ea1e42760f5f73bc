"""What a picture took from each of its two prompts: colours, edges, and how much of either came from the wrong one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

__all__ = [
    "Chance",
    "Leaks",
    "colour_distance",
    "colour_signature",
    "edge_signature",
    "edge_similarity",
    "lab",
    "leaks",
]

Chance = Literal["prompts", "batch"]

_WHITE = (0.95047, 1.0, 1.08883)  # D65
_XYZ = (
    (0.4124564, 0.3575761, 0.1804375),
    (0.2126729, 0.7151522, 0.0721750),
    (0.0193339, 0.1191920, 0.9503041),
)
_SAME = 1e-6


def lab(x: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 3 h w"]:
    """CIE L*a*b* (D65) of images in [-1, 1], read as sRGB: L in [0, 100], a step of about 2 is just seen.

    >>> [abs(round(v)) for v in lab(torch.ones(1, 3, 1, 1)).flatten().tolist()]
    [100, 0, 0]
    """
    v = ((x + 1) / 2).clamp(0, 1)
    linear = torch.where(v <= 0.04045, v / 12.92, ((v + 0.055) / 1.055) ** 2.4)
    xyz = torch.einsum("ij,bjhw->bihw", v.new_tensor(_XYZ), linear) / v.new_tensor(_WHITE).view(3, 1, 1)
    d = 6 / 29
    f = torch.where(xyz > d**3, xyz.clamp_min(d**3) ** (1 / 3), xyz / (3 * d * d) + 4 / 29)
    return torch.stack([116 * f[:, 1] - 16, 500 * (f[:, 0] - f[:, 1]), 200 * (f[:, 1] - f[:, 2])], 1)


def colour_signature(
    x: Float[Tensor, "b 3 h w"],
    where: Float[Tensor, "k 1 h w"] | None = None,
    *,
    chroma: bool = False,
    levels: int = 256,
) -> Float[Tensor, "b d"]:
    """The colours of a picture without their places: vectors whose distance is the sliced Wasserstein distance.

        |s_x - s_y|^2 = d mean_theta W_2^2(theta . Lab_x, theta . Lab_y)

    theta runs over 16 fixed directions (8 half-circle angles for a and b) whose second moments are those of the
    sphere, so that a shift of all colours by delta is at the distance |delta| exactly. W_2 is over quantiles.

    Args:
        x: in [-1, 1].
        where: weights of the pixels, >= 0, one for all pictures or one each; None for all alike.
        chroma: a and b alone, without L.
        levels: of quantiles; a multiple of the number of pixels makes it exact.

    Raises:
        ValueError: for weights of another size, below 0, or of which none is above it.

    Source: arXiv 2404.13263, sheet section 3.6, our measure.

    >>> grey = torch.zeros(1, 3, 4, 4)
    >>> bool((colour_signature(grey) - colour_signature(grey.flip(2))).norm() == 0)
    True
    """
    if levels < 1:
        raise ValueError(f"levels={levels}; expected at least 1")
    v = lab(x).flatten(2)
    v = v[:, 1:] if chroma else v
    directions = _directions(v.shape[1]).to(v)
    b, n, k = len(v), v.shape[2], len(directions)
    along, order = torch.einsum("ki,bin->bkn", directions, v).sort(-1)
    at = (torch.arange(levels, dtype=torch.float64, device=v.device) + 0.5) / levels
    if where is None:
        index = (at * n).long().clamp(max=n - 1).expand(b, k, levels)
    else:
        index = _weighted(where, x, order, at)
    return (along.gather(-1, index) * (v.shape[1] / (k * levels)) ** 0.5).flatten(1)


def colour_distance(
    a: Float[Tensor, "b 3 h w"], b: Float[Tensor, "b 3 i j"], *, chroma: bool = False
) -> Float[Tensor, " b"]:
    """Sliced Wasserstein distance of the colours of pairs of pictures, in units of Lab; sizes may differ.

    >>> x = torch.rand(2, 3, 4, 4) * 2 - 1
    >>> colour_distance(x, x.rot90(1, (2, 3))).tolist()
    [0.0, 0.0]
    """
    return (colour_signature(a, chroma=chroma) - colour_signature(b, chroma=chroma)).norm(dim=1)


def edge_signature(x: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b d"]:
    """The edges of a picture without their strength: unit vectors whose inner product is the edges' correlation.

        e = |Sobel(luma x)|,   s = (e - mean e) / |e - mean e|,   0 where there are no edges

    Inverting a picture, or a change of its contrast without clipping, leaves it as it is.

    Source: arXiv 2404.13263, sheet section 3.6, our measure.

    >>> float(edge_signature(torch.zeros(1, 3, 4, 4)).norm())
    0.0
    """
    luma = torch.einsum("i,bihw->bhw", x.new_tensor([0.299, 0.587, 0.114]), x).unsqueeze(1)
    step = x.new_tensor([[-1.0, 0.0, 1.0], [-2.0, 0.0, 2.0], [-1.0, 0.0, 1.0]]) / 8
    gradient = F.conv2d(F.pad(luma, (1, 1, 1, 1), mode="reflect"), torch.stack([step, step.T]).unsqueeze(1))
    edges = gradient.square().sum(1).sqrt().flatten(1)
    edges = edges - edges.mean(1, keepdim=True)
    length = edges.norm(dim=1, keepdim=True)
    return torch.where(length <= _SAME, 0.0, edges / length.clamp_min(_SAME))  # NaN stays NaN


def edge_similarity(a: Float[Tensor, "b 3 h w"], b: Float[Tensor, "b 3 i j"]) -> Float[Tensor, " b"]:
    """Correlation of the edges of pairs of pictures, -1 to 1; the second is brought to the size of the first.

    >>> x = torch.rand(2, 3, 6, 6) * 2 - 1
    >>> [round(v, 4) for v in edge_similarity(x, -x).tolist()]
    [1.0, 1.0]
    """
    return (edge_signature(a) * edge_signature(_sized(b, a))).sum(1)


@dataclass(frozen=True)
class Leaks:
    """What pictures took from their prompts, one figure a picture.

    Args:
        colour_error: distance of its colours to those of the appearance, in units of Lab; less is better.
        colour_leak: 1 where it has the structure picture's colours, 0 where they are no closer than chance.
        chroma_leak: the same without lightness.
        structure: correlation of its edges with those of the structure picture; more is better.
        shape_leak: 1 where it has the appearance picture's edges, 0 where they are no more alike than chance.
    """

    colour_error: Float[Tensor, " b"]
    colour_leak: Float[Tensor, " b"]
    chroma_leak: Float[Tensor, " b"]
    structure: Float[Tensor, " b"]
    shape_leak: Float[Tensor, " b"]

    def means(self) -> dict[str, float]:
        """The mean of each figure over the pictures for which it is known (a leak is none where prompts are alike)."""
        return {name: float(value.nanmean()) for name, value in vars(self).items()}


def leaks(
    y: Float[Tensor, "b 3 h w"],
    structure: Float[Tensor, "b 3 i j"],
    appearance: Float[Tensor, "b 3 k l"],
    *,
    where: Float[Tensor, "m 1 h w"] | None = None,
    chance: Chance = "prompts",
) -> Leaks:
    """What pictures took from the structure and from the appearance prompt, and what leaked from the wrong one.

        colour leak = 1 - d(y, I_s) / d_chance,           d: `colour_distance`
        shape leak = (r(y, I_a) - r_chance) / (1 - r_chance),   r: `edge_similarity`

    By chance "prompts" a picture has the colours of I_a itself, d_chance = d(I_a, I_s), and the edges of I_s itself,
    r_chance = r(I_s, I_a): a picture that is all that was wanted leaks 0. By chance "batch" it meets any of the
    batch's prompts, d_chance = mean_j d(y, I_s^j) and r_chance = mean_j r(y, I_a^j): what owes nothing to its own
    prompt leaks 0 on average.

    Args:
        y: results, in [-1, 1].
        structure, appearance: the unfiltered prompts of each.
        where: the pixels of y whose colours count, as of `colour_signature`; those of structure prompts too where they
            are of the same size. Appearances count whole.
        chance: what is no leak; "batch" needs two rows at least.

    Raises:
        ValueError: for another chance, or a batch of one with "batch".

    Source: arXiv 2404.13263, sheet section 3.6; all of it is our choice.

    >>> s, a = torch.rand(2, 3, 6, 6) * 2 - 1, torch.rand(2, 3, 6, 6) * 2 - 1
    >>> leaks(a, s, a).colour_leak.tolist(), leaks(s, s, a).colour_leak.tolist()
    ([0.0, 0.0], [1.0, 1.0])
    """
    if chance not in ("prompts", "batch"):
        raise ValueError(f"chance={chance!r}; expected 'prompts' or 'batch'")
    if chance == "batch" and len(y) < 2:
        raise ValueError("chance over a batch needs two results at least; take chance='prompts' for one")
    there = where if structure.shape[2:] == y.shape[2:] else None
    found = {}
    for chroma in (False, True):
        mine = colour_signature(y, where, chroma=chroma)
        wrong, right = (
            colour_signature(p, w, chroma=chroma) for p, w in ((structure, there), (appearance, None))
        )  # fmt: skip
        level = (right - wrong).norm(dim=1) if chance == "prompts" else torch.cdist(mine, wrong).mean(1)
        near = (mine - wrong).norm(dim=1)
        found[chroma] = torch.where(level > _SAME, 1 - near / level.clamp_min(_SAME), torch.nan)
        if not chroma:
            error = (mine - right).norm(dim=1)
    mine, wrong, right = (edge_signature(_sized(p, y)) for p in (y, appearance, structure))
    level = (right * wrong).sum(1) if chance == "prompts" else (mine @ wrong.T).mean(1)
    near = (mine * wrong).sum(1)
    shape = torch.where(1 - level > _SAME, (near - level) / (1 - level).clamp_min(_SAME), torch.nan)
    return Leaks(error, found[False], found[True], (mine * right).sum(1), shape)


def _directions(d: int) -> Float[Tensor, "k d"]:
    """Lines through the origin with sum theta theta^T = k / d: half-circle angles, or the axes of the icosahedron and
    of the dodecahedron."""
    if d == 2:
        angle = torch.arange(8, dtype=torch.float64) * torch.pi / 8
        return torch.stack([angle.cos(), angle.sin()], 1)
    g = (1 + 5**0.5) / 2
    axes = [(0, s, g) for s in (1, -1)] + [(s, g, 0) for s in (1, -1)] + [(g, 0, s) for s in (1, -1)]
    axes += [(s, t, 1) for s in (1, -1) for t in (1, -1)]
    axes += [(0, s / g, g) for s in (1, -1)] + [(s / g, g, 0) for s in (1, -1)] + [(g, 0, s / g) for s in (1, -1)]
    return F.normalize(torch.tensor(axes, dtype=torch.float64), dim=1)


def _weighted(where: Tensor, x: Tensor, order: Tensor, at: Tensor) -> Tensor:
    if where.shape[-2:] != x.shape[-2:] or len(where) not in (1, len(x)):
        raise ValueError(
            f"weights of {tuple(where.shape)} for pictures of {tuple(x.shape)}; expected (b or 1, 1, h, w)"
        )
    w = where.double().flatten(1)
    if not bool((w >= 0).all() & (w.sum(1) > 0).all()):
        raise ValueError("weights of pixels below 0, or none above it in a picture; give where its colours count")
    sums = w.expand(len(x), -1)[:, None].expand(order.shape).gather(-1, order).cumsum(-1)
    goal = at * sums[..., -1:]
    return torch.searchsorted(sums.contiguous(), goal.contiguous()).clamp(max=order.shape[-1] - 1)


def _sized(x: Tensor, like: Tensor) -> Tensor:
    if x.shape[2:] == like.shape[2:]:
        return x
    return F.interpolate(x, like.shape[2:], mode="bilinear", antialias=True, align_corners=False)
