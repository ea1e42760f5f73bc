"""Did the picture change the way the words did: directional similarity, on any pair of encoders into one space."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import normalize

from mezzotint.metric.card import MetricCard
from mezzotint.metric.result import MetricResult, finite, mean_of

__all__ = ["DirectionSimilarity"]

_STILL = 1e-5  # a change of unit features below this is rounding, and has no direction


class DirectionSimilarity:
    """cos(f(after) - f(before), g(words after) - g(words before)), f and g normalised to length 1.

    1 where the picture went as the words did, -1 where it went the other way; 0 too for one that did not change.

    Args:
        image: images in [-1, 1] -> (b, d).
        text: captions -> (b, d).
        name: of the pair of encoders, for the card.
        resize: filter of the image encoder, for the card.
        batch: pairs at a time.

    Source: "directional CLIP", arXiv 2108.00946, equation 2, on normalised features as evaluated in 2210.05559.

    >>> pair = lambda x: x.mean((2, 3)), lambda words: torch.eye(3)[["red green blue".split().index(w) for w in words]]
    >>> score = DirectionSimilarity(*pair, "colours")
    >>> red, blue = torch.eye(3).view(3, 1, 3, 1, 1)[[0, 2]].unbind(0)
    >>> [round(float(score.scores(*images, ["red"], ["blue"])), 6) for images in ((red, blue), (blue, red))]
    [1.0, -1.0]
    """

    metric = "direction similarity"

    def __init__(
        self,
        image: Callable[[Tensor], Tensor],
        text: Callable[[Sequence[str]], Tensor],
        name: str,
        *,
        resize: str = "none",
        batch: int = 64,
        extractor_hash: str = "",
    ) -> None:
        self.image, self.text, self.name, self.resize, self.batch = image, text, name, resize, batch
        self.extractor_hash = extractor_hash

    def scores(
        self,
        before: Float[Tensor, "b c h w"],
        after: Float[Tensor, "b c h w"],
        words_before: Sequence[str],
        words_after: Sequence[str],
    ) -> Float[Tensor, " b"]:
        """The similarity of each pair, -1 to 1, float64.

        Raises:
            ValueError: for numbers that differ, captions that the encoder cannot tell apart (they have no direction),
                encoders into different spaces, or values that are not finite.
        """
        told = list(words_before), list(words_after)
        if not len(before) == len(after) == len(told[0]) == len(told[1]) or not len(before):
            raise ValueError(
                f"{len(before)} and {len(after)} images, {len(told[0])} and {len(told[1])} captions; give one of each "
                "a pair"
            )
        parts = []
        with torch.no_grad():
            for start in range(0, len(before), self.batch):
                rows = slice(start, start + self.batch)
                a, b = (_unit(self.image(x[rows].clamp(-1, 1))) for x in (before, after))
                c, d = (_unit(self.text(words[rows])) for words in told)
                if not a.shape == b.shape == c.shape == d.shape:
                    raise ValueError(f"the encoders gave {tuple(a.shape)} and {tuple(c.shape)}; expected equal (b, d)")
                same = ((d - c).norm(dim=1) < _STILL).nonzero()
                if len(same):
                    k = start + int(same[0])
                    raise ValueError(
                        f"to this encoder {told[0][k]!r} and {told[1][k]!r} are the same, which has no direction; give "
                        "captions that differ in what it knows"
                    )
                cosine = torch.cosine_similarity(b - a, d - c, dim=1)
                parts.append(torch.where((b - a).norm(dim=1) < _STILL, 0.0, finite("the similarities", cosine)))
        return torch.cat(parts)

    def __call__(
        self,
        before: Float[Tensor, "b c h w"],
        after: Float[Tensor, "b c h w"],
        words_before: Sequence[str],
        words_after: Sequence[str],
    ) -> MetricResult:
        """The mean similarity, with its error and card."""
        value, error = mean_of(self.scores(before, after, words_before, words_after))
        n = len(before)
        card = MetricCard(self.metric, self.name, self.extractor_hash, self.resize, n=n, n_reference=n)
        return MetricResult(value, card, error)

    def towards(self, words_before: str, words_after: str) -> Callable[[Tensor, Tensor], Tensor]:
        """score(edited, original) -> (b,) for one pair of captions, as `BestOf` takes it."""
        return lambda edited, original: self.scores(
            original, edited, [words_before] * len(edited), [words_after] * len(edited)
        )


def _unit(features: Tensor) -> Tensor:
    if features.ndim != 2:
        raise ValueError(f"an encoder gave {tuple(features.shape)}; expected (b, d)")
    return normalize(features.cpu().double(), dim=1)
