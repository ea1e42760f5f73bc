"""The demonstration of CycleDiffusion runs at the smallest sizes, and measures what it says it measures."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from mezzotint.core import VP, GaussianMixture, Noise
from mezzotint.papers import p2210_05559 as paper
from mezzotint.papers.claim import entries_of
from mezzotint.papers.cycle_arms import ARMS, apart, at_level, drawn, edited, measured, scenes
from mezzotint.papers.ledger import LedgerEntry, strongest_verdict


@pytest.mark.slow
def test_it_measures_every_claim(monkeypatch, tmp_path):
    monkeypatch.setattr(paper, "QUICK", paper.Budget(2, 0.01, 6, 4, (0.5, 1.0), 4, 3))
    lines: list[str] = []
    entries = paper.demonstrate(quick=True, seed=3, device="cpu", out=tmp_path, say=lines.append)
    assert len(entries) == 8 and len(lines) == 2 and (tmp_path / "discs-to-squares.png").is_file()
    for entry in entries:
        assert LedgerEntry.from_dict(entry.to_dict()) == entry
        assert entry.verdict == strongest_verdict(entry) and "Budget(trials=2" in entry.notes
        assert math.isfinite(entry.ours) and entry.notes
    assert [entry.scale for entry in entries] == ["cpu-small"] * 7 + ["exact"]


@pytest.mark.parametrize("shape", [0, 1])
def test_pictures_are_read_as_they_were_drawn(shape):
    f = scenes(0, 200, "test", shape)
    m = measured(drawn(f))
    assert float((m.shape == shape).double().mean()) > 0.98
    assert float((m.centre - f.centre).norm(dim=1).max()) < 0.2 and float((m.size - f.size).abs().max()) < 0.3
    assert float((m.colour - f.colour).abs().max()) < 1e-4 and float((m.ground - f.ground).abs().max()) < 1e-4


def test_figures_are_those_of_the_scene_and_are_seen():
    hue = torch.arange(100) % 2 == 1
    f = scenes(1, 100, "words", None, hue)
    assert torch.equal(f.colour[:, 0] > f.colour[:, 2], hue) and 20 < int(f.shape.sum()) < 80
    plain = scenes(1, 300, "test", 0)
    assert float((plain.colour - plain.ground).norm(dim=1).min()) > 0.25 and not torch.equal(
        plain.size, scenes(2, 300, "test", 0).size
    )


def test_nothing_kept_is_an_error_of_one():
    f, other = scenes(0, 400, "test", 0), scenes(0, 400, "other", 0)
    assert 0.9 < apart(other.centre, f.centre) < 1.1 and apart(f.centre, f.centre) == 0


def test_the_level_is_read_between_starts():
    made = [(0.1, 0.2), (0.5, 0.4), (0.9, 0.8)]
    assert at_level(0.7, made) == pytest.approx(0.6) and at_level(0.05, made) == 0.2
    assert at_level(0.9, made) == pytest.approx(0.8) and at_level(0.95, made) == 0.8
    assert at_level(0.5, [(0.9, 0.3)]) == 0.3


def test_an_arm_that_does_nothing_wins_nothing():
    row = {f"A matched {arm}": 0.0 for arm in ARMS} | {"B turned cycle": 0.0, "C rare asked": 0.0}
    row |= {f"B {what} {name}, turned": 0.0 for what in ("centre", "size") for name in ("cycle", "SDEdit")}
    claims = paper._claims([row, row], (0, 1))
    made = entries_of("2210.05559", claims, quick=True, device="cpu", seconds=1.0, setting="s")
    assert len(made) == 8 and all(entry.verdict in ("not shown", "contradicted") for entry in made)


@pytest.mark.parametrize("arm", ARMS)
def test_every_arm_costs_the_same_and_lands_on_the_target(arm):
    seen = []
    exact = GaussianMixture(drawn(scenes(0, 2, "icons", 1)), torch.full((2,), 0.05)).denoiser(VP())
    exact.register_forward_hook(lambda *_: seen.append(1))
    x, start = drawn(scenes(0, 5, "test", 0)), 0.8
    y = edited(arm, exact, exact, x, Noise(range(5)), 10, start)
    assert len(seen) == (20 if arm == "random" else 16) and y.shape == x.shape
    again = edited(arm, exact, exact, x[2:3], Noise([2]), 10, start)
    torch.testing.assert_close(again[0], y[2], rtol=0, atol=1e-4)
    if arm.startswith("cycle"):
        torch.testing.assert_close(y, x, rtol=0, atol=1e-5)


def test_it_runs_on_the_cpu_and_knows_its_arms():
    with pytest.raises(ValueError, match="runs on the cpu"):
        paper.demonstrate(quick=True, seed=0, device="cuda", out=None, say=print)
    with pytest.raises(ValueError, match="unknown arm 'magic'"):
        d = GaussianMixture(drawn(scenes(0, 2, "icons")), torch.ones(2)).denoiser(VP())
        edited("magic", d, d, drawn(scenes(0, 1, "test")), Noise([0]), 4, 0.5)
    assert replace(scenes(0, 1, "test"), size=torch.ones(1)).size == 1
