"""What the demonstration of FilterPrompt draws, trains and measures: icons filled with textures of two colours."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mezzotint.attention import DecoupledAttention, ImagePrompted
from mezzotint.core import Condition, Cosine, EncodedDenoiser, Noise, VDenoiser, fold
from mezzotint.data import indices
from mezzotint.edit import ConvTokens, FilterPrompt, ImageTokens, Picture
from mezzotint.edit.filters import parse
from mezzotint.latent import Identity
from mezzotint.metric import leaks, load_features
from mezzotint.metric.leak import lab
from mezzotint.model import Model
from mezzotint.nn import UNet
from mezzotint.objective import Batch, Denoise
from mezzotint.papers.trained import trained

__all__ = ["ARMS", "CHAIN", "Scenes", "appearance_of", "filled", "measured", "scenes", "structure_of", "train_prompted"]

SIDE, ICONS, TEXTURES, PERIOD = 16, 12, 3, 6
CHAIN = "desaturate|invert|contrast:1.5"
ARMS: dict[str, tuple[str | None, str | None]] = {
    "none": (None, None), "grey": ("desaturate", None), "chain": (CHAIN, None), "blur": (None, "blur:3"),
    "rank": (None, "rank:3,0.5"), "both": ("desaturate", "blur:3"),
}  # fmt: skip
_POOL, _FINE, _TEXT, _FEATURES = 4096, 3, 8, 32


@dataclass(frozen=True)
class Scenes:
    """Scenes on white.

    Args:
        icon, texture: numbers.
        cover: of the icon, in [0, 1].
        first, second: colours of the texture, in [-1, 0.5].
        flat: colour of the icon in the structure picture.
        phase: of the texture in the target and in the appearance picture, shares of its period.
        grain: uniform numbers for the noise texture, in both.
    """

    icon: Int[Tensor, " n"]
    texture: Int[Tensor, " n"]
    cover: Float[Tensor, "n 1 16 16"]
    first: Float[Tensor, "n 3"]
    second: Float[Tensor, "n 3"]
    flat: Float[Tensor, "n 3"]
    phase: Float[Tensor, "n 2 2"]
    grain: Float[Tensor, "n 2 8 8"]


def scenes(seed: int, count: int, split: str, planted: float = 0.0, conflict: bool = False) -> Scenes:
    """Random scenes.

    Args:
        seed, split: say which.
        count: how many.
        planted: the share whose structure picture has the mean colour of the texture: the leak.
        conflict: the structure picture's colour is the farthest of four from that mean.
    """
    noise = Noise([fold(seed, split, i) for i in range(count)])
    u = noise.uniform("scene", 0, (40,))
    icon, texture = (u[:, 0] * ICONS).long(), (u[:, 1] * TEXTURES).long()
    colours = 1.5 * u[:, 2:29].unflatten(1, (9, 3)) - 1
    first = colours[:, 0]
    second = _farthest(colours[:, 1:5], first)
    share = torch.tensor([0.5, 0.25, 0.5])[texture][:, None]
    mean = (1 - share) * first + share * second
    flat = _farthest(colours[:, 5:9], mean) if conflict else colours[:, 5]
    flat = torch.where(u[:, 29:30] < planted, mean, flat)
    cover = _cover(icon, 8 + 3 * (u[:, 30:32] - 0.5), 5 + 1.5 * u[:, 32])
    phase, grain = u[:, 33:37].unflatten(1, (2, 2)), noise.uniform("grain", 0, (2, SIDE // 2, SIDE // 2))
    return Scenes(icon, texture, cover, first, second, flat, phase, grain)


def _farthest(choices: Float[Tensor, "n k 3"], away: Float[Tensor, "n 3"]) -> Float[Tensor, "n 3"]:
    best = (choices - away[:, None]).norm(dim=2).argmax(1)
    return choices[torch.arange(len(choices)), best]


def _cover(icon: Tensor, centre: Tensor, radius: Tensor) -> Float[Tensor, "n 1 16 16"]:
    """Covered shares of pixels."""
    place = (torch.arange(SIDE * _FINE) + 0.5) / _FINE
    out = torch.zeros(len(icon), 1, SIDE, SIDE)
    for k in range(ICONS):
        rows = (icon == k).nonzero()[:, 0]
        u = ((place - centre[rows, :1]) / radius[rows, None])[:, None, :]
        v = ((place - centre[rows, 1:]) / radius[rows, None])[:, :, None]
        inside = _inside(k, u, v).float()[:, None]
        out[rows] = torch.nn.functional.avg_pool2d(inside, _FINE)
    return out


def _inside(k: int, u: Tensor, v: Tensor) -> Tensor:
    a, b, disc = u.abs(), v.abs(), u * u + v * v
    box = torch.maximum(a, b)
    x, y = 1.2 * u, 0.2 - 1.2 * v
    shapes = (
        lambda: disc <= 0.85, lambda: box <= 0.75, lambda: (v <= 0.75) & (a <= (v + 0.9) * 0.57),
        lambda: (disc <= 1) & (disc >= 0.3), lambda: (torch.minimum(a, b) <= 0.3) & (box <= 0.95),
        lambda: (torch.minimum((u + v).abs(), (u - v).abs()) <= 0.42) & (box <= 0.9), lambda: a + b <= 1.05,
        lambda: (x * x + y * y - 0.8) ** 3 <= x * x * y**3, lambda: (disc <= 1) & (v <= 0.15),
        lambda: (disc <= 1) & ((u - 0.5) ** 2 + v * v >= 0.55), lambda: (box <= 0.85) & ((u <= -0.2) | (v >= 0.2)),
        lambda: (box <= 0.85) & ((v <= -0.2) | (a <= 0.3)),
    )  # fmt: skip
    return shapes[k]()


def _fill(f: Scenes, which: int) -> Float[Tensor, "n 3 16 16"]:
    """The texture over all of a picture: stripes and dots of one period, or noise in blocks of 2 x 2."""
    place = torch.arange(SIDE)
    shift = (PERIOD * f.phase[:, which]).long()
    i, j = ((place[None] + shift[:, k : k + 1]) % PERIOD < PERIOD // 2 for k in (0, 1))
    stripes, dots = j[:, None, :].expand(-1, SIDE, -1), i[:, :, None] & j[:, None, :]
    grain = (f.grain[:, which] < 0.5).repeat_interleave(2, 1).repeat_interleave(2, 2)
    kinds = torch.stack([stripes, dots, grain], 1)
    on = kinds[torch.arange(len(kinds)), f.texture][:, None].float()
    return f.first[:, :, None, None] * (1 - on) + f.second[:, :, None, None] * on


def filled(f: Scenes) -> Float[Tensor, "n 3 16 16"]:
    """The target: the icon filled with the texture."""
    return 1 + f.cover * (_fill(f, 0) - 1)


def appearance_of(f: Scenes) -> Float[Tensor, "n 3 16 16"]:
    """A patch of the same texture, elsewhere in its period."""
    return _fill(f, 1)


def structure_of(f: Scenes) -> Float[Tensor, "n 3 16 16"]:
    """The icon in its flat colour."""
    return 1 + f.cover * (f.flat[:, :, None, None] - 1)


def train_prompted(seed: int, seconds: float, planted: float, augment: float = 0.0) -> FilterPrompt:
    """A UNet with the structure picture beside its input and the appearance's tokens in its cross-attention.

    Both conditions are dropped in 10 % of the samples, independently; `augment` is the share of structure pictures that
    are filtered in training, half by desaturation and half by the chain. Nets of one seed start alike and see the same
    scenes but for the planted colour.
    """
    f = scenes(seed, _POOL, "train", planted)
    x, s, a = filled(f), structure_of(f), appearance_of(f)
    grey, chain = parse("desaturate")(s), parse(CHAIN)(s)

    def batch(step: int) -> Batch:
        rows = indices(seed, step, 32, _POOL)
        u = Noise([fold(seed, "filter", step, i) for i in range(len(rows))]).uniform("filter", 0, (2,))
        pick = u[:, 0].view(-1, 1, 1, 1)
        shown = torch.where(pick < augment / 2, grey[rows], torch.where(pick < augment, chain[rows], s[rows]))
        shown = torch.where(u[:, 1].view(-1, 1, 1, 1) < 0.1, 0.0, shown)
        c = {"appearance": a[rows], "concat": shown, "text": torch.zeros(len(rows), 1, _TEXT)}
        return Batch(x[rows], Condition(c, {"appearance": torch.zeros_like(a[:1])}))

    def build() -> EncodedDenoiser:
        net = UNet(3, channels=32, mult=(1,), blocks=1, attention=(1,), context=_TEXT, concat=3, patch=2)
        attention = DecoupledAttention(net, _FEATURES)
        return EncodedDenoiser(
            ImagePrompted(VDenoiser(net, Cosine()), attention), ImageTokens(ConvTokens(_FEATURES), attention)
        )

    d = trained(build, Denoise("v", drop=0.1), batch, seconds=seconds, seed=seed, lr=2e-3, purpose="prompted")
    prompted, tokens = d.denoiser, d.conditioner
    assert isinstance(prompted, ImagePrompted) and isinstance(tokens, ImageTokens)
    return FilterPrompt(Model(prompted.denoiser, Identity(3), size=(SIDE, SIDE)), Picture(), tokens)  # type: ignore[arg-type]


def measured(y: Float[Tensor, "n 3 16 16"], f: Scenes) -> dict[str, float]:
    """Means over the pairs: leaks on the icon, its IoU, and the distance of its mean colour to the appearance's.

    Args:
        y: results, in [-1, 1].
        f: the scenes whose prompts they got.
    """
    there = (f.cover > 0.5).float()
    made = leaks(y, structure_of(f), appearance_of(f), where=there, chance="batch").means()
    seen, true = ((1 - x).amax(1, keepdim=True) > 0.4 for x in (y, filled(f)))
    both, either = (op(seen, true).sum((1, 2, 3)) for op in (torch.logical_and, torch.logical_or))
    mean = (lab(y) * there).sum((2, 3)) / there.sum((2, 3))
    away = (mean - lab(appearance_of(f)).mean((2, 3))).norm(dim=1)
    texture = float((read_texture(y, there) == f.texture).double().mean())
    return made | {"IoU": float((both / either).mean()), "palette error": float(away.mean()), "texture": texture}


def read_texture(y: Float[Tensor, "n 3 16 16"], there: Float[Tensor, "n 1 16 16"]) -> Int[Tensor, " n"]:
    """The texture that a picture shows where an icon is: stripes or dots, in any phase, if two colours in that pattern
    explain half the variance of its colours there, else noise."""
    place = torch.arange(SIDE)
    shifts = torch.arange(PERIOD)[:, None]
    on = (place + shifts) % PERIOD < PERIOD // 2
    stripes = on[:, None, :].expand(-1, SIDE, -1)
    dots = (on[:, None, :, None] & on[None, :, None, :]).flatten(0, 1)
    w = there[:, 0].flatten(1)
    x = y.flatten(2) - (y.flatten(2) * w[:, None]).sum(2, keepdim=True) / w.sum(1)[:, None, None]
    total = (x.square() * w[:, None]).sum((1, 2)).clamp_min(1e-9)
    best = []
    for patterns in (stripes, dots):
        p = patterns.flatten(1).float()
        one = w @ p.T  # weight on the pattern, (n, phases)
        rest = (w.sum(1, keepdim=True) - one).clamp_min(1e-6)
        sums = torch.einsum("ncs,ns,ps->npc", x, w, p).square().sum(2)  # of x, which has mean 0
        best.append((sums / one.clamp_min(1e-6) + sums / rest).amax(1) / total)
    shares = torch.stack(best, 1)
    return torch.where(shares.amax(1) > 0.5, shares.argmax(1), 2)


def features(x: Float[Tensor, "n 3 16 16"]) -> Float[Tensor, "n d"]:
    """Of the classifier of emoji, for Frechet distances."""
    with torch.no_grad():
        return load_features().features(x)
