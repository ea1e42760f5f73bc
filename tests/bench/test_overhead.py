"""The overhead benchmark: its numbers are of equal runs, and it works without any peer."""

from __future__ import annotations

import json

import pytest
import torch

from mezzotint.bench import overhead
from mezzotint.bench.overhead import measure, report
from mezzotint.bench.overhead_pairs import PAIRS, SOLVERS
from mezzotint.bench.peers import PEERS, Peer, find_peer, load_peer

SMALL = ((2, 1, 4, 4),)


def test_rows_and_report() -> None:
    rows = measure(("dpmpp-2m", "euler"), SMALL, steps=15, rounds=3)
    assert {row.solver for row in rows} == {"dpmpp-2m", "euler"}
    for row in rows:
        assert 0 < row.ours.low <= row.ours.median <= row.ours.high
        assert row.peer is None or (row.error is not None and row.error <= 1e-4 and row.ratio is not None)
    told = json.loads(json.dumps(report(rows, 15, 3)))
    assert told["steps"] == 15 and len(told["rows"]) == len(rows) and "torch" in told["versions"]
    assert told["plan, once, microseconds"]["euler"]["median"] > 0


def test_without_peers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(overhead, "find_peer", lambda name: Peer(name, None, None, f"{name} is not installed"))
    (row,) = measure(("ddim",), SMALL, steps=15, rounds=1)
    assert row.peer is None and row.ratio is None and "azula is not installed" in row.note


def test_runs_that_differ_are_not_timed() -> None:
    pair = overhead.Pair(lambda net: torch.zeros(1), lambda net: torch.ones(1))
    with pytest.raises(RuntimeError, match="differ by 1"):
        overhead._error("k-diffusion", "euler", pair)


def test_wrong_calls() -> None:
    with pytest.raises(ValueError, match="nope"):
        measure(("nope",))
    with pytest.raises(ValueError, match="steps=3"):
        measure(("ddim",), steps=3)
    with pytest.raises(ValueError, match="unknown peer"):
        find_peer("nope")


@pytest.mark.peers
@pytest.mark.parametrize("peer", PAIRS)
@pytest.mark.parametrize("solver", SOLVERS)
def test_peers_agree(peer: str, solver: str) -> None:
    """The two runs of a pair end in the same place."""
    load_peer(peer, pytest.skip)
    x = torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    try:
        pair = PAIRS[peer](solver, x, 20)
    except NotImplementedError as reason:
        pytest.skip(str(reason))
    assert overhead._error(peer, solver, pair) <= 1e-5


def test_every_peer_is_found_or_explained() -> None:
    for name in PEERS:
        peer = find_peer(name)
        assert (peer.module is None) == bool(peer.reason)
        if peer.module is None:
            with pytest.raises(ImportError, match=name):
                load_peer(name)
