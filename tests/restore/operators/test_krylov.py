"""Conjugate gradients against a dense solve."""

from __future__ import annotations

import pytest
import torch

from mezzotint.restore.operators import conjugate_gradients


def test_rows_are_solved_apart_and_a_singular_system_gives_the_least_norm():
    g = torch.Generator().manual_seed(0)
    root = torch.randn(6, 4, generator=g, dtype=torch.float64)
    m = root @ root.T  # rank 4 of 6
    b = torch.randn(3, 6, generator=g, dtype=torch.float64) @ m
    b[1] = 0
    x = conjugate_gradients(lambda v: v @ m, b)
    torch.testing.assert_close(x, b @ torch.linalg.pinv(m), rtol=0, atol=1e-8)
    alone = conjugate_gradients(lambda v: v @ m, b[2:])
    torch.testing.assert_close(alone, x[2:], rtol=0, atol=1e-9)


def test_no_steps_are_refused():
    with pytest.raises(ValueError, match="steps=0; expected at least 1"):
        conjugate_gradients(lambda v: v, torch.ones(1, 2), steps=0)
