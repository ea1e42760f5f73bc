"""Features of a set of images, with the name of what made them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mezzotint.metric.card import weights_hash
from mezzotint.metric.moments import Moments
from mezzotint.metric.result import finite

__all__ = ["Extractor", "Features", "extract"]


@runtime_checkable
class Extractor(Protocol):
    """A network that measures images: its name, the filter that brings images to its size, and (b, d) features of
    images in [-1, 1]. FeatureNet, InceptionV3, DinoV2, CLIP and EfficientNetLite0 are such; so is any module with
    these three."""

    name: str
    resize: str

    def features(self, x: Tensor) -> Tensor: ...


@dataclass(frozen=True)
class Features:
    """Features of a set: all rows, or their moments alone where the rows were not kept.

    Args:
        rows: (n, d), or None.
        seen: moments of rows that were not kept, or None.
        extractor, extractor_hash, resize: as in `MetricCard`.
        notes: of the extractor.

    >>> Features(torch.zeros(5, 2)).n
    5
    """

    rows: Tensor | None = None
    seen: Moments | None = None
    extractor: str = "none"
    extractor_hash: str = ""
    resize: str = "none"

    def __post_init__(self) -> None:
        if (self.rows is None) == (self.seen is None):
            raise ValueError("Features needs either the rows (n, d) or their moments")

    @property
    def n(self) -> int:
        """Number of images."""
        if self.rows is not None:
            return len(self.rows)
        assert self.seen is not None
        return self.seen.count

    @cached_property
    def moments(self) -> Moments:
        """Mean and covariance."""
        if self.seen is not None:
            return self.seen
        assert self.rows is not None
        return Moments(self.rows)

    def all_rows(self) -> Tensor:
        """The rows.

        Raises:
            ValueError: where only moments were kept.
        """
        if self.rows is None:
            raise ValueError("only the moments of these features were kept; extract them again with keep=True")
        return self.rows


def extract(
    images: Float[Tensor, "n c h w"] | Iterable[Tensor],
    extractor: Extractor,
    *,
    batch: int = 64,
    device: torch.device | str | None = None,
    keep: bool = True,
) -> Features:
    """Features of images, batch by batch, without gradients.

    Args:
        images: (n, c, h, w) in [-1, 1], or an iterable of such batches. Clamped to [-1, 1], as a saved image is.
        extractor: see `Extractor`.
        batch: images at a time.
        device: where the images are sent; None: where the extractor's weights are.
        keep: keep the rows (on the CPU); False keeps their moments alone, enough for a Frechet distance.

    Raises:
        ValueError: for no images, images that are not floating point, or features that are not finite.
    """
    if batch < 1:
        raise ValueError(f"batch={batch}; expected at least one image at a time")
    rows: list[Tensor] = []
    seen = Moments()
    place = device if device is not None else _device(extractor)
    with torch.no_grad():
        for part in _batches(images, batch):
            made = extractor.features(part.to(place).clamp(-1, 1))
            if made.ndim != 2 or len(made) != len(part):
                raise ValueError(f"{extractor.name} gave features {tuple(made.shape)} for {len(part)} images")
            finite(f"the features of {extractor.name}", made)
            if keep:
                rows.append(made.cpu())
            else:
                seen.update(made)
    if not rows and not seen.count:
        raise ValueError("there are no images to measure; give at least one batch")
    return Features(
        torch.cat(rows) if keep else None,
        None if keep else seen,
        extractor.name,
        weights_hash(extractor) if isinstance(extractor, nn.Module) else "",
        extractor.resize,
    )


def _batches(images: Tensor | Iterable[Tensor], batch: int) -> Iterable[Tensor]:
    for part in (images,) if isinstance(images, Tensor) else images:
        if not isinstance(part, Tensor) or part.ndim != 4 or not part.is_floating_point():
            what = f"{part.dtype} {tuple(part.shape)}" if isinstance(part, Tensor) else type(part).__name__
            raise ValueError(f"images must be floating (n, c, h, w) in [-1, 1]; got {what}")
        yield from part.split(batch)


def _device(extractor: object) -> torch.device:
    weights = extractor.parameters() if isinstance(extractor, nn.Module) else ()
    return next((p.device for p in weights), torch.device("cpu"))


def check_pair(made: Tensor, real: Tensor, least: int, names: tuple[str, str] = ("made", "real")) -> None:
    """Two sets of features that can be compared: (n, d) and (m, d), finite, at least `least` rows each."""
    for name, value in zip(names, (made, real), strict=True):
        if value.ndim != 2 or value.shape[0] < least:
            count = "two" if least == 2 else least
            raise ValueError(f"{name} has shape {tuple(value.shape)}; expected (n, d) with at least {count} rows")
        finite(name, value)
    if made.shape[1] != real.shape[1]:
        raise ValueError(f"features have {made.shape[1]} and {real.shape[1]} numbers a row; use one extractor for both")


def worked(features: Tensor) -> Tensor:
    """The rows in float64, where they are; on the CPU for a device without float64."""
    rows = features.detach()
    return (rows.cpu() if rows.device.type == "mps" else rows).double()
