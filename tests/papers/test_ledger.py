"""The ledger: no verdict can be stronger than its numbers."""

from __future__ import annotations

import json
import math

import pytest

from mezzotint.papers import LedgerEntry, paired_interval, read_ledger, strongest_verdict, write_ledger

FACTS = dict(
    paper="2112.10752",
    claim="latent beats pixel at equal time",
    measure="Frechet distance",
    unit="1",
    baseline=10.0,
    ours=5.0,
    direction="lower",
    seeds=(0, 1, 2),
    interval=(-6.0, -4.0),
    holds=True,
    verdict="shown",
    scale="cpu-small",
    hardware="x86_64 CPU, 2 cores",
    seconds=12.5,
    versions={"torch": "2.6"},
    recipe="mezzotint reproduce 2112.10752",
    notes="a reason",
)


def entry(**changes):
    return LedgerEntry(**{**FACTS, **changes})


# changes to an entry that is "shown", and the strongest verdict that is left
CASES = [
    ({}, "shown"),
    ({"holds": False}, "shown in part"),
    ({"interval": (-8.0, 0.5)}, "shown in part"),
    ({"interval": (-8.0, 0.5), "holds": False}, "not shown"),
    ({"interval": None, "holds": False}, "not shown"),
    ({"interval": (-8.0, 0.0)}, "shown in part"),
    ({"interval": None}, "shown in part"),
    ({"seeds": (0,)}, "shown in part"),
    ({"ours": 11.0, "interval": (-1.0, 3.0)}, "not shown"),
    ({"ours": 10.0, "interval": (-1.0, 1.0)}, "not shown"),
    ({"ours": 13.0, "interval": (1.0, 5.0), "holds": False}, "contradicted"),
    ({"direction": "higher"}, "contradicted"),
    ({"direction": "higher", "ours": 15.0, "interval": (4.0, 6.0)}, "shown"),
    ({"direction": "higher", "ours": 15.0, "interval": (-0.1, 9.0)}, "shown in part"),
    ({"scale": "exact", "interval": None, "seeds": ()}, "shown"),
    ({"scale": "exact", "interval": None, "seeds": (), "ours": 10.0}, "not shown"),
    ({"scale": "exact", "interval": None, "seeds": (), "ours": 11.0}, "contradicted"),
]
ORDER = {"contradicted": 0, "not shown": 0, "shown in part": 1, "shown": 2}


@pytest.mark.parametrize(("changes", "strongest"), CASES)
def test_no_verdict_outruns_the_numbers(changes, strongest):
    safe = entry(**{**changes, "verdict": "not shown"})
    assert strongest_verdict(safe) == strongest
    for verdict, strength in ORDER.items():
        allowed = strength <= ORDER[strongest] and (verdict != "contradicted" or strongest == "contradicted")
        if allowed:
            assert entry(**{**changes, "verdict": verdict}).verdict == verdict
        else:
            with pytest.raises(ValueError, match="stronger than the run|carries at most"):
                entry(**{**changes, "verdict": verdict})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"direction": "down"}, "direction must be one of"),
        ({"verdict": "proved"}, "verdict must be one of"),
        ({"scale": "huge"}, "scale must be one of"),
        ({"ours": math.nan}, "must be finite"),
        ({"seconds": math.inf}, "must be finite"),
        ({"interval": (-4.0, -6.0)}, "low <= high"),
        ({"claim": ""}, "needs a claim"),
        ({"verdict": "not shown", "notes": ""}, "needs its reason"),
    ],
)
def test_bad_entries_are_refused(changes, message, unchecked):
    with pytest.raises(ValueError, match=message):
        LedgerEntry.from_dict({**FACTS, **changes})


def test_a_file_round_trips(tmp_path):
    path = tmp_path / "2112.10752.json"
    entries = [entry(), entry(claim="another", interval=None, verdict="not shown")]
    write_ledger(path, entries)
    assert read_ledger(path) == entries
    rows = json.loads(path.read_text())
    assert isinstance(rows, list) and list(rows[0]) == list(FACTS)
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_a_file_edited_into_a_stronger_verdict_is_refused(tmp_path):
    path = tmp_path / "2112.10752.json"
    write_ledger(path, [entry(interval=(-8.0, 0.5), verdict="shown in part")])
    path.write_text(path.read_text().replace('"shown in part"', '"shown"'))
    with pytest.raises(ValueError, match=r"2112\.10752\.json is not a ledger file: .*stronger"):
        read_ledger(path)


@pytest.mark.parametrize("text", ["{}", "[1]", "[{}]", "[", "null"])
def test_other_json_is_no_ledger(tmp_path, text):
    path = tmp_path / "x.json"
    path.write_text(text)
    with pytest.raises(ValueError, match="x.json is not a ledger file"):
        read_ledger(path)


def test_interval_by_hand():
    # d = 1, 2, 3: mean 2, standard deviation 1, t(0.975, 2) = 4.303
    low, high = paired_interval([2.0, 4.0, 6.0], [1.0, 2.0, 3.0])
    assert (low, high) == pytest.approx((2 - 4.303 / math.sqrt(3), 2 + 4.303 / math.sqrt(3)))


@pytest.mark.parametrize(("n", "t"), [(31, 2.0423), (32, 2.0395), (61, 2.0003), (121, 1.9799), (1001, 1.9623)])
def test_interval_of_many_seeds(n, t):
    d = [(-1.0) ** i for i in range(n)]
    mean, var = sum(d) / n, sum((x - sum(d) / n) ** 2 for x in d) / (n - 1)
    low, high = paired_interval(d, [0.0] * n)
    assert (high - low) / 2 / math.sqrt(var / n) == pytest.approx(t, abs=4e-4)
    assert (high + low) / 2 == pytest.approx(mean)


def test_interval_covers_at_its_rate():
    import torch

    draws = torch.randn(4000, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    inside = 0
    for row in draws.tolist():
        low, high = paired_interval(row, [0.0] * 4)
        inside += low <= 0 <= high
    assert inside / 4000 == pytest.approx(0.95, abs=0.012)


@pytest.mark.parametrize(("ours", "baseline"), [([1.0], [2.0]), ([1.0, 2.0], [1.0]), ([1.0, math.nan], [1.0, 1.0])])
def test_interval_refuses(ours, baseline):
    with pytest.raises(ValueError, match="paired values|finite"):
        paired_interval(ours, baseline)
