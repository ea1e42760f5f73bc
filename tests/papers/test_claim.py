"""From figures to entries: the verdict is what the numbers carry."""

from __future__ import annotations

import pytest

from mezzotint.papers.claim import Claim, entries_of

SETTING = {"quick": True, "device": "cpu", "seconds": 1.26, "setting": "small"}


def test_verdicts_follow_the_pairs():
    pairs = {"seeds": (0, 1, 2), "scale": "cpu-small"}
    claims = [
        Claim("better", "error", [2.0, 2.1, 2.2], [1.0, 1.2, 1.1], True, "a", **pairs),
        Claim("better, and not enough", "error", [2.0, 2.1, 2.2], [1.0, 1.2, 1.1], False, "b", **pairs),
        Claim("worse", "error", [1.0, 1.2, 1.1], [2.0, 2.1, 2.2], False, "c", **pairs),
        Claim("higher", "slope", [2.0], [3.0], True, "d", direction="higher"),
    ]
    entries = entries_of("2211.01095", claims, **SETTING)
    assert [e.verdict for e in entries] == ["shown", "shown in part", "contradicted", "shown"]
    assert [e.notes for e in entries] == ["a. small", "b. small", "c. small", "d. small"]
    assert entries[0].interval == pytest.approx((-1.248, -0.752), abs=1e-3) and entries[3].interval is None
    assert entries[0].baseline == pytest.approx(2.1) and entries[0].seconds == 1.3
    assert all(e.recipe == "mezzotint reproduce 2211.01095 --quick" for e in entries)


def test_pairs_are_pairs():
    with pytest.raises(ValueError, match="equal lengths"):
        entries_of("2211.01095", [Claim("x", "y", [1.0, 2.0, 3.0], [1.0, 2.0], True, "n", (0, 1))], **SETTING)
