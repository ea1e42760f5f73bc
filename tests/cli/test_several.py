"""`sample` with several prompts: one image of each by default, in order, and the record regenerates them."""

from __future__ import annotations

import json

import pytest
import torch

import mezzotint as mz
from mezzotint.cli.picture import digest, pixels


def test_several_prompts_in_one_call(cli, tiny, tmp_path):
    out = tmp_path / "out"
    assert cli("sample", "red heart", "blue fish", "--model", tiny, "--out", out)[0] == 0
    record = json.loads((out / "red-heart-0.json").read_text())
    assert record["prompt"] == ["red heart", "blue fish"] and record["seeds"] == [0, 1]
    images = mz.load(tiny).sample(["red heart", "blue fish"], seeds=[0, 1])
    assert list(record["images"].values()) == [digest(picture) for picture in pixels(images)]
    assert not torch.equal(images[1], mz.load(tiny).sample("red heart", seeds=[1])[0])
    status, _, err = cli("sample", "--from", out / "red-heart-0.json", "--out", tmp_path / "again")
    assert (status, err) == (0, "")
    assert (tmp_path / "again" / "red-heart-0.png").read_bytes() == (out / "red-heart-0.png").read_bytes()


@pytest.mark.parametrize("prompt", [[], [1], ["a", "b", "c"]])
def test_a_record_with_wrong_prompts_is_refused(cli, tiny, tmp_path, prompt):
    out = tmp_path / "out"
    cli("sample", "red heart", "blue fish", "--model", tiny, "--out", out)
    file = out / "red-heart-0.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"prompt": prompt}))
    status, _, err = cli("sample", "--from", file)
    assert status == 2 and "prompts" in err and err.count("\n") == 1


def test_an_empty_one_among_several_is_refused(cli, tiny):
    status, _, err = cli("sample", "red heart", " ", "--model", tiny)
    assert status == 2 and "empty" in err
