"""The demonstration of the medical survey: how slices are measured, what is trained, what its numbers may claim."""

from __future__ import annotations

from functools import partial

import pytest
import torch

from mezzotint.core import Noise, Simplex
from mezzotint.metric import psnr
from mezzotint.papers import p2211_07804 as paper
from mezzotint.papers.claim import Claim
from mezzotint.papers.ledger import LedgerEntry, strongest_verdict
from mezzotint.papers.medical_arms import MedicalArms, body_psnr, measured, reread, tossed
from mezzotint.restore import total_variation


@pytest.mark.slow
def test_it_measures_every_claim(monkeypatch, tmp_path):
    monkeypatch.setattr(paper, "QUICK", paper.Budget(2, 0.3, 20, 2, 2, 2, 2, 1, 2, 3))
    monkeypatch.setattr(paper, "WEIGHTS", (0.01, 0.1))
    lines: list[str] = []
    entries = paper.demonstrate(quick=True, seed=3, device="cpu", out=tmp_path, say=lines.append)
    assert "nothing here is a medical device" in lines[0] and len(lines) == 4 and len(entries) == 8
    assert (tmp_path / "reconstruction.png").is_file()
    for entry in entries:
        assert LedgerEntry.from_dict(entry.to_dict()) == entry and entry.verdict == strongest_verdict(entry)


def test_claims_hold_where_the_numbers_say_so():
    claim = partial(Claim, seeds=(0, 1), scale="cpu-small", direction="higher")
    good = {
        "mri 4 prior": 30.0, "mri 4 plain": 25.9, "mri 8 prior": 20.1, "mri 8 supervised": 21.0, "all prior": 25.0,
        "all TV": 24.0, "mri 4 spearman": 0.4, "AUPRC 5 to 6 simplex": 0.5, "AUPRC 5 to 6 normal": 0.4,
        "Dice many": 0.82, "Dice one": 0.8, "GED many": 0.2, "GED coins": 0.4,
    }  # fmt: skip
    made = paper._claims([good, good], claim)
    assert len(made) == 7 and all(c.holds for c in made)
    bad = {
        "mri 4 prior": 29.8, "mri 4 plain": 25.9, "mri 8 prior": 19.9, "mri 8 supervised": 21.0, "all prior": 23.0,
        "all TV": 24.0, "mri 4 spearman": 0.2, "AUPRC 5 to 6 simplex": 0.3, "AUPRC 5 to 6 normal": 0.4,
        "Dice many": 0.805, "Dice one": 0.8, "GED many": 0.5, "GED coins": 0.4,
    }  # fmt: skip
    assert not any(c.holds for c in paper._claims([bad, bad], claim))
    assert "Dice" in made[-1].note and "mri" not in made[-1].note and "AUPRC" not in made[0].note


def test_a_slice_is_measured_and_the_plain_picture_is_worse_than_tv():
    x = MedicalArms(0, 0.0, 4).slices("test", 3).t1
    noise = {}
    for task in paper.TASKS:
        seen = measured(x, task, [1, 2, 3])
        off = seen.y - seen.operator(x)
        sampled = seen.operator.keep(torch.ones_like(seen.y)) > 0 if "mri" in task else torch.ones_like(off) > 0
        noise[task] = float(off[sampled].std()) / seen.std
        if task != "mri 8":  # four columns are too few for TV
            best = total_variation(seen.operator, seen.y, seen.std, steps=60, low=-1.0, high=1.0)
            assert float(psnr(best, x).mean()) > float(psnr(seen.plain.clamp(-1, 1), x).mean())
        one = measured(x[1:2], task, [2])
        torch.testing.assert_close(one.plain, seen.plain[1:2], rtol=0, atol=1e-5)
    assert all(0.9 < value < 1.1 for value in noise.values()), noise
    assert float(psnr(measured(x, "ct 20", [1, 2, 3]).plain, x).mean()) > 15  # the density is taken back to [-1, 1]


def test_arms_share_phantoms_and_differ_in_what_they_say():
    arms = MedicalArms(5, 0.02, 6)
    assert torch.equal(arms.slices("train", 6).t1, arms._healthy) and not torch.equal(
        arms.slices("test", 6).t1, arms._healthy
    )
    assert torch.equal(arms._ill.tissue, arms.slices("train", 6).tissue)  # healthy twins of the same patients
    batch, rows = arms._annotated(0), arms._rows(0)
    drawn = arms._ill.annotations[rows]
    which = [[bool(torch.equal(m > 0, drawn[i, j][None])) for j in range(3)] for i, m in enumerate(batch.x)]
    assert all(any(row) for row in which) and len({row.index(True) for row in which}) > 1
    before = [p.clone() for p in arms.prior().parameters()]
    after = list(arms.prior(Simplex()).parameters())
    assert any(not torch.equal(a, b) for a, b in zip(before, after))


def test_small_measures():
    truth = MedicalArms(0, 0.0, 4).slices("test", 2)
    assert body_psnr(torch.where(truth.body, truth.t1 + 0.2, truth.t1 + 9.0), truth) == pytest.approx(20.0, abs=1e-3)
    p = torch.tensor([0.0, 0.25, 1.0]).view(1, 1, 3).expand(1, 40, 3)
    masks = tossed(p, 50, 0)
    share = masks.float().mean((0, 1, 2))
    assert share[0] == 0 and share[2] == 1 and float(share[1]) == pytest.approx(0.25, abs=3 * (0.1875 / 2000) ** 0.5)
    label = Noise([0]).uniform("label", 0, (4, 6, 5))[0] > 0.5
    assert reread(label) < 1e-6


def test_it_runs_on_the_cpu():
    with pytest.raises(ValueError, match="runs on the cpu"):
        paper.demonstrate(quick=True, seed=0, device="cuda", out=None, say=print)
