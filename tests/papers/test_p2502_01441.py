"""The demonstration of improved latent consistency training runs, and states no more than its numbers carry."""

from __future__ import annotations

import builtins

import pytest
import torch
from torch import Tensor

from mezzotint.core import VE, BoundaryDenoiser
from mezzotint.papers import consistency_arms
from mezzotint.papers import p2502_01441 as paper
from mezzotint.papers.ledger import LedgerEntry, strongest_verdict


def fresh(arm: consistency_arms.Arm, z: Tensor, *, seed: int, **budget: object) -> tuple[BoundaryDenoiser, float, int]:
    """In place of training: a consistency function that shrinks by its objective's name and the seed."""
    shrink = 0.1 + len(repr(arm)) % 7 / 10 + seed / 100
    return BoundaryDenoiser(lambda x, time, c: shrink * torch.tanh(x), VE()), 0.1, 4


@pytest.mark.parametrize("training", [pytest.param(True, marks=pytest.mark.slow), False])
def test_it_measures_every_claim(monkeypatch, training):
    pytest.importorskip("scipy")
    if not training:
        monkeypatch.setattr(paper, "trained", fresh)
    monkeypatch.setattr(paper, "QUICK", paper.Budget(40, 1, steps=4, s1=80, batch=4, samples=8))
    monkeypatch.setattr(paper, "SEEDS", 2)
    monkeypatch.setattr(consistency_arms, "HEUN", 3)
    told: list[str] = []
    entries = paper.demonstrate(quick=True, seed=3, device="cpu", out=None, say=told.append)
    assert len(told) == 2 + 2 * (7 + 2) and len(entries) == 9
    assert all(entry.seeds == (3, 4) for entry in entries)
    huber, control, *parts, recall, second, diffusion = entries
    chain = [huber, *parts]
    assert all(later.baseline == before.ours for before, later in zip(chain, chain[1:]))
    assert second.baseline == chain[-1].ours == diffusion.ours and second.ours != second.baseline
    assert recall.direction == control.direction == "higher"
    for entry in entries:
        assert LedgerEntry.from_dict(entry.to_dict()) == entry and entry.verdict == strongest_verdict(entry)
        assert "kurtosis" in entry.notes and "statistics" in entry.notes
    for entry in chain:
        assert entry.notes.startswith(f"{entry.ours / entry.baseline:.3g} of the baseline")


def test_the_arms_differ_by_one_part_each():
    arms = consistency_arms.arms(40, 80)
    names = list(arms)
    assert names == ["Huber", "Cauchy", "+ anchor", "+ OT", "+ adaptive c", "+ NsLN", "diffusion"]
    for before, after in zip(names[:4], names[1:5]):
        a, b = arms[before].objective, arms[after].objective
        assert sum(getattr(a, f) != getattr(b, f) for f in a.__dataclass_fields__) == 1
    assert arms["+ NsLN"].objective == arms["+ adaptive c"].objective and not arms["+ NsLN"].gains


def test_it_counts_processor_seconds_and_so_refuses_a_gpu():
    with pytest.raises(ValueError, match="of the cpu"):
        paper.demonstrate(quick=True, seed=0, device="cuda", out=None, say=print)


def test_without_scipy_it_ends_at_once(monkeypatch):
    real = builtins.__import__

    def without(name, *args, **kwargs):
        if name.startswith("scipy"):
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ImportError, match=r"mezzotint\[metrics\]"):
        paper.demonstrate(quick=False, seed=0, device="cpu", out=None, say=print)
