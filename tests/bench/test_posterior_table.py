"""The tables of docs/restoration-exact.md are what the measurements say, and the command makes such measurements."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest

from mezzotint.bench.posterior import METHODS, OPERATORS, PRIORS, STDS
from mezzotint.cli.main import run

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def tool():
    spec = importlib.util.spec_from_file_location("posterior_table", ROOT / "tools" / "posterior_table.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def found(tool):
    return json.loads(tool.MEASURED.read_text(encoding="utf-8"))


def test_the_page_is_up_to_date(tool):
    assert tool.main(["--check"]) == 0, "run: python tools/posterior_table.py"


def test_every_method_was_measured_on_every_problem_it_takes(found):
    seen = {(row["method"], row["prior"], row["operator"], row["std"]) for row in found["rows"]}
    for method in METHODS:
        operators = ("mask", "denoise") if method == "RePaint" else OPERATORS
        assert {(method, p, o, s) for p in PRIORS for o in operators for s in STDS} <= seen


def test_exact_samples_err_as_their_number_says(found):
    """1 / sqrt(n) in the mean, the floor that every other row is read against."""
    for row in found["rows"]:
        if row["method"] == "exact samples":
            assert row["mean_error"] < 2 / found["samples"] ** 0.5 and abs(row["spread"] - 1) < 0.05


def test_lost_marks_are_an_error(tool, found):
    with pytest.raises(ValueError, match="has lost the marks"):
        tool.with_tables("# no table here", found)


def test_the_command_writes_what_the_tool_reads(tool, tmp_path, capsys):
    out = tmp_path / "deep" / "posterior.json"
    call = ["bench", "posterior", "--samples", "3", "--measurements", "1", "--steps", "3", "--priors", "mixture"]
    assert run([*call, "--out", str(out)]) == 0
    assert "mixture, blur, std 0.5: DDNM (3 calls)" in capsys.readouterr().out
    made = json.loads(out.read_text())
    assert made["samples"] == 3 and made["steps"] == 3
    page = tool.with_tables(tool.PAGE.read_text(encoding="utf-8"), made)
    assert "3 samples of each of 1 measurements" in page and "| `DDNM` | 3 |" in page


@pytest.mark.parametrize(
    ("more", "message"), [(["--samples", "1"], "has no covariance"), (["--priors", "mix"], "the priors are 'round")]
)
def test_bad_calls_are_one_line(more, message, capsys):
    assert run(["bench", "posterior", *more]) == 2
    told = capsys.readouterr().err
    assert message in told and len(told.strip().splitlines()) == 1
