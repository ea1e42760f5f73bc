"""The demonstration of diffusion with forward models: its measures, and no more than its numbers carry."""

from __future__ import annotations

from functools import partial

import pytest
import torch

from mezzotint.core import Noise
from mezzotint.data.flatland import Discs, FlatlandViews, flatland_camera
from mezzotint.nn.pixel_field import FlatlandNet
from mezzotint.papers import p2306_11719 as paper
from mezzotint.papers.claim import Claim
from mezzotint.papers.flatland_arms import energy_score, hidden
from mezzotint.papers.ledger import LedgerEntry, strongest_verdict


@pytest.mark.slow
def test_it_measures_every_claim(monkeypatch, tmp_path):
    monkeypatch.setattr(paper, "QUICK", paper.Budget(2, 0.5, 3, 2, 2))
    told: list[str] = []
    entries = paper.demonstrate(quick=True, seed=3, device="cpu", out=tmp_path, say=told.append)
    assert len(told) == 2 and len(entries) == 5 and (tmp_path / "flatland.png").is_file()
    for entry in entries:
        assert LedgerEntry.from_dict(entry.to_dict()) == entry and entry.verdict == strongest_verdict(entry)


def test_claims_hold_where_the_numbers_say_so():
    good = {
        "energy ours": 0.6, "energy deterministic": 1.0, "energy views": 0.7, "PSNR one": 10.0, "PSNR mean": 11.6,
        "PSNR deterministic": 12.0, "change ours": 0.1, "change views": 0.4, "change true": 0.1,
        "variance hidden": 4.0, "variance seen": 1.0,
    }  # fmt: skip
    claim = partial(Claim, seeds=(0, 1), scale="cpu-small")
    assert all(c.holds for c in paper._claims([good, good], claim))
    bad = {
        **good, "energy ours": 0.8, "PSNR mean": 11.4, "change ours": 0.2, "variance hidden": 2.0
    }  # fmt: skip
    assert not any(c.holds for c in paper._claims([bad, bad], claim))


def test_the_energy_score_prefers_the_right_law_to_a_point_and_to_another():
    noise = Noise(range(400))
    truth = noise("y", 0, (2,))
    right, wide = noise("a", 0, (6, 2)).transpose(0, 1), 2.0 * noise("a", 0, (6, 2)).transpose(0, 1)
    point = torch.zeros(1, 400, 2)
    scores = [float(energy_score(x, truth).mean()) for x in (right, wide, point)]
    assert scores[0] < scores[1] and scores[0] < scores[2]


def test_what_stands_behind_a_disc_is_hidden():
    scene = Discs(torch.tensor([[[0.3, 0.0]]]), torch.tensor([[0.2]]), torch.zeros(1, 1, 3))
    points = torch.tensor([[[-0.5, 0.0], [0.9, 0.0], [-0.2, 0.8]]])
    dark = hidden(scene, points, torch.zeros(1), flatland_camera())[0]
    assert dark[0] > 0.95 and dark[1] < 0.05 and dark[2] < 0.05


def test_the_field_depends_on_context_target_and_time_and_rows_do_not_mix():
    batch, camera = FlatlandViews(2)(0), flatland_camera(samples=6)
    torch.manual_seed(0)
    net = FlatlandNet(camera, features=8).eval()
    t = torch.tensor([0.4, 0.4])
    view = camera(net(batch.x, t, batch.c), batch.c["phi"])
    alone = camera(net(batch.x[1:], t[1:], batch.c.rows([1])), batch.c["phi"][1:])
    torch.testing.assert_close(view[1:], alone, rtol=0, atol=1e-5)
    assert not torch.allclose(view, camera(net(batch.x + 1, t, batch.c), batch.c["phi"]))
    assert not torch.allclose(view, camera(net(batch.x, t + 0.3, batch.c), batch.c["phi"]))
