"""The numbers against the recipe of docs/seeds.md, written out one sample at a time."""

from __future__ import annotations

import math
from hashlib import blake2b

import numpy as np
import pytest
import torch

from mezzotint.core.noise import Noise


def _plain_uniforms(seed: int, purpose: str, k: int, count: int) -> np.ndarray:
    key = blake2b(f"i{seed}\x1fs{purpose}\x1fi{k}".encode(), digest_size=16).digest()
    bits = np.random.Philox(key=np.frombuffer(key, dtype="<u8")).random_raw(count)
    return (bits >> np.uint64(11)) * 2.0**-53


def _plain_normals(seed: int, purpose: str, k: int, size: int) -> list[float]:
    u = _plain_uniforms(seed, purpose, k, size + size % 2).reshape(-1, 2)
    radius, angle = np.sqrt(-2.0 * np.log1p(-u[:, 0])), (2.0 * math.pi) * u[:, 1]
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], -1).reshape(-1)[:size].tolist()


@pytest.mark.parametrize(
    ("count", "shape"),
    [(3, ()), (5, (3,)), (70, (3, 17, 16)), (2, (1, 181, 183))],  # blocks of many samples, and more than a block each
)
def test_normals_are_the_recipe(count, shape):
    made = Noise(range(count))("eps", 7, shape, dtype=torch.float64)
    for seed in (0, count // 2, count - 1):
        assert made[seed].flatten().tolist() == _plain_normals(seed, "eps", 7, math.prod(shape))
    assert torch.equal(Noise(range(count))("eps", 7, shape), made.float())


def test_uniforms_are_the_recipe_whatever_was_drawn_before():
    noise = Noise([2**62, 1, 5])
    noise("eps", 0, (9,))  # an odd number of draws leaves half a block of the generator unused
    made = noise.uniform("t", 3, (5,), dtype=torch.float64)
    assert [row.tolist() for row in made] == [_plain_uniforms(seed, "t", 3, 5).tolist() for seed in noise.seeds]
