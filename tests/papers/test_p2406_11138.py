"""The demonstration of the low-level survey: what is drawn and measured, what its numbers may claim."""

from __future__ import annotations

from functools import partial

import pytest
import torch

from mezzotint.core import Noise
from mezzotint.papers import p2406_11138 as paper
from mezzotint.papers.claim import Claim
from mezzotint.papers.ledger import LedgerEntry, strongest_verdict
from mezzotint.papers.low_level_arms import STD, DigitArms, EitherNoise, digits, operator


@pytest.mark.slow
def test_it_measures_every_claim(monkeypatch, tmp_path):
    monkeypatch.setattr(paper, "QUICK", paper.Budget(2, 0.1, 20, 6, (1, 2, 3), 5))
    lines: list[str] = []
    entries = paper.demonstrate(quick=True, seed=3, device="cpu", out=tmp_path, say=lines.append)
    assert len(lines) == 2 and len(entries) == 15 and len({entry.claim for entry in entries}) == 15
    assert (tmp_path / "digits.png").is_file()
    for entry in entries:
        assert LedgerEntry.from_dict(entry.to_dict()) == entry and entry.verdict == strongest_verdict(entry)


def rows(**changed: float) -> list[dict[str, float]]:
    """As the survey says, unless changed."""
    psnr = {"regression": 21.0, "pinv": 15.0, "SR3 15": 17.0, "SR3 100": 19.0, "ResShift 15": 20.0, "DDNM 20": 16.0,
            "PiGDM 20": 19.0, "DiffPIR 20": 18.0, "DPS 100": 17.0, "DPS wrong": 14.0}  # fmt: skip
    frechet = {"regression": 9.0, "SR3 15": 8.0, "SR3 100": 5.0, "ResShift 15": 4.0}
    accuracy = {"regression": 0.8, "SR3 100": 0.9, "ResShift 15": 0.9}
    made = {}
    for task in paper.TASKS:
        made[f"{task} 0 DDNM 20 consistency"] = 1e-7
        for measure, values in (("psnr", psnr), ("frechet", frechet), ("accuracy", accuracy)):
            made |= {f"{task} 0.05 {name} {measure}": value for name, value in values.items()}
    return [made | changed, made | changed]


def test_claims_hold_where_the_numbers_say_so():
    claim = partial(Claim, seeds=(0, 1), scale="cpu-small")
    good = paper._claims(rows(), claim, (5, 20, 100))
    assert len(good) == 15 and all(c.holds for c in good)
    assert all(c.direction == ("lower" if c.measure.startswith(paper.LOWER) else "higher") for c in good)
    worse = rows(**{
        "sr2 0.05 regression psnr": 18.0, "sr2 0.05 regression frechet": 3.0, "sr2 0.05 regression accuracy": 0.95,
        "sr2 0.05 PiGDM 20 psnr": 12.0, "sr2 0.05 DiffPIR 20 psnr": 12.9, "blur 0.05 DPS wrong psnr": 22.0,
        "sr2 0 DDNM 20 consistency": 0.1, "sr2 0.05 SR3 15 psnr": 21.0, "sr2 0.05 SR3 15 frechet": 3.0,
        "sr2 0.05 SR3 100 frechet": 3.5,
    })  # fmt: skip
    held = [c.claim for c in paper._claims(worse, claim, (5, 20, 100)) if c.holds]
    assert held == ["(b) without training, PiGDM beats the pseudo-inverse by 1 dB over three tasks (ours)"]


def test_digits_depend_on_their_seed_alone_and_can_be_told_apart():
    x, label = digits(range(400))
    alone = digits([7])
    assert torch.equal(alone[1], label[7:8])
    torch.testing.assert_close(alone[0], x[7:8], rtol=0, atol=1e-6)
    assert x.shape == (400, 1, 16, 16) and float(x.min()) == -1 and 0.9 < float(x.max()) <= 1
    means = torch.stack([x[:300][label[:300] == k].mean(0) for k in range(10)]).flatten(1)
    nearest = torch.cdist(x[300:].flatten(1), means).argmin(1)
    assert float((nearest == label[300:]).float().mean()) > 0.7


def test_half_of_the_measurements_have_noise():
    y = torch.zeros(400, 1, 8, 8)
    std = EitherNoise()(y, Noise(range(400))).std((1, 2, 3))
    assert 0.4 < float((std > 0).float().mean()) < 0.6
    assert float(std[std > 0].mean()) == pytest.approx(STD, rel=0.05)
    assert EitherNoise().level(y) == pytest.approx(STD / 2**0.5)


def test_every_method_sees_the_same_measurement():
    arms = DigitArms(1, 0.0, 8)
    for task in paper.TASKS:
        clean, noisy = (arms.seen(task, std, 5) for std in (0.0, STD))
        assert torch.equal(clean.x, noisy.x) and torch.equal(clean.y, clean.a(clean.x))
        off = (noisy.y - clean.y)[noisy.y != 0]
        assert 0.5 * STD < float(off.std()) < 1.5 * STD
    assert not torch.equal(arms.seen("sr2", 0.0, 5).x, arms.pictures("train", 5)[0])
    wide = operator("blur", Noise([0]), 1.5)(clean.x)
    assert float(wide.std()) < float(operator("blur", Noise([0]))(clean.x).std())


def test_a_judge_learns_to_read():
    arms = DigitArms(2, 0.0, 600)
    judge = arms.judge(150)
    seen = arms.seen("sr2", 0.0, 100)
    own, worse = judge.scores(seen.x, seen), judge.scores(seen.a.guess(seen.y), seen)
    assert own["accuracy"] > 0.8 and own["consistency"] == 0 and own["frechet"] < worse["frechet"]
