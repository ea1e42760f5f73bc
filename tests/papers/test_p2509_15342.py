"""The demonstration of LowDiff runs at the smallest sizes, and states no more than its numbers carry."""

from __future__ import annotations

import pytest
import torch

from mezzotint.core import Noise
from mezzotint.papers import p2509_15342 as paper
from mezzotint.papers.cascade_arms import CascadeArms, Made, between
from mezzotint.papers.ledger import LedgerEntry, strongest_verdict
from mezzotint.papers.pooled_oracle import covariance_error, law, signal
from mezzotint.sample import CascadeSampler

NAMES = (*(f"single {n}" for n in paper.SINGLE), *paper.CASCADES, "shuffled", "dropped", "two networks", "no noise")


def rows(**changed: list[float]) -> paper.Rows:
    """FD 10 / (1 + N) and 40 / N images a second of the single model, the same for both seeds; others by name."""
    made = {}
    for name in NAMES:
        n = int(name.split()[1]) if name.startswith("single") else 0
        fd, rate = (10 / (1 + n), 40 / n) if n else (1.0, 4.0)
        values = changed.get(name.replace(" ", "_").replace("+", "_"), [fd, fd])
        made[name] = [{"FD": value, "rate": rate, "apart": 0.1} for value in values]
    made["shuffled"] = [{**row, "apart": 0.4} for row in made["shuffled"]]
    return made


@pytest.mark.slow
def test_it_measures_every_claim(monkeypatch, tmp_path):
    monkeypatch.setattr(paper, "QUICK", paper.Budget(2, scenes=80, features=1, seconds=0.2, samples=4))
    told: list[str] = []
    entries = paper.demonstrate(quick=True, seed=3, device="cpu", out=tmp_path, say=told.append)
    assert len(told) == 2 * len(NAMES) and len(entries) == 8 and (tmp_path / "levels.png").is_file()
    for entry in entries:
        assert LedgerEntry.from_dict(entry.to_dict()) == entry and entry.verdict == strongest_verdict(entry)
        assert "Budget(seeds=2" in entry.notes and entry.scale == ("exact" if not entry.seeds else "cpu-small")


def test_claims_hold_where_the_numbers_say_so():
    """At 4 images a second the single model takes 10 steps: its FD there lies between those of 9 and 12."""
    rate, cost, two, noise, warm, dropped, apart, exact = paper._claims(rows(), (0, 1))
    at = between([9.0, 12.0], [1.0, 10 / 13], 10.0)
    assert list(rate.baseline) == pytest.approx([at, at]) and 10 / 13 < at < 1.0 and not rate.holds
    assert list(cost.baseline) == pytest.approx([between([9.0, 12.0], [1.0, 10 / 13], 10.5)] * 2) and not cost.holds
    assert two.holds and list(two.baseline) == pytest.approx([1.1, 1.1])
    assert noise.holds and warm.holds and apart.holds and exact.holds
    assert not dropped.holds and list(dropped.ours) == [1.0, 1.0]
    better = paper._claims(rows(**{"18_6": [0.7, 0.7], "dropped": [0.5, 0.6]}), (0, 1))
    assert better[0].holds and better[1].holds and better[5].holds
    worse = paper._claims(rows(**{"18_6": [1.2, 1.2]}), (0, 1))
    assert not any(claim.holds for claim in worse[:5])


def test_a_curve_is_read_between_its_points_and_held_beyond():
    places, values = [40.0, 10.0], [4.0, 1.0]
    assert between(places, values, 20.0) == pytest.approx(2.0)
    assert between(places, values, 5.0) == 1.0 and between(places, values, 90.0) == 4.0


def test_the_oracle_is_what_samples_show():
    """With the denoiser's law known exactly, 4,000 samples show it within their own error of 0.034."""
    sampler, d = CascadeSampler("heun", (5, 3), smax=(80.0, 3.0), start="warm", aug=0.2), signal()
    x = sampler(d, (1, 16), Noise(range(4000)), dtype=torch.float64).x.flatten(1)
    want = law(sampler, d)
    assert float((x.T @ x / 4000 - want).norm() / want.norm()) < 0.05
    assert covariance_error(sampler, d) > 0.3, "so few steps must show"


def test_arms_share_seeds_and_the_small_image():
    arms = CascadeArms(Noise(range(8))("x", 0, (3, 16, 16)), 5, 0.0, channels=8)
    d = arms.unified()
    few, many = (arms.made(d, CascadeSampler("euler", (2, n)), 3) for n in (1, 3))
    assert torch.equal(few.low, many.low) and not torch.equal(few.x, many.x)
    again = arms.upper(d, CascadeSampler("euler", (2, 3)), many.low, 3)
    assert torch.allclose(again.x, many.x, atol=1e-5)
    told = Made(many.low.repeat_interleave(2, 2).repeat_interleave(2, 3), many.low, 1.0)
    assert told.consistency() < 1e-6 < many.consistency()


def test_it_counts_processor_seconds_and_so_refuses_a_gpu():
    with pytest.raises(ValueError, match="runs on the cpu"):
        paper.demonstrate(quick=True, seed=0, device="cuda", out=None, say=print)
