"""The demonstration of DualFast runs, its exact part says what the sheet found, and nothing exceeds the numbers."""

from __future__ import annotations

import pytest

from mezzotint.papers import p2506_13058 as paper
from mezzotint.papers.ledger import LedgerEntry, strongest_verdict


@pytest.mark.slow
def test_it_measures_every_claim(monkeypatch):
    small = paper.Budget(scenes=300, feature_steps=2, short=0.1, long=0.2, samples=12, few=2, many=2, floor=3)
    monkeypatch.setattr(paper, "QUICK", small)
    told: list[str] = []
    entries = paper.demonstrate(quick=True, seed=3, device="cpu", out=None, say=told.append)
    assert [entry.claim[:2] for entry in entries] == ["A:"] * 5 + ["B:"] * 9
    assert len(told) == 3 * 6 + 2 * 5 + 1 and "best" in told[18] and "discretization" in told[-1]
    for entry in entries:
        assert LedgerEntry.from_dict(entry.to_dict()) == entry
        assert entry.verdict == strongest_verdict(entry) and entry.notes
    # stage A of the sheet: known without a network, so it does not depend on the budget
    verdicts = [entry.verdict for entry in entries[:5]]
    assert verdicts == ["shown", "shown", "contradicted", "shown", "contradicted"]
    few, _, _, narrow, wide = entries[:5]
    measured = [(e.baseline, e.ours) for e in (few, narrow, wide)]
    sheet = [(0.140, 0.097), (0.076, 0.047), (0.067, 0.104)]
    for pair, expected in zip(measured, sheet, strict=True):
        assert pair == pytest.approx(expected, abs=0.01)  # the sheet's draws have a W2 of 0.014 among themselves
    assert all(entry.scale == "exact" and entry.interval is None for entry in entries[:5])
    assert all(entry.seeds == (4, 5, 6) and entry.interval is not None for entry in entries[5:])


@pytest.mark.slow
def test_a_narrow_network_alone_gains_below_its_floor():
    told: list[str] = []
    found = paper._toy("narrow", told.append)
    floor = found["DDIM", 1000][0]
    assert found["first .1", 200][0] < 0.7 * floor and found["first .25", 200][0] < floor
    assert found["prev .5", 200][0] > 0.95 * floor  # extrapolation removes the solver's error and nothing else
    assert len(told) == 6


def test_it_counts_processor_seconds_and_so_refuses_a_gpu():
    with pytest.raises(ValueError, match="runs on the cpu"):
        paper.demonstrate(quick=True, seed=0, device="cuda", out=None, say=print)
