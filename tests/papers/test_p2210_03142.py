"""The claims of the demonstration follow from its rows."""

from __future__ import annotations

from functools import partial

import pytest

from mezzotint.papers import p2210_03142 as paper
from mezzotint.papers.claim import Claim, entries_of

GOOD = {
    "FD guided student": 1.0, "FD teacher 32": 1.0, "FD teacher fine": 1.0, "FD student 4": 1.1, "FD teacher 4": 4.0,
    "MSE student 4": 0.02, "MSE teacher 4": 0.1, "MSE student 1": 0.06, "MSE student 2": 0.03,
    "accuracy student 4 w=1": 0.7, "accuracy student 4 w=4": 0.95,
}  # fmt: skip


def _entries(**changed: float):
    rows = [
        {k: changed.get(k, v) * (1 + 0.01 * bed if "student" in k else 1) for k, v in GOOD.items()} for bed in range(3)
    ]
    claims = paper._claims(rows, partial(Claim, seeds=(0, 1, 2), scale="cpu-small"))
    return entries_of(paper.PAPER, claims, quick=True, device="cpu", seconds=1.0, setting="s")


def test_all_claims_hold_where_the_numbers_carry_them():
    assert [entry.verdict for entry in _entries()] == ["shown"] * 5
    assert "the MSE grows 2 times" in _entries()[-1].notes


@pytest.mark.parametrize(
    ("changed", "claim", "verdict"),
    [
        ({"FD guided student": 1.2}, 0, "contradicted"),
        ({"FD student 4": 1.5}, 1, "contradicted"),
        ({"FD teacher 4": 2.0}, 2, "contradicted"),
        ({"MSE teacher 4": 0.0202}, 3, "not shown"),
        ({"accuracy student 4 w=4": 0.7}, 4, "not shown"),
    ],
)
def test_each_claim_can_fail(changed, claim, verdict):
    verdicts = [entry.verdict for entry in _entries(**changed)]
    assert verdicts[claim] == verdict and verdicts[:claim] == ["shown"] * claim


def test_it_runs_on_the_processor_alone():
    with pytest.raises(ValueError, match="of the cpu"):
        paper.demonstrate(quick=True, seed=0, device="cuda", out=None, say=print)
