"""The seed contract: golden hashes, batch invariance, prefixes, the Brownian path."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
import torch

from mezzotint.core import BrownianPath, Noise, fold

GOLDEN_BITS = "a9be593d67cde0afbabcc465d8459b54"
GOLDEN_NORMALS = "039e3cda96ed03d32e93ecf48502a978"
GOLDEN_FOLD = 6663491238449910133


def test_golden_bits_and_numbers():
    """The bits are fixed for ever; the normals to 12 digits (their last bits belong to the C library)."""
    bits = Noise([7])._uniforms("x_T", 3, 64)
    assert hashlib.sha256((bits * 2**53).astype("<u8").tobytes()).hexdigest()[:32] == GOLDEN_BITS
    x = Noise([0, 1])("x_T", 0, (3, 8, 8), dtype=torch.float64).numpy()
    digits = np.round(x * 1e9).astype("<i8").tobytes()
    assert hashlib.sha256(digits).hexdigest()[:32] == GOLDEN_NORMALS
    assert fold(0, "train", 7) == GOLDEN_FOLD


def test_sample_of_a_batch_is_the_sample_alone():
    together = Noise(range(64))("step", 5, (3, 8, 8))
    for i in (0, 1, 31, 63):
        assert torch.equal(Noise([i])("step", 5, (3, 8, 8))[0], together[i])
    assert torch.equal(Noise(range(64)).rows(slice(3, 6))("step", 5, (3, 8, 8)), together[3:6])


def test_draws_differ_in_seed_purpose_and_k_but_not_in_history():
    noise = Noise([4])
    first = noise("a", 0, (100,))
    assert not torch.equal(first, noise("b", 0, (100,)))
    assert not torch.equal(first, noise("a", 1, (100,)))
    assert not torch.equal(first, Noise([5])("a", 0, (100,)))
    assert torch.equal(first, noise("a", 0, (100,)))


def test_a_longer_draw_begins_with_the_shorter_one():
    assert torch.equal(Noise([2])("a", 0, (10,))[:, :7], Noise([2])("a", 0, (7,)))


def test_global_random_state_is_untouched():
    torch.manual_seed(0)
    before = torch.get_rng_state()
    Noise([0])("a", 0, (10,))
    assert torch.equal(torch.get_rng_state(), before)


def test_normals_are_normal_and_uniforms_uniform():
    x = Noise(range(50))("a", 0, (4000,), dtype=torch.float64).flatten()
    n = x.numel()
    assert abs(float(x.mean())) < 5 / n**0.5
    assert abs(float(x.var()) - 1) < 5 * (2 / n) ** 0.5
    assert abs(float((x**4).mean()) - 3) < 5 * (96 / n) ** 0.5
    pairs = x[0::2] * x[1::2]
    assert abs(float(pairs.mean())) < 5 / (n / 2) ** 0.5  # the two of a Box-Muller pair are independent
    u = Noise(range(50)).uniform("a", 0, (4000,)).flatten()
    assert float(u.min()) >= 0 and float(u.max()) < 1
    assert abs(float(u.double().mean()) - 0.5) < 5 / (12 * n) ** 0.5


def test_fold_tells_its_parts_apart():
    assert len({fold(1, 23), fold(12, 3), fold("1", 23), fold(1, "23"), fold("123"), fold(123)}) == 6
    assert all(0 <= fold(i) < 2**63 for i in range(50))


@pytest.mark.parametrize("seeds", [[], [-1], [3, -2]])
def test_wrong_seeds_are_refused(seeds):
    with pytest.raises(ValueError, match="seed"):
        Noise(seeds)


def test_brownian_path_is_the_same_for_every_grid_and_order():
    fine, coarse = (BrownianPath(Noise([0, 1]), (3,)) for _ in range(2))
    times = [i / 64 for i in range(65)]
    walked = torch.stack([fine(t) for t in times])
    for i in (64, 16, 48, 3, 0):
        assert torch.equal(coarse(times[i]), walked[i])
    total = sum(fine.increment(a, b) for a, b in zip(times, times[1:], strict=False))
    assert torch.allclose(total, coarse(1.0), atol=1e-12)
    assert torch.equal(BrownianPath(Noise([1]), (3,))(0.3)[0], fine(0.3)[1])


def test_brownian_increments_have_the_variance_of_their_length():
    path = BrownianPath(Noise(range(3000)), (2,))
    for a, b in ((0.0, 0.3), (0.3, 0.31), (0.31, 1.0)):
        increments = path.increment(a, b)
        n = increments.numel()
        assert abs(float(increments.var()) / (b - a) - 1) < 5 * (2 / n) ** 0.5 + 1e-4
    left, right = path.increment(0.1, 0.4), path.increment(0.4, 0.9)
    correlation = float((left * right).mean() / (left.std() * right.std()))
    assert abs(correlation) < 5 / left.numel() ** 0.5


def test_brownian_time_outside_the_unit_interval_is_refused():
    with pytest.raises(ValueError, match="expected a time"):
        BrownianPath(Noise([0]), ())(1.5)
