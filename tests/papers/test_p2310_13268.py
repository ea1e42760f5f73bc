"""The demonstration of DPM-Solver-v3 runs at the smallest sizes, and states no more than its numbers carry."""

from __future__ import annotations

import math

import pytest
import torch

from mezzotint.core import Flow, VDenoiser
from mezzotint.latent import Identity
from mezzotint.model import Model
from mezzotint.nn import UNet
from mezzotint.nn.conditioner import TextConditioner, train_vocabulary
from mezzotint.papers import p2310_13268 as paper
from mezzotint.papers.ledger import LedgerEntry, strongest_verdict

TINY = paper.Budget(
    levels=30, per_level=64, draws=16, model_levels=32, model_per_level=2, data=2, data_steps=2, samples=2, fine=12
)


@pytest.fixture
def small():
    """An untrained model in place of the shipped one."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        text = TextConditioner(
            train_vocabulary(["a red heart"], size=60, whole=1), length=24, width=8, depth=1, heads=1
        )
        net = UNet(2, channels=8, mult=(1,), blocks=1, attention=(1,), head_dim=8, context=8, pooled=8)
        for parameter in net.parameters():
            if not parameter.any():
                torch.nn.init.normal_(parameter, std=0.05)
    return Model(VDenoiser(net, Flow()), Identity(2), text, size=(4, 4)).eval()


def test_it_measures_every_claim(monkeypatch, small):
    monkeypatch.setattr(paper, "load", lambda name: small)
    monkeypatch.setattr(paper, "QUICK", TINY)
    monkeypatch.setattr(paper, "TOY_NFE", (5, 10))
    monkeypatch.setattr(paper, "NFE", (5, 10))
    monkeypatch.setattr(paper, "FEW", {"A": (5, 10), "B": (5,)})
    told: list[str] = []
    # 20 evaluations need more levels than the smallest calibration has
    monkeypatch.setattr(paper, "_others", _without_twenty(paper._others))
    entries = paper.demonstrate(quick=True, seed=3, device="cpu", out=None, say=told.append)
    assert len(entries) == 12 and len(told) == 4
    for entry in entries:
        assert LedgerEntry.from_dict(entry.to_dict()) == entry
        assert entry.verdict == strongest_verdict(entry) and "Budget(levels=30" in entry.notes
    exact = [e for e in entries if e.claim.startswith("A")]
    assert {e.scale for e in exact} == {"exact"} and all(e.seeds == (3, 4) for e in exact)
    first = next(e for e in exact if "DDIM" in e.claim)
    assert first.ours < first.baseline
    shuffled = next(e for e in exact if "shuffled" in e.claim)
    assert shuffled.direction == "higher" and shuffled.ours > shuffled.baseline


def _without_twenty(others):
    def made(part, claim, errors):
        more = {(name, 20): values for (name, n), values in errors.items() if n == 10}
        return others(part, claim, more | errors)

    return made


def test_gains_and_means_are_of_each_seed():
    errors = {("2M", n): [4.0, 8.0] for n in (5, 6)} | {("v3-2", 5): [1.0, 4.0], ("v3-2", 6): [2.0, 1.0]}
    assert paper._gain(errors, (5, 6), "v3-2") == [1.5, 2.0]
    assert paper._rows(errors, "v3-2") == "v3-2: 2.5 1.5"
    assert math.isclose(paper._gain(errors, (5,), "v3-2")[1], 1.0)


def test_it_runs_on_one_thread_of_the_cpu():
    with pytest.raises(ValueError, match="one thread of the cpu"):
        paper.demonstrate(quick=True, seed=0, device="cuda", out=None, say=print)
