"""Latents of another spread than 1, by the statistics that an autoencoder has anyway; and a name for these."""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import replace

from mezzotint.latent.spec import LatentSpec

__all__ = ["statistics_hash", "with_spread"]


def with_spread(spec: LatentSpec, spread: float = 0.5) -> LatentSpec:
    """The spec whose normalised latents have standard deviation `spread` where those of `spec` have 1.

        z = spread (raw - mean) / std

    Assign it to an autoencoder (`autoencoder.spec = with_spread(autoencoder.spec)`): encode and decode stay inverse.

    Args:
        spec: with fitted statistics.
        spread: > 0; 0.5 is the sigma_data of EDM and of consistency models.

    Raises:
        ValueError: if spread is not positive and finite.

    Source: arXiv 2502.01441, latents normalised to 0.5; a mean and std a channel are our choice.

    >>> with_spread(LatentSpec.unit(8, 1)).std
    (2.0,)
    """
    if not 0 < spread < math.inf:
        raise ValueError(f"with_spread got spread={spread}; expected a finite number > 0")
    return replace(spec, std=tuple(s / spread for s in spec.std))


def statistics_hash(spec: LatentSpec) -> str:
    """Sixteen hexadecimal digits that name a spec's geometry and statistics: equal for equal ones.

    For a checkpoint or a cache to state which latents it was made for.

    >>> statistics_hash(LatentSpec.unit(8, 4)) != statistics_hash(with_spread(LatentSpec.unit(8, 4)))
    True
    """
    told = json.dumps({k: _exact(v) for k, v in spec.to_dict().items()}, sort_keys=True)
    return hashlib.sha256(told.encode()).hexdigest()[:16]


def _exact(value: object) -> object:
    return [v.hex() for v in value] if isinstance(value, list) else value
