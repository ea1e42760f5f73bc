"""The demonstration of RED-diff runs at the smallest sizes, and states no more than its numbers carry."""

from __future__ import annotations

import pytest
import torch

from mezzotint.core import Flow, FlowDenoiser
from mezzotint.latent import Identity
from mezzotint.model import Model
from mezzotint.nn import UNet
from mezzotint.papers import p2305_04391 as paper
from mezzotint.papers.ledger import LedgerEntry, strongest_verdict
from mezzotint.papers.restoration_arms import Bench

pytest.importorskip("pyarrow")
TINY = paper.Budget(problems=2, draws=3, toy_steps=3, steps=2, images=2, chosen=1, swept=2)


@pytest.fixture
def small():
    """An untrained model in place of the shipped one."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = UNet(3, channels=8, mult=(1,), blocks=1, attention=(), head_dim=8)
    return Model(FlowDenoiser(net, Flow()), Identity(3), size=(16, 16)).eval()


def test_it_measures_every_claim(monkeypatch, small):
    monkeypatch.setattr(paper, "load", lambda name: small)
    monkeypatch.setattr(paper, "QUICK", TINY)
    monkeypatch.setattr(paper, "ZETAS", (0.1, 1.0))
    told: list[str] = []
    entries = paper.demonstrate(quick=True, seed=3, device="cpu", out=None, say=told.append)
    assert len(entries) == 15 and len(told) == 4 + 15 + 1
    for entry in entries:
        assert LedgerEntry.from_dict(entry.to_dict()) == entry
        assert entry.verdict == strongest_verdict(entry) and "Budget(problems=2" in entry.notes
    assert {e.scale for e in entries if e.claim.startswith("A")} == {"exact"}
    assert sum(e.claim.startswith("B inpaint") for e in entries) == 5


def test_pictures_masks_and_noise_are_paired(small):
    bench = Bench(small, 7, 2, {"test": 3, "val": 2})
    assert torch.equal(bench.pictures("test"), Bench(small, 7, 5, {"test": 5, "val": 0}).pictures("test")[:3])
    assert not torch.equal(bench.pictures("test"), Bench(small, 8, 2, {"test": 3}).pictures("test"))
    x, seeds = bench.pictures("test"), bench.seeds("test")
    known = bench.operator("inpaint", seeds)(torch.ones_like(x))
    assert torch.equal(known[1:2], bench.operator("inpaint", seeds[1:2])(torch.ones_like(x[:1])))
    share = 1 - known.mean((1, 2, 3))
    assert bool(((share > 0.25) & (share < 0.8)).all())
    assert {task: tuple(bench.operator(task, seeds)(x).shape[1:]) for task in ("sr4", "blur", "hdr")} == {
        "sr4": (3, 4, 4), "blur": (3, 16, 16), "hdr": (3, 16, 16)
    }  # fmt: skip


def test_it_runs_on_the_cpu():
    with pytest.raises(ValueError, match="runs on the cpu"):
        paper.demonstrate(quick=True, seed=0, device="cuda", out=None, say=print)
