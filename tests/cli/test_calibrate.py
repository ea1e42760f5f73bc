"""`calibrate` makes the file that `sample --sampler dpm-v3:FILE` reads."""

from __future__ import annotations

import json

import pytest

from mezzotint.sample import EMS

FAST = ("--levels", 8, "--per-level", 2, "--samples", 2, "--sample-steps", 2)


def test_calibrate_then_sample(cli, tiny, tmp_path):
    file = tmp_path / "tiny.ems"
    status, out, _ = cli("calibrate", tiny, "--out", file, *FAST, "--seed", 3, "--json")
    assert status == 0
    row, ems = json.loads(out), EMS.load(file)
    assert row["shape"] == list(ems.shape) == [3, 16, 16] and row["prediction"] == ems.prediction == "v"
    assert row["levels"] == ems.levels == 8 and row["per_level"] == 2 and row["seed"] == 3
    assert [path.name for path in tmp_path.iterdir()] == ["tiny.ems"]
    again = tmp_path / "again.ems"
    status, _, err = cli("calibrate", tiny, "--out", again, *FAST, "--seed", 3)
    assert status == 0 and "level 9 of 9" in err and again.read_bytes() == file.read_bytes()
    pictures = tmp_path / "out"
    call = ("sample", "red heart", "--model", tiny, "--sampler", f"dpm-v3:{file}", "--count", 1, "--steps", 2)
    assert cli(*call, "--out", pictures)[0] == 0
    record = next(pictures.glob("*.json"))
    assert cli("sample", "--from", record, "--out", tmp_path / "repeated")[0] == 0
    png = next(pictures.glob("*.png"))
    assert (tmp_path / "repeated" / png.name).read_bytes() == png.read_bytes()


def test_data_of_prompts_and_guidance(cli, tiny, tmp_path):
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("red heart\nblue fish\n")
    call = ("calibrate", tiny, "--out", tmp_path / "a.ems", *FAST, "--prompts", prompts, "--guidance", 2)
    assert cli(*call)[0] == 0
    assert cli("calibrate", tiny, "--out", tmp_path / "b.ems", *FAST)[0] == 0
    assert not EMS.load(tmp_path / "a.ems").b.equal(EMS.load(tmp_path / "b.ems").b)


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (("--guidance", 3), "needs --prompts"),
        (("--levels", 1), "levels=1"),
        (("--t-end", 0), "t_end=0.0"),
        (("--l", "two"), "invalid choice"),
        (("--per-level", 0), "at least 1"),
        (("--prompts", "/nowhere.txt"), "no such file"),
    ],
)
def test_wrong_calls_are_one_line(cli, tiny, tmp_path, more, words):
    status, _, err = cli("calibrate", tiny, "--out", tmp_path / "a.ems", *more)
    assert status == 2 and words in err.lower().replace("'", "") and "Traceback" not in err
    assert not (tmp_path / "a.ems").exists()


def test_nothing_is_overwritten_and_the_folder_must_be_there(cli, tiny, tmp_path):
    file = tmp_path / "a.ems"
    file.write_bytes(b"mine")
    status, _, err = cli("calibrate", tiny, "--out", file, *FAST)
    assert status == 2 and "exists already" in err and err.count("\n") == 1 and file.read_bytes() == b"mine"
    status, _, err = cli("calibrate", tiny, "--out", tmp_path / "none" / "a.ems", *FAST)
    assert status == 2 and "no folder" in err
    status, _, err = cli("sample", "red heart", "--model", tiny, "--sampler", "dpm-v3", "--out", tmp_path / "out")
    assert status == 2 and "dpm-v3:FILE" in err
    status, _, err = cli(
        "sample", "red heart", "--model", tiny, "--sampler", f"dpm-v3:{file}", "--out", tmp_path / "out"
    )
    assert status == 2 and str(file) in err and err.count("\n") == 1
