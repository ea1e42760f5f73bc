"""The tables of docs/restoration-measured.md are what the measurements say."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def tool():
    spec = importlib.util.spec_from_file_location("restore_table", ROOT / "tools" / "restore_table.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_is_up_to_date(tool):
    assert tool.main(["--check"]) == 0, "run: make readme"


def test_every_loss_is_written_down(tool):
    for found in tool.load().values():
        if found is not None:
            lost = [p for p in found["ours less deepinv's"] if p["difference"] < found["goal"]]
            assert len(found["behind by more than the goal allows"]) == len(lost)
            assert tool.beside(found).count("**") == 2 * len(lost)


def test_lost_marks_are_an_error(tool):
    with pytest.raises(ValueError, match="has lost the marks"):
        tool.with_tables("# no table here", {"emoji": None})


def test_what_was_not_measured_is_said(tool):
    page = tool.PAGE.read_text(encoding="utf-8")
    empty = tool.with_tables(page, dict.fromkeys(tool.MEASURED))
    assert empty.count(tool.NOT_YET) == 8
