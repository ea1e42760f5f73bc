"""LatentSpec: JSON round trip, the pooled scale, bad values."""

from __future__ import annotations

import json
import math

import pytest
import torch

from mezzotint.latent import LatentSpec

SPEC = LatentSpec(4, 2, (0.5, -1.0), (2.0, 0.25), codes=8)


def test_json_round_trip() -> None:
    assert LatentSpec.from_dict(json.loads(json.dumps(SPEC.to_dict()))) == SPEC


def test_pooled_is_the_std_of_all_elements() -> None:
    # two channels of equal size whose statistics are exactly those of SPEC
    raw = torch.tensor([[2.5, -1.5], [-0.75, -1.25]], dtype=torch.float64)
    pooled = SPEC.pooled()
    assert pooled.mean == (0.0, 0.0) and len(set(pooled.std)) == 1
    assert pooled.std[0] == pytest.approx(float(raw.std(correction=0)), abs=1e-12)


def test_scaled_multiplies_by_the_scale() -> None:
    assert LatentSpec.scaled(8, 4, 0.18215).std == (1 / 0.18215,) * 4


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"factor": 0}, "at least 1"),
        ({"mean": (0.0,)}, "one number for each of the 2"),
        ({"std": (1.0, 0.0)}, "positive"),
        ({"std": (1.0, math.nan)}, "positive"),
        ({"mean": (math.inf, 0.0)}, "finite"),
        ({"kind": "pixels"}, r"'continuous' or 'tokens'|Literal\['continuous', 'tokens'\]"),
        ({"mean": 3.0}, "lists of numbers"),
        ({"codes": 1}, "at least 2 codes"),
        ({"colour": 1}, r"unknown \['colour'\]"),
    ],
)
def test_bad_values_raise(change: dict, message: str) -> None:
    with pytest.raises((ValueError, TypeError), match=message):  # a wrong kind meets the tests' type check first
        LatentSpec.from_dict({**SPEC.to_dict(), **change})


def test_missing_key_and_bad_scale_raise() -> None:
    values = SPEC.to_dict()
    del values["std"]
    with pytest.raises(ValueError, match=r"missing \['std'\]"):
        LatentSpec.from_dict(values)
    with pytest.raises(ValueError, match="scale must be"):
        LatentSpec.scaled(8, 4, 0.0)
