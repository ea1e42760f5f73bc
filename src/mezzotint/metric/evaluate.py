"""One call for a report: a set of images against a reference set, or image by image against its reference."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from mezzotint.metric.card import MetricCard
from mezzotint.metric.features import Extractor, Features, extract
from mezzotint.metric.measures import MEASURES, Measure
from mezzotint.metric.psnr import psnr
from mezzotint.metric.result import MetricResult, mean_of
from mezzotint.metric.ssim import ssim

__all__ = ["PairMeasure", "compare", "evaluate"]


@runtime_checkable
class PairMeasure(Protocol):
    """What compares images pair by pair, such as `PerceptualDistance`."""

    def __call__(self, a: Tensor, b: Tensor) -> list[MetricResult]: ...


def evaluate(
    images: Float[Tensor, "n c h w"] | Iterable[Tensor] | Features,
    reference: Float[Tensor, "m c h w"] | Iterable[Tensor] | Features,
    extractor: Extractor,
    metrics: Sequence[str | Measure] = ("frechet", "kernel", "precision", "density"),
    *,
    batch: int = 64,
    device: torch.device | str | None = None,
) -> list[MetricResult]:
    """Measure a set of images against a reference set on one extractor.

    Args:
        images: (n, c, h, w) in [-1, 1], an iterable of such batches, or their `Features`.
        reference: likewise; give `extract(reference, extractor)` where it is measured against more than once.
        extractor: see `Extractor`.
        metrics: names of MEASURES, or measures with settings such as `Precision(k=5)`. "precision" comes with recall,
            "density" with coverage.
        batch, device: see `extract`. Features are kept only if a measure needs them: with ("frechet",) alone a set
            of any size passes in bounded memory.

    Returns:
        One `MetricResult` a number, in the order of `metrics`.

    Raises:
        ValueError: for an unknown name, features of another extractor, or sets that are too small for a measure.

    >>> from mezzotint.metric import FeatureNet
    >>> x = torch.linspace(-1, 1, 8 * 192).view(8, 3, 8, 8)
    >>> [r.card.metric for r in evaluate(x, x, FeatureNet(size=8), ("frechet", "precision"))]
    ['frechet', 'precision, k=3', 'recall, k=3']
    """
    measures = [_named(metric) for metric in metrics]
    if not measures:
        raise ValueError(f"metrics is empty; expected some of {', '.join(MEASURES)}")
    keep = any(measure.keep for measure in measures)
    made, real = (
        part if isinstance(part, Features) else extract(part, extractor, batch=batch, device=device, keep=keep)
        for part in (images, reference)
    )
    if (made.extractor, made.extractor_hash, made.resize) != (real.extractor, real.extractor_hash, real.resize):
        raise ValueError(
            f"the features are of different networks: {made.extractor} {made.extractor_hash} ({made.resize}) and "
            f"{real.extractor} {real.extractor_hash} ({real.resize}); extract both with one"
        )
    return [result for measure in measures for result in measure(made, real)]


def compare(
    images: Float[Tensor, "n c h w"],
    reference: Float[Tensor, "n c h w"],
    metrics: Sequence[str | PairMeasure] = ("psnr", "ssim"),
) -> list[MetricResult]:
    """Measure images against their own references (reconstructions, restorations): means over the pairs, with errors.

    Args:
        images, reference: of one shape, in [-1, 1].
        metrics: "psnr" (decibels), "ssim", or a measure of pairs such as `PerceptualDistance`.

    Returns:
        One `MetricResult` a metric.

    Raises:
        ValueError: for an unknown name, or shapes that differ.

    >>> x = torch.zeros(2, 3, 16, 16)
    >>> [r.value for r in compare(x, x)]
    [inf, 1.0]
    """
    if images.shape != reference.shape or images.ndim != 4 or not len(images):
        raise ValueError(f"compare got {tuple(images.shape)} and {tuple(reference.shape)}; expected equal (n, c, h, w)")
    results = []
    for metric in metrics:
        if not isinstance(metric, str):
            results += metric(images, reference)
        elif metric in _PAIRS:
            value, error = mean_of(_PAIRS[metric](images, reference))
            results.append(MetricResult(value, MetricCard(metric, n=len(images), n_reference=len(images)), error))
        else:
            raise ValueError(f"unknown metric {metric!r}; expected one of {', '.join(_PAIRS)}, or a measure of pairs")
    return results


_PAIRS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"psnr": psnr, "ssim": ssim}


def _named(metric: str | Measure) -> Measure:
    if not isinstance(metric, str):
        return metric
    if metric not in MEASURES:
        raise ValueError(f"unknown metric {metric!r}; expected one of {', '.join(MEASURES)}, or a measure")
    return MEASURES[metric]
