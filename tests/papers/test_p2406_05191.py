"""The demonstration of planted words runs at the smallest sizes, and states no more than its numbers carry."""

from __future__ import annotations

import math

import pytest
import torch

from mezzotint.papers import p2406_05191 as paper
from mezzotint.papers.ledger import LedgerEntry, strongest_verdict
from mezzotint.papers.pid_arms import drawn_words, overlap, told, truth, words_of


@pytest.mark.slow
def test_it_measures_every_claim(monkeypatch, tmp_path):
    monkeypatch.setattr(paper, "QUICK", paper.Budget(2, 0.01, 11, 2, 1))
    lines: list[str] = []
    entries = paper.demonstrate(quick=True, seed=3, device="cpu", out=tmp_path, say=lines.append)
    assert len(entries) == 9 and len(lines) == 2 and (tmp_path / "words.png").is_file()
    for entry in entries:
        assert LedgerEntry.from_dict(entry.to_dict()) == entry
        assert entry.verdict == strongest_verdict(entry) and "Budget(trials=2" in entry.notes
        assert math.isfinite(entry.ours) and entry.notes
    assert "disc, circle: true r 0.6931" in entries[0].notes
    assert all(entry.scale == "cpu-small" for entry in entries)


def test_the_truth_is_that_of_the_sheet():
    ln2 = math.log(2)
    assert truth(0, 1, 0.9) == pytest.approx((ln2, 0, 0, 0), abs=1e-12)  # synonyms
    assert truth(5, 6, 0.9) == pytest.approx((0, 0, 0, ln2), abs=1e-12)  # exclusive or
    shared = ln2 + 0.9 * math.log(0.9) + 0.1 * math.log(0.1)
    assert truth(2, 3, 0.9) == pytest.approx((2 * shared, ln2 - shared, ln2 - shared, 0), abs=1e-12)
    assert truth(2, 3, 0.5) == pytest.approx((0, ln2, ln2, 0), abs=1e-12)
    assert truth(0, 5, 0.9) == pytest.approx((0, ln2, 0, 0), abs=1e-12)


def test_scenes_show_their_words():
    words = words_of(0, 200, 0.9, "test")
    assert torch.equal(words[:, 0], words[:, 1]) and int((words[:, 2] == words[:, 3]).sum()) in (179, 180, 181)
    x, masks = drawn_words(words, 0, "test")
    assert torch.equal((x[:, :, 0, 0] > 0.8).all(1), words[:, 5] ^ words[:, 6])
    inside = (x * masks["object"][:, None]).sum((2, 3)) / masks["object"].sum((1, 2))[:, None]
    assert torch.equal(inside[:, 0] > inside[:, 2], words[:, 2])
    column = (masks["object"].sum(1) * torch.arange(16)).sum(1) / masks["object"].sum((1, 2))
    assert torch.equal(column < 8, words[:, 4])
    yellow = ((x[:, 0] > 0.85) & (x[:, 2] < 0)).flatten(1).any(1)
    assert torch.equal(yellow, words[:, 3])


def test_what_is_not_told_leaves_no_trace():
    words = words_of(0, 4, 0.9, "test")
    keep = torch.zeros_like(words)
    assert len(set(map(tuple, told(words, keep)["tokens"].tolist()))) == 1
    keep[:, 2] = True
    assert torch.equal(told(words, keep)["tokens"][:, 3] == 6, words[:, 2])


def test_overlap_by_hand():
    mask = torch.tensor([[[True, True], [False, False]]])
    assert overlap(torch.tensor([[[3.0, 2.0], [1.0, 0.0]]]), mask) == 1
    assert overlap(torch.tensor([[[3.0, 0.0], [1.0, 0.0]]]), mask) == pytest.approx(1 / 3)


def test_it_runs_on_the_cpu():
    with pytest.raises(ValueError, match="runs on the cpu"):
        paper.demonstrate(quick=True, seed=0, device="cuda", out=None, say=print)
