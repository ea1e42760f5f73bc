"""Many images: the same ones whatever stopped them, however many processes made them, and in either format."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image


def _call(tiny, out, count, *more):
    return ["sample", "a red heart", "--model", tiny, "--device", "cpu", "--out", out, "--count", count,
            "--batch", 4, "--steps", 2, "--seed", 5, "--json", *more]  # fmt: skip


def _pngs(folder):
    return {p.name: p.read_bytes() for p in sorted(folder.glob("*.png"))}


@pytest.fixture(scope="module")
def whole(tiny, tmp_path_factory):
    """Ten images in one go."""
    from mezzotint.cli.main import run

    out = tmp_path_factory.mktemp("many") / "whole"
    assert run([str(a) for a in _call(tiny, out, 10, "--format", "png")]) == 0
    return out


def test_the_images_are_those_of_their_seeds(whole, tiny):
    import mezzotint as mz
    from mezzotint.cli.picture import pixels

    found = _pngs(whole)
    assert list(found) == [f"{seed:07d}.png" for seed in range(5, 15)]
    expected = pixels(mz.load(tiny).sample("a red heart", count=4, steps=2, seeds=[5, 6, 7, 8], batch=4))
    for picture, name in zip(expected, found, strict=False):
        assert np.array_equal(np.asarray(Image.open(io.BytesIO(found[name]))), picture.numpy())


def test_what_is_there_is_kept_and_the_rest_is_made_alike(cli, tiny, whole, tmp_path):
    status, out, _ = cli(*_call(tiny, tmp_path / "a", 3, "--format", "png"))
    assert status == 0 and json.loads(out)["made"] == 3
    kept = tmp_path / "a" / "0000006.png"
    before = kept.stat().st_mtime_ns
    (tmp_path / "a" / "0000007.png").unlink()
    status, out, _ = cli(*_call(tiny, tmp_path / "a", 10))  # longer; the format is the folder's
    told = json.loads(out)
    assert status == 0 and (told["count"], told["made"], told["skipped"]) == (10, 8, 2)
    assert kept.stat().st_mtime_ns == before and _pngs(tmp_path / "a") == _pngs(whole)
    status, out, _ = cli(*_call(tiny, tmp_path / "a", 10))
    assert json.loads(out)["made"] == 0


def test_two_processes_make_what_one_makes(tiny, whole, tmp_path):
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run(
        [*torchrun, "-m", "mezzotint", *map(str, _call(tiny, tmp_path / "two", 10))],
        env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, timeout=240,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    assert json.loads(done.stdout)["made"] == 10
    assert _pngs(tmp_path / "two") == _pngs(whole)


def test_parquet_holds_the_same_pixels_in_parts(cli, tiny, whole, tmp_path, monkeypatch):
    parquet = pytest.importorskip("pyarrow.parquet")
    monkeypatch.setattr("mezzotint.cli.sample_many._ROWS", 8)
    status, _, err = cli(*_call(tiny, tmp_path / "p", 10, "--format", "parquet"))
    assert status == 0, err
    files = sorted((tmp_path / "p").glob("*.parquet"))
    assert [f.name for f in files] == ["part-00000.parquet", "part-00001.parquet"]
    rows = [row for file in files for row in parquet.read_table(file).to_pylist()]
    assert [row["seed"] for row in rows] == list(range(5, 15)) and {row["text"] for row in rows} == {"a red heart"}
    for row in rows:
        theirs = Image.open(whole / row["image"]["path"])
        assert np.array_equal(np.asarray(Image.open(io.BytesIO(row["image"]["bytes"]))), np.asarray(theirs))
    good = files[0].read_bytes()
    files[0].write_bytes(good[:-9])  # cut short: made again
    status, out, _ = cli(*_call(tiny, tmp_path / "p", 10, "--format", "parquet"))
    assert status == 0 and json.loads(out)["made"] == 8 and files[0].read_bytes() == good

    from mezzotint.data.parquet import ParquetSource

    assert len(ParquetSource([str(f) for f in files])) == 10


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--guidance", "1.5"], "guidance: 3.0 there, 1.5 now"),
        (["--format", "parquet"], "format: 'png' there, 'parquet' now"),
        (["--batch", "5"], "batch: 4 there, 5 now"),
        (["--seed", "6"], "first: 5 there, 6 now"),
    ],
)
def test_a_folder_of_other_images_is_refused(cli, tiny, whole, more, words):
    if "parquet" in more:
        pytest.importorskip("pyarrow.parquet")
    status, _, err = cli(*_call(tiny, whole, 10, *more))
    assert status == 2 and "holds other images" in err and words in err and err.count("\n") == 1


def test_a_folder_with_other_files_and_a_damaged_record_are_refused(cli, tiny, tmp_path):
    (tmp_path / "thesis.txt").write_text("mine")
    status, _, err = cli(*_call(tiny, tmp_path, 2, "--format", "png"))
    assert status == 2 and "is not empty (thesis.txt)" in err
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "sampling.json").write_text("{")
    status, _, err = cli(*_call(tiny, tmp_path / "b", 2, "--format", "png"))
    assert status == 2 and "sampling.json: damaged" in err


def test_several_prompts_have_their_images_in_order(cli, tiny, tmp_path):
    (tmp_path / "prompts.txt").write_text("a red heart\na blue fish\n")
    options = ["--model", tiny, "--device", "cpu", "--steps", 2, "--batch", 3, "--format", "png", "--json"]
    status, _, err = cli(
        "sample", "--prompts", tmp_path / "prompts.txt", "--count", 2, "--out", tmp_path / "s", *options
    )
    assert status == 0, err
    import mezzotint as mz
    from mezzotint.cli.picture import pixels

    drawn = pixels(mz.load(tiny).sample(["a red heart", "a blue fish"], count=2, steps=2, seeds=[0, 1, 2, 3]))
    for i, picture in enumerate(drawn):
        ours = np.asarray(Image.open(tmp_path / "s" / f"{i:07d}.png")).astype(int)
        assert np.abs(ours - picture.numpy().astype(int)).max() <= 1  # batches of another size round otherwise
