"""The demonstration of latent diffusion runs, and states no more than its numbers carry."""

from __future__ import annotations

import pytest

from mezzotint.papers import p2112_10752 as paper
from mezzotint.papers.ledger import LedgerEntry, strongest_verdict


def test_it_measures_every_claim(monkeypatch):
    monkeypatch.setattr(
        paper, "QUICK", paper.Budget(scenes=1100, feature_steps=2, autoencoder=0.1, unet=0.1, samples=12)
    )
    told: list[str] = []
    entries = paper.demonstrate(quick=True, seed=3, device="cpu", out=None, say=told.append)
    assert [entry.claim[:2] for entry in entries] == ["A:", "A:", "A:", "B:"]
    assert len(told) == 15 and all(entry.seeds == (3, 4, 5) for entry in entries)
    pixels, speed, coarse, unscaled = entries
    assert speed.direction == "higher" and speed.ours > speed.baseline  # a sixteenth of the pixels cannot be slower
    assert pixels.ours == coarse.ours == unscaled.ours and pixels.baseline != coarse.baseline
    for entry in entries:
        assert LedgerEntry.from_dict(entry.to_dict()) == entry
        assert entry.verdict == strongest_verdict(entry) and "needed" in entry.notes
        better = entry.baseline / entry.ours if entry.direction == "lower" else entry.ours / entry.baseline
        assert f"{better:.3g}x" in entry.notes


def test_it_counts_processor_seconds_and_so_refuses_a_gpu():
    with pytest.raises(ValueError, match="runs on the cpu"):
        paper.demonstrate(quick=True, seed=0, device="cuda", out=None, say=print)
