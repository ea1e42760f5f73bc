from __future__ import annotations

import torch

from mezzotint.metric import augment


def test_key_is_seed_and_step_and_global_state_is_left_alone() -> None:
    x = torch.rand(4, 3, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1
    before = torch.random.get_rng_state()
    base = augment(x, 0, 3)
    assert torch.equal(augment(x, 0, 3), base)
    assert not torch.equal(augment(x, 0, 4), base) and not torch.equal(augment(x, 1, 3), base)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_strength_zero_is_the_image_or_its_mirror() -> None:
    x = torch.rand(16, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(augment(x, 0, 0, strength=0.0, flip=False), x, atol=1e-5)
    flipped = augment(x, 0, 0, strength=0.0)
    mirrored = [bool(torch.allclose(y, row.flip(2), atol=1e-5)) for y, row in zip(flipped, x, strict=True)]
    kept = [bool(torch.allclose(y, row, atol=1e-5)) for y, row in zip(flipped, x, strict=True)]
    assert all(m != k for m, k in zip(mirrored, kept, strict=True)) and 0 < sum(mirrored) < 16


def test_a_white_border_stays_white_apart_from_brightness_and_grain() -> None:
    y = augment(torch.ones(32, 3, 16, 16), 0, 0)
    assert y.flatten(1).std(1).max() < 0.05 and (y.mean((1, 2, 3)) - 1).abs().max() < 0.2 + 0.02
