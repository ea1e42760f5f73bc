"""`sample --prompts`: one image of each line by default, in order; and models that take no words."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

import mezzotint as mz
from mezzotint.cli.picture import digest, pixels


def test_several_prompts_in_one_call(cli, tiny, tmp_path):
    out, file = tmp_path / "out", tmp_path / "two.txt"
    file.write_text("red heart\n\n  blue fish \n")
    assert cli("sample", "--prompts", file, "--model", tiny, "--out", out)[0] == 0
    record = json.loads((out / "two-0.json").read_text())
    assert record["prompt"] == ["red heart", "blue fish"] and record["seeds"] == [0, 1]
    images = mz.load(tiny).sample(["red heart", "blue fish"], seeds=[0, 1])
    assert list(record["images"].values()) == [digest(picture) for picture in pixels(images)]
    assert not torch.equal(images[1], mz.load(tiny).sample("red heart", seeds=[1])[0])
    status, _, err = cli("sample", "--from", out / "two-0.json", "--out", tmp_path / "again")
    assert (status, err) == (0, "")
    assert (tmp_path / "again" / "two-0.png").read_bytes() == (out / "two-0.png").read_bytes()


@pytest.mark.parametrize("prompt", [[], [1], ["a", "b", "c"]])
def test_a_record_with_wrong_prompts_is_refused(cli, tiny, tmp_path, prompt):
    out = tmp_path / "out"
    cli("sample", "red heart", "--count", 2, "--model", tiny, "--out", out)
    file = out / "red-heart-0.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"prompt": prompt}))
    status, _, err = cli("sample", "--from", file)
    assert status == 2 and "prompts" in err and err.count("\n") == 1


@pytest.mark.parametrize(
    ("text", "words"), [(b"", "no prompt"), (b" \n", "no prompt"), (b"\xff\xfe", "UTF-8"), (None, "No such file")]
)
def test_a_file_without_prompts_is_refused(cli, tiny, tmp_path, text, words):
    file = tmp_path / "prompts.txt"
    if text is not None:
        file.write_bytes(text)
    status, _, err = cli("sample", "--prompts", file, "--model", tiny)
    assert status == 2 and words.lower() in err.lower() and err.count("\n") == 1


def test_class_and_unconditional_models(cli, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1]))
    from test_model import class_model, plain_model

    by_class, plain = class_model().save(tmp_path / "c"), plain_model().save(tmp_path / "u")
    assert cli("sample", "3", "--model", by_class, "--steps", 2, "--count", 1, "--out", tmp_path / "c.png")[0] == 0
    record = json.loads((tmp_path / "c.json").read_text())
    images = mz.load(by_class).sample(3, steps=2, seeds=[0])
    assert list(record["images"].values()) == [digest(pixels(images)[0])]
    status, _, err = cli("sample", "cat", "--model", by_class)
    assert status == 2 and "number" in err
    assert cli("sample", "--model", plain, "--steps", 2, "--count", 1, "--out", tmp_path / "u.png")[0] == 0
    assert cli("sample", "--from", tmp_path / "u.json", "--out", tmp_path / "again")[0] == 0
    status, _, err = cli("sample", "cat", "--model", plain)
    assert status == 2 and "unconditional" in err
