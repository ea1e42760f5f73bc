"""What a latent space is: its size, and the statistics that normalise it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal


@dataclass(frozen=True)
class LatentSpec:
    """Geometry and per-channel statistics of a latent space, saved beside the weights.

    Normalised latent: ``z = (raw - mean) / std``, channel by channel; the diffusion model only ever sees z.

    Args:
        factor: image side divided by latent side.
        channels: channels of the latent.
        mean: mean of the raw latent, one number a channel.
        std: standard deviation of the raw latent, one positive number a channel.
        kind: what ``encode`` returns: ``"continuous"`` tensors or integer ``"tokens"``.
        codes: size of the codebook, where there is one.

    Raises:
        ValueError: for sizes below 1, statistics of another length than channels, or a std not positive.

    Source: arXiv 2112.10752, section 4.3.2 and appendix G (component-wise std); per-channel statistics
    with a mean are our choice, :meth:`pooled` is the paper's single scale.

    >>> spec = LatentSpec.scaled(factor=8, channels=4, scale=0.18215)
    >>> round(spec.std[0], 3), LatentSpec.from_dict(spec.to_dict()) == spec
    (5.49, True)
    """

    factor: int
    channels: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    kind: Literal["continuous", "tokens"] = "continuous"
    codes: int | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "mean", tuple(float(m) for m in self.mean))
        object.__setattr__(self, "std", tuple(float(s) for s in self.std))
        if self.factor < 1 or self.channels < 1:
            raise ValueError(f"factor and channels must be at least 1, got {self.factor} and {self.channels}")
        if len(self.mean) != self.channels or len(self.std) != self.channels:
            raise ValueError(
                f"mean and std need one number for each of the {self.channels} channels, "
                f"got {len(self.mean)} and {len(self.std)}"
            )
        if not all(math.isfinite(m) for m in self.mean):
            raise ValueError(f"mean must be finite, got {self.mean}; check the images it came from")
        if not all(math.isfinite(s) and s > 0 for s in self.std):
            raise ValueError(
                f"std must be finite and positive, got {self.std}; a channel with no spread cannot be "
                "normalised: fit the statistics on more, or more varied, images"
            )
        if self.kind not in ("continuous", "tokens"):
            raise ValueError(f"kind must be 'continuous' or 'tokens', got {self.kind!r}")
        if self.codes is not None and self.codes < 2:
            raise ValueError(f"a codebook needs at least 2 codes, got {self.codes}")

    @classmethod
    def unit(cls, factor: int, channels: int, codes: int | None = None) -> LatentSpec:
        """The spec before statistics are fitted: mean 0 and std 1."""
        return cls(factor, channels, (0.0,) * channels, (1.0,) * channels, codes=codes)

    @classmethod
    def scaled(cls, factor: int, channels: int, scale: float) -> LatentSpec:
        """One fixed scale for all channels, z = scale * raw (Stable Diffusion 1: 0.18215)."""
        if not (math.isfinite(scale) and scale > 0):
            raise ValueError(f"scale must be finite and positive, got {scale}")
        return cls(factor, channels, (0.0,) * channels, (1.0 / scale,) * channels)

    def pooled(self) -> LatentSpec:
        """The paper's ``scale_by_std``: mean 0 and one std, that of all elements of all channels together."""
        mean = math.fsum(self.mean) / self.channels
        second = math.fsum(s * s + m * m for m, s in zip(self.mean, self.std, strict=True)) / self.channels
        std = math.sqrt(second - mean * mean)
        return replace(self, mean=(0.0,) * self.channels, std=(std,) * self.channels)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {**asdict(self), "mean": list(self.mean), "std": list(self.std)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> LatentSpec:
        """The inverse of :meth:`to_dict`; an unknown or missing key is a ValueError that names it."""
        known = {"factor", "channels", "mean", "std", "kind", "codes"}
        missing = {"factor", "channels", "mean", "std"} - set(values)
        if missing or set(values) - known:
            raise ValueError(
                f"a latent spec has the keys {sorted(known)}; "
                f"missing {sorted(missing)}, unknown {sorted(set(values) - known)}"
            )
        try:
            numbers = {name: tuple(float(v) for v in values[name]) for name in ("mean", "std")}
        except (TypeError, ValueError) as error:
            raise ValueError("mean and std of a latent spec must be lists of numbers, one a channel") from error
        return cls(**{**values, **numbers})
