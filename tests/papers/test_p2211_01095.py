"""The demonstration of DPM-Solver++ runs, and states no more than its numbers carry."""

from __future__ import annotations

import pytest

from mezzotint.core import Flow, FlowDenoiser, Noise
from mezzotint.latent import Identity
from mezzotint.model import Model
from mezzotint.nn import UNet
from mezzotint.nn.conditioner import TextConditioner, train_vocabulary
from mezzotint.papers import p2211_01095 as paper
from mezzotint.papers.ledger import LedgerEntry, strongest_verdict
from mezzotint.sample import NAMED


def tiny(name: str) -> Model:
    """In place of a shipped model: random weights, so that a guided prediction depends on the words."""
    text = TextConditioner(train_vocabulary(["red heart", "a cat"], size=60), length=24, width=8, depth=1, heads=2)
    net = UNet(3, channels=8, mult=(1,), blocks=1, context=8, pooled=8, attention=())
    model = Model(FlowDenoiser(net, Flow()), Identity(3), text, size=(4, 4), name=name)
    for i, p in enumerate(model.parameters()):
        p.data = 0.2 * Noise([i])("w", 0, p.shape)[0]
    return model.eval()


@pytest.mark.slow
def test_it_measures_every_claim(monkeypatch):
    small = paper.Budget(beds=2, draws=8, fine=100, samples=2, nfe=(10, 20), weights=(1.0, 8.0), fine_model=22)
    monkeypatch.setattr(paper, "QUICK", small)
    monkeypatch.setattr(paper, "load", tiny)
    monkeypatch.setattr(paper, "NAMES", ("ddim", "dpm-2s", "dpmpp-2m"))
    monkeypatch.setattr(paper, "TOY_NFE", (10, 20, 50))
    told: list[str] = []
    entries = paper.demonstrate(quick=True, seed=3, device="cpu", out=None, say=told.append)
    assert [entry.claim[:2] for entry in entries] == ["A:"] * 5 + ["B:"] * 4
    assert len(told) == 3 * 3 + 5 * 3 and all("ddim" in line.lower() for line in told)
    for entry in entries:
        assert LedgerEntry.from_dict(entry.to_dict()) == entry
        assert entry.verdict == strongest_verdict(entry) and entry.notes
    single_step, two_m, lowered, even, third = entries[:5]
    # known without a solver's help: these do not depend on the budget
    assert single_step.verdict == two_m.verdict == "shown" and even.baseline > 8 * even.ours
    assert lowered.verdict != "shown" and lowered.baseline == two_m.baseline
    assert third.baseline == pytest.approx(2, abs=0.1) and third.ours == pytest.approx(3, abs=0.1)
    assert all(entry.scale == "exact" and entry.seeds in ((3, 4), ()) for entry in entries[:5])
    assert all(entry.scale == "cpu-small" and len(entry.seeds) == 2 for entry in entries[5:])


def test_every_solver_is_a_named_one():
    assert set(paper.NAMES) <= set(NAMED)


def test_it_refuses_a_gpu():
    with pytest.raises(ValueError, match="one thread of the cpu"):
        paper.demonstrate(quick=True, seed=0, device="cuda", out=None, say=print)
