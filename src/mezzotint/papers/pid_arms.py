"""Scenes whose words are planted: synonyms, an exclusive or, a bias; what a model of them is told, and the truth."""

from __future__ import annotations

from itertools import product

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from mezzotint.attention import tap, token_maps
from mezzotint.core import VP, Condition, Noise, VDenoiser, fold
from mezzotint.data import indices
from mezzotint.nn import UNet
from mezzotint.objective import Batch, Denoise
from mezzotint.papers.trained import trained

__all__ = ["SIDE", "WORDS", "attention_maps", "drawn_words", "overlap", "told", "train_words", "truth", "words_of"]

SIDE, _START, _MOST = 16, 15, 10**6
# A word has two values, or is not told. "disc" and "circle" always agree; a border is drawn iff p xor q; "hat" agrees
# with "red" as often as planted; the rest is independent.
WORDS = ("disc", "circle", "red", "hat", "left", "p", "q")
_DISC, _CIRCLE, _RED, _HAT, _LEFT, _P, _Q = range(7)


class _Net(nn.Module):
    """A UNet that is told words: a token each, and one that is always there."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(_START + 1, 32)
        self.unet = UNet(3, channels=32, mult=(1, 2), blocks=1, attention=(1, 2), head_dim=16, context=32, patch=2)

    def forward(self, x: Tensor, time: Tensor, c: Condition) -> Tensor:
        tokens = c["tokens"]
        return self.unet(x, time, {"text": self.words(tokens), "text_mask": tokens > 0})


def words_of(seed: int, count: int, bias: float, split: str) -> Bool[Tensor, "count 7"]:
    """Words of scenes: fair bits, but for the synonym and the bias, whose share is met by count."""
    u = Noise([fold(seed, split, i) for i in range(count)]).uniform("words", 0, (7,), dtype=torch.float64)
    w = u < 0.5
    w[:, _CIRCLE] = w[:, _DISC]
    w[:, _HAT] = w[:, _RED] ^ ((torch.arange(count) + u[:, _HAT]) / count >= bias)
    return w


def drawn_words(
    words: Bool[Tensor, "b 7"], seed: int, split: str
) -> tuple[Float[Tensor, "b 3 16 16"], dict[str, Tensor]]:
    """Scenes in [-1, 1], and where things are: "object", "border", (b, 16, 16) bool."""
    u = Noise([fold(seed, split, i) for i in range(len(words))]).uniform("scene", 0, (3,))
    column = (5 + 6 * (~words[:, _LEFT]) + 2 * (u[:, 0] - 0.5))[:, None, None]
    row, radius = (8 + 2 * u[:, 1])[:, None, None], (2.5 + u[:, 2])[:, None, None]
    place = torch.arange(SIDE, dtype=u.dtype)
    dx, dy = place - column, place[:, None] - row
    far = torch.where(words[:, _DISC, None, None], (dx**2 + dy**2).sqrt(), torch.maximum(dx.abs(), dy.abs()))
    inside = ((radius - far) / 0.3).sigmoid()[:, None]
    x = torch.full((len(words), 3, SIDE, SIDE), -0.5)
    red, blue = (torch.tensor(v).view(1, 3, 1, 1) for v in ([0.8, -0.7, -0.7], [-0.7, -0.5, 0.8]))
    x = x + inside * (torch.where(words[:, _RED, None, None, None], red, blue) - x)
    above = (dy + radius + 1.5).abs() < 1
    brim = (above & (dx.abs() < radius) & words[:, _HAT, None, None])[:, None]
    x = torch.where(brim, torch.tensor([0.9, 0.8, -0.2]).view(1, 3, 1, 1), x)
    edge = torch.ones(SIDE, SIDE, dtype=torch.bool)
    edge[1:-1, 1:-1] = False
    drawn = edge & (words[:, _P] ^ words[:, _Q])[:, None, None]
    x = torch.where(drawn[:, None], 0.9, x)
    return x, {"object": inside[:, 0] > 0.5, "border": edge.expand(len(words), -1, -1)}


def told(words: Bool[Tensor, "b 7"], keep: Bool[Tensor, "b 7"]) -> Condition:
    """The condition that says the words of `keep`, whatever their number."""
    ids = (1 + 2 * torch.arange(7) + words.long()) * keep
    return Condition({"tokens": torch.cat([torch.full((len(words), 1), _START), ids], 1)})


def train_words(bias: float, seconds: float, seed: int, count: int = 4096) -> VDenoiser:
    """A small UNet on scenes, told any subset of their words, for processor seconds."""
    words = words_of(seed, count, bias, "train")
    x, _ = drawn_words(words, seed, "train")

    def batch(step: int) -> Batch:
        rows = indices(seed, step, 32, count)
        u = torch.rand(32, 8, generator=torch.Generator().manual_seed(fold(seed, "keep", step) % 2**63))
        return Batch(x[rows], told(words[rows], u[:, :7] < u[:, 7:]))  # as many words as chance has it

    build = lambda: VDenoiser(_Net(), VP())  # noqa: E731
    return trained(build, Denoise("v", drop=0.0), batch, seconds=seconds, seed=seed, lr=1e-3)


@torch.no_grad()
def attention_maps(d: VDenoiser, x: Tensor, words: Tensor, keep: Tensor, seed: int) -> Float[Tensor, "b 7 16 16"]:
    """The baseline: where each word is looked for (cross-attention of all layers, mean over ten times)."""
    noise = Noise([fold(seed, "attention", i) for i in range(len(x))])
    with tap(d.net, "*cross") as record:
        for k in range(10):
            t = torch.full((len(x),), (k + 0.5) / 10)
            a, s = (f(t).to(x).view(-1, 1, 1, 1) for f in (d.schedule.alpha, d.schedule.sigma))
            d(a * x + s * noise("eps", k, tuple(x.shape[1:])), t, told(words, keep))
    return token_maps(record, (SIDE, SIDE))[:, 1:]


def overlap(maps: Tensor, masks: Tensor) -> float:
    """Mean IoU of a mask with as many of the map's largest pixels."""
    found = []
    for m, mask in zip(maps.flatten(1), masks.flatten(1), strict=True):
        top = torch.zeros_like(mask)
        top[m.topk(int(mask.sum())).indices] = True
        found.append(float((top & mask).sum() / (top | mask).sum()))
    return sum(found) / len(found)


