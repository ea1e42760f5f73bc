"""The demonstration of spatial-temporal attention runs at the smallest sizes, and measures what it says."""

from __future__ import annotations

import math

import pytest
import torch

from mezzotint.metric import layout_agreement
from mezzotint.papers import p2304_03869 as paper
from mezzotint.papers.claim import entries_of
from mezzotint.papers.ledger import LedgerEntry, strongest_verdict
from mezzotint.papers.spacetime_arms import condition, drawn, found, layouts, loss_of, scenes, train_scorer


@pytest.mark.slow
def test_it_measures_every_claim(monkeypatch, tmp_path):
    monkeypatch.setattr(paper, "QUICK", paper.Budget(2, 0.01, 2, 4, 2, 64, 2))
    lines: list[str] = []
    entries = paper.demonstrate(quick=True, seed=3, device="cpu", out=tmp_path, say=lines.append)
    assert len(entries) == 10 and len(lines) == 2 and (tmp_path / "icons-by-arm.png").is_file()
    for entry in entries:
        assert LedgerEntry.from_dict(entry.to_dict()) == entry
        assert entry.verdict == strongest_verdict(entry) and "Budget(trials=2" in entry.notes
        assert math.isfinite(entry.ours) and entry.notes


def test_the_detector_reads_scenes_as_they_were_drawn():
    some = scenes(0, 200, "test", alone=0.3)
    made = layout_agreement(found(drawn(some)), [scene.wanted for scene in some], radius=0.01)
    assert made.recall == made.attribute == made.relation == made.placed == 1
    assert 120 < made.pairs < 160 and all(len(s.icons) == 2 - (s.relation is None) for s in some)
    noisy = drawn(some) + 0.2 * torch.randn(200, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    assert layout_agreement(found(noisy), [scene.wanted for scene in some]).attribute > 0.95
    assert sum(map(len, found(torch.randn(50, 3, 8, 8, generator=torch.Generator().manual_seed(0))))) == 0


def test_captions_say_what_is_drawn_and_are_told_apart():
    some = scenes(1, 60, "test")
    for scene in some:
        (_, _, x, y), (_, _, u, v) = scene.icons
        gap = {"above": v - y, "below": y - v, "left of": u - x, "right of": x - u}[scene.relation]
        assert gap >= 3 and scene.caption == f"{scene.phrases[0]} {scene.relation} {scene.phrases[1]}"
    captions = sorted({scene.caption for scene in some})
    text = condition(captions)["text"].flatten(1)
    assert len(text.unique(dim=0)) == len(captions)


def test_the_true_picture_scores_better_than_another_once_the_scorer_has_learned():
    some = scenes(0, 32, "test")
    places = torch.tensor([scene.centres for scene in some])
    loss = loss_of(train_scorer(60, 0), some, places)
    x = drawn(some).requires_grad_()
    assert float(loss(x.detach()).mean()) < float(loss(drawn(some).roll(1, 0)).mean()) - 0.5
    (g,) = torch.autograd.grad(loss(x).sum(), x)
    assert bool((g.abs().amax((1, 2, 3)) > 0).all())


def test_layouts_are_inside_and_the_random_ones_know_nothing():
    some = scenes(0, 64, "test")
    made, row = layouts(0, 640, some)
    assert {name: tuple(places.shape) for name, places in made.items()} == dict.fromkeys(made, (64, 2, 2))
    assert bool((made["random"] >= 0.1875).all() and (made["random"] <= 0.8125).all())
    assert 0 <= row["predictor relation"] <= 1 and 0 <= row["predictor inside"] <= 1
    apart = (made["true"][:, 0] - made["true"][:, 1]).abs().amax(1)
    assert bool((apart >= 0.374).all())


def test_control_that_does_nothing_wins_nothing():
    names = ["plain", *paper.ARMS]
    row = {f"{name} {what}": 0.5 for name in names for what in ("attribute", "relation")} | {"predictor relation": 0.5}
    made = entries_of(
        "2304.03869", paper._claims([row, row], (0, 1)), quick=True, device="cpu", seconds=1.0, setting="s"
    )
    assert len(made) == 10 and all(entry.verdict in ("not shown", "contradicted") for entry in made)
