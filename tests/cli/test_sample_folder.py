"""A folder of many images: whose it is, what it holds, and that nobody's files are lost."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from mezzotint.cli.main import run

CALL = ["sample", "a red heart", "--model", "emoji-pixel", "--steps", "1", "--format", "png"]


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "made"


def plan(folder):
    return json.loads((folder / "sampling.json").read_text())["plan"]


def test_a_batch_that_no_machine_holds_is_refused(folder, capsys):
    assert run([*CALL, "--count", "2", "--batch", "100000", "--out", str(folder)]) == 2
    assert "--batch 100000 images at once; expected at most 4096" in capsys.readouterr().err


def test_a_call_that_made_nothing_does_not_own_the_folder(folder, capsys):
    assert run([*CALL, "--count", "2", "--sampler", "nosuch", "--out", str(folder)]) == 2
    assert run([*CALL, "--count", "2", "--out", str(folder)]) == 0
    assert len(list(folder.glob("*.png"))) == 2
    assert run([*CALL, "--count", "2", "--guidance", "1", "--out", str(folder)]) == 2
    assert "holds other images" in capsys.readouterr().err


def test_a_shorter_call_takes_nothing_away(folder, capsys):
    pytest.importorskip("pyarrow")
    call = [*CALL[:-1], "parquet", "--out", str(folder)]
    assert run([*call, "--count", "3"]) == 0
    before = {p.name: p.read_bytes() for p in folder.glob("*.parquet")}
    assert run([*call, "--count", "2"]) == 2
    assert "each: 3 there, 2 now" in capsys.readouterr().err
    assert {p.name: p.read_bytes() for p in folder.glob("*.parquet")} == before


def test_an_empty_file_is_made_again(folder):
    assert run([*CALL, "--count", "2", "--out", str(folder)]) == 0
    whole = (folder / "0000001.png").read_bytes()
    (folder / "0000001.png").write_bytes(b"")
    assert run([*CALL, "--count", "2", "--out", str(folder)]) == 0
    assert (folder / "0000001.png").read_bytes() == whole


def test_another_process_at_work_is_told(folder, capsys):
    """Locks are of processes: a child holds it."""
    folder.mkdir()
    held = "import fcntl, sys; f = open(sys.argv[1], 'a'); fcntl.lockf(f, fcntl.LOCK_EX); print(1, flush=True); "
    child = subprocess.Popen(
        [sys.executable, "-c", held + "sys.stdin.read()", str(folder / ".lock")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert child.stdout is not None and child.stdout.readline()
    try:
        assert run([*CALL, "--count", "2", "--out", str(folder)]) == 2
        assert "another process works in" in capsys.readouterr().err
    finally:
        child.communicate()
    assert run([*CALL, "--count", "2", "--out", str(folder)]) == 0
    assert plan(folder)["threads"] >= 1
