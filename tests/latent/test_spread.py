"""Latents of a chosen spread, and the name of their statistics."""

from __future__ import annotations

from dataclasses import replace

import pytest

from mezzotint.latent import LatentSpec, statistics_hash, with_spread

SPEC = LatentSpec(8, 2, (0.1, -0.3), (0.8, 2.5))


def test_the_hash_sees_every_number_and_nothing_else():
    assert statistics_hash(SPEC) == statistics_hash(LatentSpec.from_dict(SPEC.to_dict()))
    others = [
        replace(SPEC, mean=(0.1, -0.30000000000000004)),
        replace(SPEC, std=(0.8, 2.5000000000000004)),
        replace(SPEC, factor=4),
        with_spread(SPEC, 0.5),
    ]
    assert len({statistics_hash(spec) for spec in (SPEC, *others)}) == 5


def test_the_spread_divides_the_std():
    assert with_spread(SPEC, 0.5) == replace(SPEC, std=(1.6, 5.0))
    for bad in (0.0, -1.0, float("inf")):
        with pytest.raises(ValueError, match="spread"):
            with_spread(SPEC, bad)
