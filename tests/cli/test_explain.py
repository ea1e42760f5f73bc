"""`mezzotint explain subspace`: a sheet of edits and its record, and one line for what cannot be."""

from __future__ import annotations

import json

import pytest
import torch
from PIL import Image

from mezzotint.interpret import SubspaceIteration, subspace_picture
from mezzotint.io.photo import Photo, write_photo


@pytest.fixture
def quick(monkeypatch):
    """Few iterations: what the command line makes of them is what is tested here."""
    own = subspace_picture.SubspaceIteration
    monkeypatch.setattr("mezzotint.interpret.subspace.SubspaceIteration.__call__", _fewer(own.__call__))


def _fewer(call):
    few = SubspaceIteration(extra=1, least=1, most=2)
    return lambda self, *given: call(few, *given)


def test_a_sheet_and_its_record(cli, tiny, tmp_path, quick):
    out = tmp_path / "sheet.png"
    line = ["explain", "subspace", "a red heart", "--model", tiny, "--rank", 2, "--strengths=-2,0,2", "--steps", 4]
    status, text, error = cli(*line, "--out", out)
    assert status == 0 and not error and "singular values" in text
    facts = json.loads((tmp_path / "sheet.json").read_text())
    assert facts["strengths"] == [-2, 0, 2] and facts["values"][0] >= facts["values"][1] > 0
    with Image.open(out) as sheet:
        assert sheet.size == (3 * 18 + 2, 2 * 18 + 2)
        middle = [sheet.crop((20, y, 36, y + 16)).tobytes() for y in (2, 20)]
        assert middle[0] == middle[1]  # strength 0 is the same picture in every row
    again = tmp_path / "again.png"
    status, text, _ = cli(*line, "--out", again, "--json")
    assert status == 0 and json.loads(text)["values"] == pytest.approx(facts["values"], rel=1e-4)
    assert again.read_bytes() == out.read_bytes()


def test_a_picture_and_a_mask(cli, tiny, tmp_path, quick):
    x = torch.linspace(-0.5, 0.5, 256).reshape(1, 16, 16).expand(3, -1, -1)
    write_photo(tmp_path / "in.png", Photo(x.clone()))
    mask = torch.full((1, 16, 16), -1.0)
    mask[:, :8] = 1
    write_photo(tmp_path / "mask.png", Photo(mask))
    line = ["explain", "subspace", "--model", tiny, "--rank", 1, "--strengths", "0,3", "--steps", 10]
    status, text, error = cli(*line, "--image", tmp_path / "in.png", "--mask", tmp_path / "mask.png", "--json",
                              "--out", tmp_path / "a.png")  # fmt: skip
    assert status == 0, error
    assert json.loads(text)["products"] == 12  # two searches of two iterations of two vectors


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--strengths", "a,b"], "numbers with commas"),
        (["--out", "sheet.jpg"], "ends in .png"),
        (["--t", 0], "0 < t <= 1"),
        (["--rank", 5000], "rank=5000"),
        (["--mask", "small.png", "--out", "small.png"], "small.png: it is read .* files of their own"),
        (["--image", "missing.png"], "missing.png"),
        (["--image", "small.png"], "8 x 8 but .* 16 x 16"),
    ],
)
def test_bad_input_is_one_line(cli, tiny, tmp_path, monkeypatch, options, message):
    monkeypatch.chdir(tmp_path)
    write_photo(tmp_path / "small.png", Photo(torch.zeros(3, 8, 8)))
    status, _, error = cli("explain", "subspace", "--model", tiny, *options)
    assert status == 2 and len(error.splitlines()) == 1
    import re

    assert re.search(message, error)


def test_unknown_explanations_are_named(cli):
    status, _, error = cli("explain", "xyzzy")
    assert status == 2 and "subspace" in error
    assert cli("explain")[0] == 2 and "subspace" in cli("explain", "--help")[1]
