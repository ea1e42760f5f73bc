from __future__ import annotations

import errno
import json

import pytest
import torch

from mezzotint.train import CheckpointError, Single, fit, load_newest, newest_checkpoint, verify
from mezzotint.train.checkpoint import MANIFEST, list_checkpoints, write_checkpoint


def _write(root, step, keep=2):
    def fill(folder):
        (folder / "a.bin").write_bytes(bytes(range(200)))
        (folder / "b.json").write_text(json.dumps({"step": step}))

    return write_checkpoint(root, step, fill, keep)


def _flip(path, place):
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)


def test_a_written_checkpoint_verifies_and_only_the_last_are_kept(tmp_path):
    for step in (1, 2, 10, 3):
        verify(_write(tmp_path, step))
    assert [p.name for p in list_checkpoints(tmp_path)] == ["step-00000003", "step-00000010"]
    assert newest_checkpoint(tmp_path).name == "step-00000010"
    assert newest_checkpoint(tmp_path / "nothing") is None


@pytest.mark.parametrize("place", [0, 1, 99, 199])
def test_one_flipped_byte_is_found(place, tmp_path):
    folder = _write(tmp_path, 1)
    _flip(folder / "a.bin", place)
    with pytest.raises(CheckpointError, match=r"a.bin: damaged; its SHA-256"):
        verify(folder)


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (lambda f: (f / "a.bin").write_bytes(bytes(range(150))), r"a.bin: 150 bytes, but its manifest says 200"),
        (lambda f: (f / "a.bin").write_bytes(b""), r"a.bin: 0 bytes, but its manifest says 200"),
        (lambda f: (f / "a.bin").unlink(), r"a.bin: missing, but its manifest lists it"),
        (lambda f: (f / "c.bin").write_bytes(b"x"), r"c.bin: not in the manifest"),
        (lambda f: (f / MANIFEST).unlink(), r"MANIFEST.json: missing, so the checkpoint is incomplete"),
        (lambda f: (f / MANIFEST).write_text("{"), r"MANIFEST.json: damaged"),
        (lambda f: (f / MANIFEST).write_text("[]"), r"MANIFEST.json: damaged"),
        (
            lambda f: (f / MANIFEST).write_text('{"files": {"../x": {"bytes": 0, "sha256": ""}}}'),
            r"names a file outside its folder",
        ),
    ],
)
def test_every_harm_is_named_and_the_earlier_checkpoint_is_taken(harm, message, tmp_path):
    earlier, later = _write(tmp_path, 1), _write(tmp_path, 2)
    harm(later)
    with pytest.raises(CheckpointError, match=message):
        verify(later)
    with pytest.warns(UserWarning, match=message):
        assert newest_checkpoint(tmp_path) == earlier


def test_swapped_files_of_equal_size_are_found(tmp_path):
    def fill(folder):
        (folder / "a").write_bytes(b"aaaa")
        (folder / "b").write_bytes(b"bbbb")

    folder = write_checkpoint(tmp_path, 1, fill)
    (folder / "a").write_bytes(b"bbbb")
    (folder / "b").write_bytes(b"aaaa")
    with pytest.raises(CheckpointError, match="damaged"):
        verify(folder)


def test_nothing_is_started_anew_over_checkpoints_that_are_all_damaged(tmp_path):
    for step in (1, 2):
        _flip(_write(tmp_path, step) / "a.bin", 7)
    with pytest.raises(CheckpointError, match=r"no checkpoint under .* is whole.*step-00000002.*step-00000001"):
        newest_checkpoint(tmp_path)


def test_a_writer_that_fails_leaves_the_earlier_checkpoints_and_no_trace(tmp_path):
    earlier = _write(tmp_path, 1)

    def full(folder):
        (folder / "a.bin").write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError, match=r"could not write checkpoint .*step-00000002 \(No space left on device\)"):
        write_checkpoint(tmp_path, 2, full)
    assert [p for p in tmp_path.iterdir()] == [earlier]
    verify(earlier)


def test_a_damaged_checkpoint_of_a_real_run_falls_back_and_ends_in_the_same_bits(pair, tmp_path, everything):
    settings = dict(seed=0, save_every=3, engine=Single("cpu"))
    whole, batches = pair()
    fit(whole, batches, steps=9, out=tmp_path / "whole", **settings)
    task, batches = pair()
    fit(task, batches, steps=7, out=tmp_path / "run", **settings)
    _flip(tmp_path / "run/checkpoints/step-00000007/module.g.safetensors", -5)
    task, batches = pair()
    with pytest.warns(UserWarning, match="module.g.safetensors: damaged"):
        report = fit(task, batches, steps=9, out=tmp_path / "run", **settings)
    assert report.resumed == 6
    a, b = everything(whole), everything(task)
    assert a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def test_load_newest_fills_a_fresh_task_and_says_so_where_there_is_none(pair, tmp_path, everything):
    task, batches = pair()
    fit(task, batches, steps=4, seed=0, out=tmp_path / "run", engine=Single("cpu", channels_last=False))
    fresh, _ = pair()
    facts = load_newest(fresh, tmp_path / "run")
    assert facts["step"] == 4 and facts["seconds"] > 0
    a, b = everything(task), everything(fresh)
    assert a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)
    with pytest.raises(ValueError, match="no checkpoint there"):
        load_newest(fresh, tmp_path)
