"""The parts of the demonstration of attention's entropy: scenes at any size, and a counter that is right on them."""

from __future__ import annotations

import pytest
import torch

from mezzotint.papers.run import run_demonstration
from mezzotint.papers.size_arms import counted, discs


@pytest.mark.parametrize("size", [16, 24, 32, 48])
def test_what_is_drawn_is_counted_at_every_size(size):
    x, label = discs(3, 40, size, "test")
    whole, pieces = counted(x)
    assert torch.equal(whole, label + 1) and not pieces.any()
    assert label.unique().tolist() == [0, 1, 2]


def test_scenes_are_the_same_at_every_size():
    small, large = (discs(5, 6, size, "test")[0] for size in (16, 32))
    coarse = torch.nn.functional.avg_pool2d(large, 2)
    assert float((small - coarse).abs().mean()) < 0.02


def test_halves_are_pieces():
    x, _ = discs(1, 12, 32, "test")
    cut = x.clone()
    cut[..., ::2, :] = -0.8  # stripes are no discs
    whole, pieces = counted(cut)
    assert not whole.any() or bool((pieces + whole > 0).all())
    assert counted(torch.full((1, 1, 16, 16), -1.0))[0].item() == 0
    assert counted(torch.full((1, 1, 16, 16), 1.0))[1].item() == 1  # one blot over everything is a piece


@pytest.mark.slow
def test_the_quick_run_says_something(tmp_path):
    entries = run_demonstration("2306.08645", quick=True, out=tmp_path)
    assert {e.verdict for e in entries} <= {"shown", "shown in part", "not shown", "contradicted"}
    assert entries[-1].verdict == "shown"  # the control
    assert (tmp_path / "discs.png").is_file()
