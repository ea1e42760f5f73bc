"""README's table of papers is what the catalogue and `results/` say."""

from __future__ import annotations

import importlib.util
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from mezzotint.papers import LedgerEntry, catalogue, read_ledger, write_ledger

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def tool():
    spec = importlib.util.spec_from_file_location("readme_table", ROOT / "tools" / "readme_table.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["readme_table"] = module
    spec.loader.exec_module(module)
    return module


def test_readme_is_up_to_date(tool, capsys):
    assert tool.main(["--check"]) == 0, "run: make readme"


def test_a_result_shows_up(tool, tmp_path):
    assert "| demonstration runs |" in tool.table(tmp_path)
    entry = LedgerEntry(
        "2112.10752", "a", "m", "1", 2.0, 1.0, "lower", (), None, True, "shown", "exact", "x", 0.1, notes="n"
    )
    weaker = replace(entry, verdict="shown in part")
    write_ledger(tmp_path / "2112.10752.json", [entry, weaker, weaker])
    text = tool.table(tmp_path)
    assert "[3 claims](results/2112.10752.json): 1 shown, 2 shown in part" in text
    assert text.count("\n") == len(catalogue()) + 1


def test_lost_marks_are_an_error(tool, tmp_path):
    with pytest.raises(ValueError, match="lost the marks"):
        tool.with_table("# no table here", tmp_path)


def test_every_result_is_a_valid_ledger_of_its_paper():
    known = {card.id for card in catalogue()}
    for path in (ROOT / "results").glob("*.json"):
        assert path.stem in known
        assert {entry.paper for entry in read_ledger(path)} == {path.stem}
