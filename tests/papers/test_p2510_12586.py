"""The demonstration of EPG runs at the smallest sizes, and states no more than its numbers carry."""

from __future__ import annotations

import pytest

from mezzotint.papers import p2510_12586 as paper
from mezzotint.papers.ledger import LedgerEntry, strongest_verdict


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:a contrastive loss over:UserWarning")
def test_it_measures_every_claim(monkeypatch):
    tiny = paper.Budget(seeds=2, scenes=300, held=100, features=2, pretrain=2, early=1, late=2, samples=12, heun=2)
    monkeypatch.setattr(paper, "QUICK", tiny)
    told: list[str] = []
    entries = paper.demonstrate(quick=True, seed=3, device="cpu", out=None, say=told.append)
    assert len(entries) == 6 and len(told) == 2
    for entry in entries:
        assert LedgerEntry.from_dict(entry.to_dict()) == entry
        assert entry.verdict == strongest_verdict(entry) and "Budget(seeds=2" in entry.notes
        assert entry.seeds == (3, 4) and entry.scale == "cpu-small"


def _numbers():
    probes = {arm: [[0.9, 0.8, level, level / 2]] * 2 for arm, level in (("contrast", 0.4), ("EPG", 0.6))}
    distances = {
        ("scratch", "early"): [8.0, 4.0], ("scratch", "late"): [2.0, 2.0], ("scratch", "equal"): [1.0, 1.0],
        ("contrast", "early"): [1.0, 3.0], ("EPG", "early"): [2.0, 2.0], ("EPG", "late"): [1.0, 2.5],
    }  # fmt: skip
    return probes, distances


def test_claims_hold_where_the_numbers_say_so():
    probes, distances = _numbers()
    probe, early, late, contrast, gain, equal = paper._claims(probes, distances, (0, 1), paper.QUICK)
    assert probe.holds and probe.direction == "higher"
    assert list(probe.ours) == pytest.approx([0.45, 0.45]) and list(probe.baseline) == pytest.approx([0.3, 0.3])
    assert early.holds and list(early.ours) == [2.0, 2.0]
    assert not late.holds  # nearer on the mean, but not in every seed
    assert not contrast.holds and not equal.holds and list(equal.baseline) == [1.0, 1.0]
    assert list(gain.baseline) == [2.0, 1.0] and gain.holds


def test_a_tenth_is_asked_of_the_mean():
    probes, distances = _numbers()
    distances["scratch", "early"] = [2.1, 2.1]  # nearer in every seed, by less than a tenth
    assert not paper._claims(probes, distances, (0, 1), paper.QUICK)[1].holds


def test_it_counts_processor_seconds_and_so_refuses_a_gpu():
    with pytest.raises(ValueError, match="runs on the cpu"):
        paper.demonstrate(quick=True, seed=0, device="cuda", out=None, say=print)
