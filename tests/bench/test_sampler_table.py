"""The tables of docs/samplers.md are what the list of samplers and the measurements say."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest

from mezzotint.bench.ours import deterministic
from mezzotint.sample import NAMED

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def tool():
    spec = importlib.util.spec_from_file_location("sampler_table", ROOT / "tools" / "sampler_table.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def found(tool):
    return json.loads(tool.MEASURED.read_text(encoding="utf-8"))


def test_the_page_is_up_to_date(tool):
    assert tool.main(["--check"]) == 0, "run: make readme"


def test_every_deterministic_sampler_was_measured_and_has_the_order_it_states(found):
    slopes = {row["solver"]: row["slope"] for row in found["slopes"] if row["library"] == "mezzotint"}
    for name in deterministic():
        if NAMED[name].nfe != "by tolerance":
            assert slopes[name] == pytest.approx(NAMED[name].order, abs=0.2), name


def test_equal_solvers_are_equal(found):
    apart = [row["apart"] for row in found["rows"] if row["apart"] is not None]
    assert len(apart) > 100 and max(apart) < 1e-5


def test_lost_marks_are_an_error(tool, found):
    with pytest.raises(ValueError, match="lost the marks"):
        tool.with_tables("# no table here", found)
