"""Where the objects of a caption are likely to be: a small transformer whose head is a mixture of Gaussians."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from mezzotint.core.noise import Noise, fold
from mezzotint.nn.conditioner.encoder import TokenEncoder
from mezzotint.nn.conditioner.tokenizer import PAD, START, WordPieces, words

__all__ = ["CentreMixture", "LayoutPredictor"]

_MOST = 0.95  # of the correlation


@dataclass(frozen=True, eq=False)
class CentreMixture:
    """p(x, y) = sum_k pi_k N((x, y); u_k, S_k), a mixture for each object; places in shares of width and height.

    Args:
        logits: (*b, k), of pi.
        means: (*b, k, 2), u, x to the right and y down.
        log_scales: (*b, k, 2), log sigma.
        rho: (*b, k), correlation of x and y, within +-0.95.

    Source: arXiv 2304.03869, sheet section 3.4.
    """

    logits: Float[Tensor, "*b k"]
    means: Float[Tensor, "*b k 2"]
    log_scales: Float[Tensor, "*b k 2"]
    rho: Float[Tensor, "*b k"]

    def log_prob(self, points: Float[Tensor, "*b 2"]) -> Float[Tensor, "*b"]:
        """log p of a place, of each mixture.

        >>> flat = torch.zeros(1, 2)
        >>> round(float(CentreMixture(flat[:, :1], flat[:, None], flat[:, None], flat[:, 0:1]).log_prob(flat)), 4)
        -1.8379
        """
        z = (points[..., None, :] - self.means) / self.log_scales.exp()
        x, y = z.unbind(-1)
        rest = 1 - self.rho.square()
        inside = -0.5 * (x.square() + y.square() - 2 * self.rho * x * y) / rest
        scale = math.log(2 * math.pi) + self.log_scales.sum(-1) + 0.5 * rest.log()
        return (self.logits.log_softmax(-1) + inside - scale).logsumexp(-1)

    def flat(self) -> CentreMixture:
        """The same mixtures along one batch dimension."""
        k = self.logits.shape[-1]
        return CentreMixture(
            self.logits.reshape(-1, k), self.means.reshape(-1, k, 2), self.log_scales.reshape(-1, k, 2),
            self.rho.reshape(-1, k),
        )  # fmt: skip

    def centres(self, noise: Noise | None = None) -> Float[Tensor, "b 2"]:
        """The mean of one component of each mixture, inside the image.

        Args:
            noise: one seed a mixture: the component is drawn by its weight (the paper's way); None takes the likeliest.
        """
        if noise is None:
            k = self.logits.argmax(-1)
        else:
            u = noise.uniform("component", 0, (1,)).to(self.logits)
            k = (self.logits.softmax(-1).cumsum(-1) < u).sum(-1).clamp_max(self.logits.shape[-1] - 1)
        return self.means.gather(-2, k[..., None, None].expand(*k.shape, 1, 2)).squeeze(-2).clamp(0, 1)


class LayoutPredictor(nn.Module):
    """Caption and objects to a mixture of centres for each object.

    h = TokenEncoder(tokens + mark [objects]);  6 numbers a component from the first token of each object's last word

    Args:
        vocab: word pieces, as of `train_vocabulary`.
        length: most tokens of a caption.
        width, depth, heads: of the transformer.
        components: of the mixture.

    Raises:
        ValueError: sizes below 1, or a vocabulary that is none.

    Source: arXiv 2304.03869, sheet section 3.4, whose encoder is a fine-tuned RoBERTa with 5 components; an encoder of
    its own, 3 components and the object's last word as its head are our choice (sheet section 7).

    >>> from mezzotint.nn.conditioner import train_vocabulary
    >>> net = LayoutPredictor(train_vocabulary(["a cat left of a dog"], size=80, whole=1))
    >>> [phrase for phrase, centre in net.places("a cat left of a dog", ["a cat", "a dog"])]
    ['a cat', 'a dog']
    """

    def __init__(
        self, vocab: Sequence[str], length: int = 32, width: int = 64, depth: int = 2, heads: int = 2,
        components: int = 3,
    ) -> None:  # fmt: skip
        super().__init__()
        if components < 1:
            raise ValueError(f"components must be at least 1, got {components}")
        self.config: dict[str, Any] = {
            "vocab": list(vocab), "length": length, "width": width, "depth": depth, "heads": heads,
            "components": components,
        }  # fmt: skip
        self.pieces = WordPieces(vocab)
        self.encoder = TokenEncoder(len(self.pieces), length, width, depth, heads)
        self.mark = nn.Parameter(0.02 * torch.randn(width))
        last = nn.Linear(width, 6 * components)
        self.head = nn.Sequential(nn.Linear(width, width), nn.GELU(), last)
        with torch.no_grad():  # start about the middle, a quarter of the side wide
            start = torch.zeros(components, 6)
            start[:, 3:5] = math.log(0.25)
            last.bias.copy_(start.flatten())

    def forward(
        self, tokens: Int[Tensor, "b n"], mask: Bool[Tensor, "b n"], objects: Int[Tensor, "b k"]
    ) -> CentreMixture:
        """The mixtures of each caption's objects, (b, k).

        Args:
            tokens, mask: from `prepare`; objects: the place of each object's token.
        """
        marked = torch.zeros_like(mask).scatter(1, objects, True)
        h = self.encoder(tokens, mask, marked[..., None] * self.mark)
        h = h.gather(1, objects[..., None].expand(-1, -1, h.shape[-1]))
        raw = self.head(h).unflatten(-1, (-1, 6))
        return CentreMixture(raw[..., 0], raw[..., 1:3] + 0.5, raw[..., 3:5].clamp(-6, 2), _MOST * raw[..., 5].tanh())

    def prepare(self, captions: Sequence[str], phrases: Sequence[Sequence[str]]) -> tuple[Tensor, Tensor, Tensor]:
        """Tokens (b, n), their mask and the place of each object's token (b, k).

        Raises:
            ValueError: for numbers of objects that differ, a phrase that is not in its caption, or a caption too long.
        """
        counts = {len(some) for some in phrases}
        if len(captions) != len(phrases) or len(counts) != 1 or not captions:
            raise ValueError(
                f"{len(captions)} captions and phrases of {sorted(counts)} objects; give as many objects for each, "
                "captions of other numbers apart"
            )
        most = self.config["length"]
        tokens = torch.full((len(captions), most), PAD)
        places = torch.zeros(len(captions), counts.pop(), dtype=torch.long)
        for i, (caption, some) in enumerate(zip(captions, phrases, strict=True)):
            row = [START, *self.pieces.encode(caption)]
            if len(row) > most:
                raise ValueError(f"{caption!r} has {len(row)} tokens; this predictor reads {most}: shorten it")
            tokens[i, : len(row)] = torch.tensor(row)
            starts = self._starts(caption)
            taken: set[int] = set()
            for j, phrase in enumerate(some):
                at = _find(caption, phrase, taken)
                taken.add(at)
                places[i, j] = starts[at + len(words(phrase)) - 1]
        longest = int((tokens != PAD).sum(1).max())
        return tokens[:, :longest], tokens[:, :longest] != PAD, places

    @torch.no_grad()
    def places(
        self, caption: str, phrases: Sequence[str], seed: int | None = None
    ) -> list[tuple[str, tuple[float, float]]]:
        """Where the objects of a caption go, as `mezzotint.edit.SpaceTimeAttention` takes it.

        Args:
            caption: the whole.
            phrases: its objects, each in the caption.
            seed: draws the component of each mixture; None takes the likeliest.

        Raises:
            ValueError: see `prepare`.
        """
        if not phrases:
            return []
        tokens, mask, objects = (x.to(self.mark.device) for x in self.prepare([caption], [list(phrases)]))
        noise = None if seed is None else Noise([fold(seed, "object", k) for k in range(len(phrases))])
        made = self(tokens, mask, objects).flat().centres(noise).tolist()
        return [(phrase, (x, y)) for phrase, (x, y) in zip(phrases, made, strict=True)]

    def _starts(self, caption: str) -> list[int]:
        """The index of each word's first token, behind the start token."""
        starts, at = [], 1
        for word in words(caption):
            starts.append(at)
            at += len(self.pieces.encode(word))
        return starts


def _find(caption: str, phrase: str, taken: set[int]) -> int:
    """The first place of a phrase among the caption's words that no other phrase has."""
    whole, part = words(caption), words(phrase)
    for at in range(len(whole) - len(part) + 1):
        if part and whole[at : at + len(part)] == part and at not in taken:
            return at
    raise ValueError(f"{phrase!r} is not in the caption {caption!r}, or not so often; name words of it")
