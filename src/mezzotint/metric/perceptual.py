"""Perceptual distance of image pairs on the feature maps of any network."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mezzotint.metric.card import MetricCard, weights_hash
from mezzotint.metric.result import MetricResult, finite, mean_of
from mezzotint.objective.perceptual import Perceptual

__all__ = ["PerceptualDistance"]


class PerceptualDistance:
    """Squared differences of channel-normalised features at several layers; a measure of pairs for `compare`.

        d(a, b) = sum_l mean_{h,w} sum_c w_lc (f_lc(a)/|f_l(a)| - f_lc(b)/|f_l(b)|)^2

    0 for equal images, symmetric. Named after its network: it is LPIPS only with LPIPS's own weights (`load_lpips`).

    Args:
        extractor: has `maps(images in [-1, 1])` -> feature maps (b, c_l, h_l, w_l), or is a module that returns them
            when called. It is neither changed nor frozen; put it into evaluation mode first.
        weights: one non-negative weight a channel for each map; None weighs all by 1.
        metric: name on the card.
        batch: pairs at a time.

    Raises:
        ValueError: for weights that are negative or do not fit.

    Source: Zhang et al. 2018 (arXiv 1801.03924), equation 1.

    >>> from mezzotint.metric import FeatureNet
    >>> x = torch.linspace(-1, 1, 768).view(1, 3, 16, 16)
    >>> distance = PerceptualDistance(FeatureNet(size=16))
    >>> distance.distances(x, x).item(), bool(distance.distances(x, -x) > 0)
    (0.0, True)
    """

    def __init__(
        self,
        extractor: Any,
        weights: Sequence[Tensor] | None = None,
        *,
        metric: str = "perceptual distance",
        batch: int = 16,
    ) -> None:
        self.extractor, self.metric, self.batch = extractor, metric, batch
        maps = extractor.maps if hasattr(extractor, "maps") else extractor
        self._distance = Perceptual(_Directions(maps), weights)

    def distances(self, a: Float[Tensor, "b c h w"], b: Float[Tensor, "b c h w"]) -> Float[Tensor, "b"]:
        """The distance of each pair.

        Raises:
            ValueError: for shapes that differ, or values that are not finite.
        """
        if a.shape != b.shape or a.ndim != 4 or not len(a):
            raise ValueError(f"distances got {tuple(a.shape)} and {tuple(b.shape)}; expected two equal (b, c, h, w)")
        self._distance.to(a.device)
        with torch.no_grad():
            parts = zip(a.split(self.batch), b.split(self.batch))
            return finite("the perceptual distance", torch.cat([self._distance(x, y) for x, y in parts]))

    def __call__(self, a: Float[Tensor, "b c h w"], b: Float[Tensor, "b c h w"]) -> list[MetricResult]:
        """The mean over the pairs, with its error and card."""
        distances = self.distances(a, b)
        module = self.extractor if isinstance(self.extractor, nn.Module) else None
        parts = [] if module is None else [weights_hash(module)]
        if self._distance.layers is not None:
            parts.append(weights_hash(self._distance))
        card = MetricCard(
            self.metric,
            getattr(self.extractor, "name", None) or type(self.extractor).__name__,
            "+".join(parts),
            getattr(self.extractor, "resize", "none"),
            n=len(a),
            n_reference=len(b),
            dtype=str(distances.dtype).removeprefix("torch."),
        )
        value, error = mean_of(distances)
        return [MetricResult(value, card, error)]


class _Directions(nn.Module):
    """Feature maps of unit length at each place, with LPIPS's 1e-10 beside the length and not under the root."""

    def __init__(self, maps: Callable[[Tensor], Sequence[Tensor]]) -> None:
        super().__init__()
        self._maps = (maps,)  # in a tuple, so that a module of the user's is not taken in, frozen and moved

    def forward(self, x: Tensor) -> list[Tensor]:
        return [f / (f.square().sum(1, keepdim=True).sqrt() + 1e-10) for f in self._maps[0](x)]
