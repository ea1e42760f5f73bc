"""The demonstration of subspace clustering runs at the smallest sizes, and states no more than its numbers carry."""

from __future__ import annotations

from functools import partial

import pytest
import torch

from mezzotint.core import Noise
from mezzotint.interpret import SubspaceIteration, semantic_directions
from mezzotint.papers import p2409_02426 as paper
from mezzotint.papers.ledger import LedgerEntry, strongest_verdict
from mezzotint.papers.subspace_arms import FACTORS, drawn_discs, explained, factors

TINY = paper.Budget(2, (2,), (0.5, 1), 5, 1, (2, 3), (2, 4), 0.02, 8, 0.05, 1, 1)


def test_it_measures_every_claim(monkeypatch, tmp_path):
    monkeypatch.setattr(paper, "QUICK", TINY)
    monkeypatch.setattr(paper, "RANK", 1)
    few = SubspaceIteration(least=1, most=2)
    monkeypatch.setattr(paper, "semantic_directions", partial(semantic_directions, settings=few))
    told: list[str] = []
    entries = paper.demonstrate(quick=True, seed=3, device="cpu", out=tmp_path, say=told.append)
    assert len(entries) == 9 and len(told) == 2 and (tmp_path / "directions.png").is_file()
    for entry in entries:
        assert LedgerEntry.from_dict(entry.to_dict()) == entry
        assert entry.verdict == strongest_verdict(entry) and "Budget(trials=2" in entry.notes
    assert [e.scale for e in entries] == ["exact"] * 4 + ["cpu-small"] * 5
    lost = [e for e in entries if e.claim.startswith("B")]  # so few steps make no copy, and no half point is seen
    assert all(e.verdict == "not shown" and "B found 0" in e.notes for e in lost)


def test_half_points_that_were_seen_are_compared(monkeypatch):
    """Curves whose half point is at N = 20 d: they collapse in N / d, and not in N."""
    shares = {4: 0.0, 16: 0.4, 64: 1.0}
    monkeypatch.setattr(paper, "judged_union", lambda seed, d, ratio, seconds, count: (shares[ratio], 0.1))
    row = paper._new(0, TINY._replace(sizes=(3, 9), per=(4, 16, 64)))
    assert row["B found"] == 1 and row["B spread N/d"] == pytest.approx(1) and row["B spread N"] == pytest.approx(3)
    assert row["B half d=3"] == pytest.approx(17.5, rel=0.1) and row["B off d=9 N/d=64"] == 0.1


def test_discs_have_the_factors_that_they_say():
    f = factors(0, 6, "test")
    assert torch.equal(f[:2], factors(0, 2, "test")) and not torch.equal(f, factors(1, 6, "test"))
    x = drawn_discs(f)
    assert x.shape == (6, 3, 16, 16) and float(x.min()) >= -0.61 and float(x.max()) <= 1.0
    weight = (x - x[:, :, :1, :1]).abs().mean(1)
    column = (weight.sum(1) * torch.arange(16)).sum(1) / weight.sum((1, 2))
    assert torch.allclose(column, f[:, 4], atol=0.35)


def test_a_factor_explains_what_it_does_and_nothing_else():
    f = factors(0, 3, "test")
    for first, last in FACTORS.values():
        step = torch.zeros_like(f)
        step[:, first:last] = 0.01
        assert bool((explained(drawn_discs(f + step) - drawn_discs(f), f) > 0.99).all())
    noise = Noise(range(3))("change", 0, (3, 16, 16))
    assert bool((explained(noise, f) < 0.05).all())


def test_it_runs_on_the_cpu():
    with pytest.raises(ValueError, match="runs on the cpu"):
        paper.demonstrate(quick=True, seed=0, device="cuda", out=None, say=print)
