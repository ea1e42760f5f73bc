"""Dispatch of demonstrations, from Python and from the command line."""

from __future__ import annotations

import json
import sys
import types

import pytest

import mezzotint as mz
from mezzotint.papers import LedgerEntry, read_ledger, run


@pytest.fixture
def demonstration(monkeypatch):
    """A stand-in for one paper's demonstration that records how it was called."""
    calls = []

    def demonstrate(*, quick, seed, device, out, say):
        calls.append((quick, seed, device))
        say("half way")
        if out is not None:
            (out / "2305.04391.png").write_bytes(b"picture")
        return [
            LedgerEntry(
                "2305.04391", "a claim", "error", "1", 2.0, 1.0, "lower", (), None, True, "shown", "exact", "x", 0.1
            )
        ]

    module = types.ModuleType("stand_in")
    module.demonstrate = demonstrate
    monkeypatch.setitem(sys.modules, "stand_in", module)
    monkeypatch.setitem(run._DEMONSTRATIONS, "2305.04391", "stand_in")
    return calls


def test_reproduce_returns_json_able_entries(demonstration):
    rows = mz.reproduce("arXiv:2305.04391v3", quick=True, seed=7)
    assert demonstration == [(True, 7, "cpu")]
    assert json.loads(json.dumps(rows)) == rows
    assert rows[0]["paper"] == "2305.04391" and rows[0]["verdict"] == "shown"


def test_without_a_demonstration():
    with pytest.raises(ValueError, match=r"2512\.19678 \(WorldWarp\) has no demonstration yet: it is planned"):
        mz.reproduce("2512.19678")
    with pytest.raises(ValueError, match="no paper '1234.56789'"):
        mz.reproduce("1234.56789")


def test_the_command_writes_the_ledger(demonstration, capsys, tmp_path):
    from mezzotint.cli.main import run as cli

    out = tmp_path / "results"
    arguments = ["reproduce", "2305.04391", "--quick", "--seed", "3", "--device", "cpu", "--out", str(out)]
    assert cli([*arguments, "--json"]) == 0
    told = capsys.readouterr()
    assert demonstration == [(True, 3, "cpu")]
    assert told.err == "half way\n"
    assert [entry.to_dict() for entry in read_ledger(out / "2305.04391.json")] == json.loads(told.out)
    assert sorted(path.name for path in out.iterdir()) == ["2305.04391.json", "2305.04391.png"]
    assert cli(arguments) == 0
    assert "SHOWN: a claim" in capsys.readouterr().out
