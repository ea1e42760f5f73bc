"""`sample`: what it writes, and that the record regenerates it bit for bit."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time

import pytest
import torch
from PIL import Image

import mezzotint as mz
from mezzotint.cli.picture import digest, grid, pixels


def read(path):
    return path.read_bytes()


def names(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def sampled(cli, tiny, tmp_path):
    out = tmp_path / "first"
    status, _, err = cli("sample", "A red  heart!", "--model", tiny, "--count", 3, "--seed", 5, "--out", out)
    assert (status, err) == (0, "")
    return out


def test_it_writes_images_sheet_and_record(sampled):
    stem = "a-red-heart-5"
    assert names(sampled) == [f"{stem}-0.png", f"{stem}-1.png", f"{stem}-2.png", f"{stem}.json", f"{stem}.png"]
    assert Image.open(sampled / f"{stem}-0.png").size == (16, 16)
    assert Image.open(sampled / f"{stem}.png").size == (2 * 18 + 2, 2 * 18 + 2)


def test_the_pixels_are_those_of_the_python_call(sampled, tiny):
    images = mz.load(tiny).sample("A red  heart!", count=3, seeds=[5, 6, 7])
    assert (images[0] - images[1]).abs().max() > 0.1  # else the comparison below would say nothing
    for i, picture in enumerate(pixels(images)):
        with Image.open(sampled / f"a-red-heart-5-{i}.png") as file:
            assert file.tobytes() == picture.numpy().tobytes()


def test_the_record_regenerates_bit_for_bit(cli, sampled, tmp_path):
    again = tmp_path / "again"
    status, out, _ = cli("sample", "--from", sampled / "a-red-heart-5.json", "--out", again, "--json")
    assert status == 0
    assert names(again) == names(sampled)
    for name in names(sampled):
        if name.endswith(".png"):
            assert read(again / name) == read(sampled / name)
    assert json.loads(out)["seeds"] == [5, 6, 7]


def test_a_record_holds_every_default(sampled, tiny):
    record = json.loads((sampled / "a-red-heart-5.json").read_text())
    assert record["model"] == str(tiny) and record["size"] == [16, 16]
    assert (record["sampler"], record["steps"], record["guidance"]) == ("dpmpp-2m", 3, 3.0)
    with Image.open(sampled / "a-red-heart-5-0.png") as file:
        picture = torch.tensor(list(file.tobytes()), dtype=torch.uint8).reshape(16, 16, 3)
    assert record["images"]["a-red-heart-5-0.png"] == digest(picture)


def test_other_pixels_than_recorded_overwrite_nothing(cli, sampled, tmp_path):
    path = sampled / "a-red-heart-5.json"
    record = json.loads(path.read_text())
    record["seeds"][1] = 99
    path.write_text(json.dumps(record))
    before = {name: read(sampled / name) for name in names(sampled)}
    status, _, err = cli("sample", "--from", path)
    assert status == 2 and "come out different" in err
    assert {name: read(sampled / name) for name in names(sampled)} == before
    status, out, _ = cli("sample", "--from", path, "--out", tmp_path / "new")
    assert status == 1 and "NOT as recorded" in out


def test_one_image_with_a_name(cli, tiny, tmp_path):
    status, out, _ = cli("sample", "x", "--model", tiny, "--count", 1, "--out", tmp_path / "heart.png", "--json")
    assert status == 0 and names(tmp_path) == ["heart.json", "heart.png"]
    assert list(json.loads(out)["images"]) == ["heart.png"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"steps": "three"}, "'steps'"),
        ({"format": "other"}, "not a record"),
        ({"extra": 1}, "'extra'"),
        ({"grid": "../../grid.png"}, "not a plain file name"),
        ({"images": {"../a.png": "", "b.png": "", "c.png": ""}}, "not a plain file name"),
        ({"images": {"a.png": ""}}, "one image a seed"),
        ({"images": {"weights.safetensors": "", "b.png": "", "c.png": ""}}, "not the name of a .png file"),
        ({"grid": "config.json"}, "not the name of a .png file"),
        ({"seeds": [1, 2, "3"]}, "whole numbers"),
        ({"seeds": [1, 2, True]}, "whole numbers"),
        ({"size": [16, 16.5]}, "whole numbers"),
        ({"steps": True}, "wrong type"),
        ({"threads": 10**9}, "from 1 to"),
        ({"batch": 0}, "from 1 to"),
    ],
)
def test_damaged_records_are_named(cli, sampled, change, message):
    path = sampled / "a-red-heart-5.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    status, _, err = cli("sample", "--from", path)
    assert status == 2 and str(path) in err and message in err and err.count("\n") == 1


def test_a_truncated_record_is_named(cli, sampled):
    path = sampled / "a-red-heart-5.json"
    path.write_text(path.read_text()[:100])
    status, _, err = cli("sample", "--from", path)
    assert status == 2 and f"{path} is not a JSON file" in err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--sampler", "magic"], "unknown sampler 'magic'"),
        (["--size", "15"], "multiples of"),
        (["--guidance", "nan"], "guidance"),
    ],
)
def test_what_the_model_refuses_is_one_line(cli, tiny, tmp_path, options, message):
    out = tmp_path / "out"
    status, _, err = cli("sample", "x", "--model", tiny, "--out", out, *options)
    assert status == 2 and message in err and err.count("\n") == 1
    assert not out.exists()


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is read-only to root")
def test_a_read_only_folder_is_found_before_sampling(cli, tmp_path, monkeypatch):
    monkeypatch.setattr(mz, "load", lambda *a: pytest.fail("loaded a model for nothing"), raising=False)
    tmp_path.chmod(0o500)
    status, _, err = cli("sample", "x", "--out", tmp_path / "out")
    assert status == 2 and "Permission denied" in err


def test_out_below_a_file_is_one_line(cli, tmp_path):
    (tmp_path / "file").write_text("")
    status, _, err = cli("sample", "x", "--out", tmp_path / "file" / "out")
    assert status == 2 and err.count("\n") == 1


def test_grid_places_pictures_row_by_row():
    pictures = torch.stack([torch.full((2, 3, 1), value, dtype=torch.uint8) for value in (10, 20, 30)])
    sheet = grid(pictures, gap=1)
    assert sheet.shape == (7, 9, 1)
    assert (sheet[1:3, 1:4] == 10).all() and (sheet[1:3, 5:8] == 20).all() and (sheet[4:6, 1:4] == 30).all()
    rest = sheet.clone().int()
    rest[1:3, 1:4] = rest[1:3, 5:8] = rest[4:6, 1:4] = 255
    assert (rest == 255).all()


def test_pixels_clip_what_lies_outside():
    assert pixels(torch.tensor([-3.0, -1.0, 0.004, 1.0, 7.0]).reshape(5, 1, 1, 1)).flatten().tolist() == [
        0,
        0,
        128,
        255,
        255,
    ]


def test_json_is_readable_whatever_the_encoding_of_the_pipe(tiny, tmp_path):
    call = [sys.executable, "-m", "mezzotint", "sample", "❤ 😀", "--model", tiny, "--out", tmp_path, "--json"]
    env = {**os.environ, "PYTHONIOENCODING": "ascii"}
    done = subprocess.run(call, capture_output=True, env=env, check=True)
    assert json.loads(done.stdout.decode("ascii"))["prompt"] == "❤ 😀"


WRITER = """
import sys
from mezzotint.cli import main
for seed in range(10**6):
    main.run(["sample", "x", "--model", sys.argv[1], "--out", sys.argv[2], "--seed", str(seed), "--steps", "1"])
"""


@pytest.mark.fault
def test_a_killed_sample_leaves_no_half_picture_and_no_record_without_its_pictures(tiny, tmp_path):
    for i, wait in enumerate((0.01, 0.07, 0.13, 0.22, 0.31)):
        folder = tmp_path / str(i)
        child = subprocess.Popen([sys.executable, "-c", WRITER, tiny, folder], stdout=subprocess.PIPE)
        assert child.stdout is not None and child.stdout.readline()  # the first call is done
        time.sleep(wait)
        child.kill()
        child.wait()
        child.stdout.close()
        pictures = [path for path in folder.iterdir() if not path.name.startswith(".") and path.suffix == ".png"]
        assert pictures
        for path in pictures:
            with Image.open(path) as picture:
                picture.load()
        for path in (path for path in folder.glob("*.json") if not path.name.startswith(".")):
            record = json.loads(path.read_text())
            assert {*record["images"], record["grid"]} <= {picture.name for picture in pictures}