def truth(one: int, two: int, bias: float) -> tuple[float, float, float, float]:
    """r, u1, u2, s of two words about shape, colour, hat, place and border, the minimum factor by factor, in nats."""
    table: dict[tuple[int, ...], float] = {}
    for disc, red, agrees, left, p, q in product((0, 1), repeat=6):
        hat = red if agrees else 1 - red
        table[disc, disc, red, hat, left, p, q] = (bias if agrees else 1 - bias) / 32
    sums = torch.zeros(4, dtype=torch.float64)
    for factor in (
        lambda w: w[_DISC],
        lambda w: w[_RED],
        lambda w: w[_HAT],
        lambda w: w[_LEFT],
        lambda w: w[_P] ^ w[_Q],
    ):
        i1, i2, i12 = (_shared(table, told_of, factor) for told_of in ((one,), (two,), (one, two)))
        r = min(i1, i2)
        sums += torch.tensor([r, i1 - r, i2 - r, i12 - max(i1, i2)], dtype=torch.float64)
    r, u1, u2, s = sums.tolist()
    return r, u1, u2, s


def _shared(table: dict[tuple[int, ...], float], said: tuple[int, ...], factor) -> float:
    joint = torch.zeros(2 ** len(said), 2, dtype=torch.float64)
    for words, p in table.items():
        joint[int("".join(str(words[k]) for k in said), 2), factor(words)] += p
    apart = joint.sum(1, keepdim=True) * joint.sum(0)
    return float(torch.where(joint > 0, joint * (joint / apart.clamp_min(1e-300)).clamp_min(1e-300).log(), 0.0).sum())
