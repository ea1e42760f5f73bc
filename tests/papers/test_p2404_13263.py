"""The demonstration of FilterPrompt runs at the smallest sizes, and measures what it says it measures."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from mezzotint.edit.filters import parse
from mezzotint.papers import p2404_13263 as paper
from mezzotint.papers.claim import entries_of
from mezzotint.papers.filter_arms import (
    ARMS,
    CHAIN,
    ICONS,
    appearance_of,
    filled,
    measured,
    read_texture,
    scenes,
    structure_of,
)
from mezzotint.papers.ledger import LedgerEntry, strongest_verdict


@pytest.mark.slow
def test_it_measures_every_claim(monkeypatch, tmp_path):
    monkeypatch.setattr(paper, "QUICK", paper.Budget(2, 0.01, 6, 2, 12))
    lines: list[str] = []
    entries = paper.demonstrate(quick=True, seed=3, device="cpu", out=tmp_path, say=lines.append)
    assert len(entries) == 12 and len(lines) == 2 and (tmp_path / "arms.png").is_file()
    for entry in entries:
        assert LedgerEntry.from_dict(entry.to_dict()) == entry
        assert entry.verdict == strongest_verdict(entry) and "Budget(trials=2" in entry.notes
        assert math.isfinite(entry.ours) and entry.scale == "cpu-small"


def test_targets_are_icons_filled_with_the_texture_of_the_patch():
    f = scenes(0, 120, "test")
    assert set(f.icon.tolist()) == set(range(ICONS)) and set(f.texture.tolist()) == {0, 1, 2}
    x, a, inside = filled(f), appearance_of(f), f.cover == 1
    assert float((x[(f.cover == 0).expand(-1, 3, -1, -1)] - 1).abs().max()) == 0
    area = inside.sum((1, 2, 3))
    assert int(area.min()) >= 12 and int(area.max()) <= 130
    for k in range(0, 120, 9):
        palette = torch.stack([f.first[k], f.second[k]])
        for picture, where in ((x[k], inside[k, 0]), (a[k], torch.ones(16, 16, dtype=torch.bool))):
            away = (picture[:, where].T[:, None] - palette).norm(dim=2).amin(1)
            assert float(away.max()) < 1e-6
    assert not torch.equal(f.phase[:, 0], f.phase[:, 1])


def test_the_leak_is_planted_in_half_and_prompts_of_the_test_conflict():
    f = scenes(1, 400, "train", planted=0.5)
    mean = torch.where((f.texture == 1)[:, None], 0.75 * f.first + 0.25 * f.second, (f.first + f.second) / 2)
    same = (f.flat - mean).norm(dim=1) < 1e-5
    assert 0.42 < float(same.double().mean()) < 0.58
    clean, g = scenes(1, 400, "train"), scenes(1, 400, "test", conflict=True)
    assert torch.equal(clean.cover, f.cover) and torch.equal(clean.flat[~same], f.flat[~same])
    mean = torch.where((g.texture == 1)[:, None], 0.75 * g.first + 0.25 * g.second, (g.first + g.second) / 2)
    assert float(((g.flat - mean).norm(dim=1) > 0.5).double().mean()) > 0.97


def test_what_is_wanted_measures_right_and_what_leaks_measures_wrong():
    f = scenes(0, 64, "test", conflict=True)
    right, wrong = measured(filled(f), f), measured(structure_of(f), f)
    assert right["IoU"] == 1 and wrong["IoU"] > 0.93
    assert abs(right["chroma_leak"]) < 0.15 and wrong["chroma_leak"] == pytest.approx(1, abs=1e-4)
    assert right["palette error"] < 12 < 40 < wrong["palette error"]
    assert right["texture"] > 0.93
    moved = measured(filled(replace(f, cover=f.cover.roll(4, 3))), f)
    assert moved["IoU"] < 0.7 and moved["structure"] < right["structure"] - 0.3


def test_textures_are_read_in_any_phase_and_not_where_there_is_none():
    f = scenes(2, 300, "read")
    there = (f.cover > 0.5).float()
    assert float((read_texture(filled(f), there) == f.texture).double().mean()) > 0.95
    faint = 0.02 * filled(f) + 0.3
    assert float((read_texture(faint, there) == f.texture).double().mean()) > 0.95
    noise = torch.randn(300, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    assert float((read_texture(noise, there) == 2).double().mean()) > 0.97
    blurred = parse("blur:3")(appearance_of(f))
    assert float(blurred.std((2, 3)).mean()) < 0.15 * float(appearance_of(f).std((2, 3)).mean())


def test_an_arm_that_does_nothing_wins_nothing():
    row = {
        f"{net}/{arm} {what}": 0.0
        for net in paper.NETS
        for arm in ARMS
        for what in ("chroma_leak", "colour_leak", "IoU", "palette error", "texture")
    }
    row |= {f"{arm} {what} probed": 0.0 for arm in ("none", "grey", "chain") for what in ("hue", "icon")}
    made = entries_of(
        "2404.13263", paper._claims([row, row], (0, 1)), quick=True, device="cpu", seconds=1.0, setting="s"
    )
    assert len(made) == 12 and all(entry.verdict in ("not shown", "contradicted") for entry in made)


def test_it_runs_on_the_cpu_and_its_arms_are_filters():
    with pytest.raises(ValueError, match="runs on the cpu"):
        paper.demonstrate(quick=True, seed=0, device="cuda", out=None, say=print)
    assert ARMS["none"] == (None, None) and str(parse(CHAIN)) == "desaturate|invert|contrast:1.5,mean"
