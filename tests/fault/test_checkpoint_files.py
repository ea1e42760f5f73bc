"""Harm done to the files of a checkpoint, of one process and of two: a typed error that names file and cause, and the
earlier checkpoint is untouched and taken."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys

import pytest
import torch
from torch import nn

from mezzotint.core import Cosine
from mezzotint.core.denoiser import VDenoiser
from mezzotint.core.noise import Noise
from mezzotint.objective.batch import Batch, Loss
from mezzotint.train import CheckpointError, DenoisingTask, Single, fit, newest_checkpoint, verify
from mezzotint.train.checkpoint import MANIFEST, list_checkpoints

pytestmark = pytest.mark.fault


class _Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Conv2d(3, 64, 3, padding=1), nn.Conv2d(64, 3, 3, padding=1)

    def forward(self, x, time, c=None):
        return self.last(torch.tanh(self.first(x)))


def _objective(denoiser, batch: Batch, noise: Noise) -> Loss:
    t = noise.uniform("time", 0, ())
    return Loss((denoiser(batch.x, t).x0 - batch.x).square().mean(), {})


def _train(out, steps):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        task = DenoisingTask(VDenoiser(_Net(), Cosine()), _objective, ema=0.9)

    def batches(step):
        return Batch(torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(step)))

    return fit(task, batches, steps=steps, seed=0, out=out, engine=Single("cpu"), save_every=1), task


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Run folders with checkpoints of steps 1 and 2: by one process, and the same as two would have cut it."""
    folder = tmp_path_factory.mktemp("runs")
    _train(folder / "single", 2)
    shutil.copytree(folder / "single", folder / "sharded")
    for checkpoint in list_checkpoints(folder / "sharded" / "checkpoints"):
        _cut(checkpoint)
    return folder


def _cut(folder):
    """Rewrite a checkpoint of one process as one of two, with its manifest."""
    from safetensors.torch import save_file

    from mezzotint.io.safe import read_state
    from mezzotint.train.checkpoint import _hash

    tensors = {}
    for file in sorted(folder.glob("*.safetensors")):
        tensors |= {f"{file.stem}/{name}": value for name, value in read_state(file).items()}
        file.unlink()
    index, shards = {}, [{}, {}]
    for name, value in tensors.items():
        half = (len(value) + 1) // 2 if value.ndim else 0
        parts = [(0, value[:half]), (half, value[half:])] if half else [(0, value)]
        told = []
        for rank, (start, part) in enumerate(parts):
            if value.ndim and not len(part):
                continue
            offsets = [start] + [0] * (value.ndim - 1) if value.ndim else []
            key = f"{name}@{','.join(map(str, offsets))}"
            shards[rank][key] = part.contiguous().clone()
            file = f"shard-0000{rank}-of-00002.safetensors"
            told.append({"offsets": offsets, "sizes": list(part.shape), "file": file, "key": key})
        index[name] = {"dtype": str(value.dtype)[6:], "shape": list(value.shape), "parts": told}
    for rank, shard in enumerate(shards):
        save_file(shard, folder / f"shard-0000{rank}-of-00002.safetensors")
    (folder / "index.json").write_text(json.dumps({"format": 1, "tensors": index}))
    manifest = json.loads((folder / MANIFEST).read_text())
    files = [p for p in folder.iterdir() if p.name != MANIFEST]
    manifest["files"] = {p.name: {"bytes": p.stat().st_size, "sha256": _hash(p)} for p in files}
    (folder / MANIFEST).write_text(json.dumps(manifest))


def _flip(folder, first, second):
    data = bytearray(first.read_bytes())
    data[-7] ^= 1
    first.write_bytes(data)


def _swap(folder, first, second):
    a, b = first.read_bytes(), second.read_bytes()
    first.write_bytes(b)
    second.write_bytes(a)


HARMS = {
    "a byte flipped": (_flip, "{0}: damaged; its SHA-256"),
    "truncated": (lambda folder, a, b: a.write_bytes(a.read_bytes()[:-100]), "{0}: .* bytes, but its manifest says"),
    "empty": (lambda folder, a, b: a.write_bytes(b""), "{0}: 0 bytes, but its manifest says"),
    "missing": (lambda folder, a, b: a.unlink(), "{0}: missing, but its manifest lists it"),
    "swapped": (_swap, "{0}: "),
}


@pytest.mark.parametrize("harm", HARMS)
@pytest.mark.parametrize("kind", ["single", "sharded"])
def test_every_harm_is_named_and_the_earlier_checkpoint_is_taken(kind, harm, runs, tmp_path):
    out = tmp_path / "run"
    shutil.copytree(runs / kind, out)
    earlier, later = list_checkpoints(out / "checkpoints")
    before = {p.name: p.read_bytes() for p in earlier.iterdir()}
    files = sorted(later.glob("*.safetensors"))
    do, message = HARMS[harm]
    do(later, files[0], files[1])
    with pytest.raises(CheckpointError, match=message.format(files[0].name)):
        verify(later)
    with pytest.warns(UserWarning, match=f"{files[0].name}.*using {earlier.name}"):
        report, _ = _train(out, 3)
    assert report.resumed == 1 and report.finished
    assert before == {p.name: p.read_bytes() for p in (runs / kind / "checkpoints" / earlier.name).iterdir()}


@pytest.mark.parametrize("kind", ["single", "sharded"])
def test_both_kinds_end_in_the_same_bits(kind, runs, tmp_path):
    shutil.copytree(runs / kind, tmp_path / "run")
    report, task = _train(tmp_path / "run", 4)
    assert report.resumed == 2
    _, whole = _train(tmp_path / "whole", 4)
    assert all(torch.equal(a, b) for a, b in zip(task.modules.parameters(), whole.modules.parameters(), strict=True))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop("module.denoiser/net.last.bias"), "missing: module.denoiser/net.last.bias"),
        (lambda t: t.update({"module.denoiser/more": t["module.denoiser/net.last.bias"]}), "unknown: .*more"),
        (lambda t: t["module.denoiser/net.first.bias"]["parts"].pop(), "do not make up its shape"),
        (lambda t: t["module.denoiser/net.first.bias"]["parts"][0].update(file="../x"), "outside its folder"),
        (lambda t: t["ema.denoiser/net.first.bias"].update(dtype="sys"), "unknown dtype, 'sys'"),
    ],
)
def test_an_index_that_does_not_fit_is_refused(change, message, runs, tmp_path):
    from mezzotint.train.state import load_task

    folder = tmp_path / "step-00000002"
    shutil.copytree(runs / "sharded" / "checkpoints" / "step-00000002", folder)
    index = json.loads((folder / "index.json").read_text())
    change(index["tensors"])
    (folder / "index.json").write_text(json.dumps(index))
    _, task = _train(tmp_path / "run", 1)
    with pytest.raises(CheckpointError, match=message):
        load_task(task, folder)


def test_no_file_of_a_divided_checkpoint_is_a_pickle(runs):
    for path in (runs / "sharded" / "checkpoints" / "step-00000002").iterdir():
        assert path.suffix in (".json", ".safetensors") and path.read_bytes()[:2] not in (b"\x80\x02", b"PK")


FULL = """
import resource, signal, sys
sys.path.insert(0, {tests!r})
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
import torch
torch.set_num_threads(1)
from test_checkpoint_files import _train
if {limit}:
    resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))
try:
    _train({out!r}, 3)
except OSError as error:
    print("OSError", error)
"""


def _no_room(out, limit=0):
    code = FULL.format(tests=os.path.dirname(__file__), out=str(out), limit=limit)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def _mounted(folder) -> bool:
    try:
        return subprocess.run(["mount", "-t", "tmpfs", "-o", "size=200k", "tmpfs", str(folder)],
                              capture_output=True).returncode == 0  # fmt: skip
    except OSError:
        return False


def test_a_full_disk_is_told_and_the_earlier_checkpoint_stays(runs, tmp_path):
    """A file system of 200 KB where one may be mounted; else files limited to less than a checkpoint's."""
    out = tmp_path / "run"
    out.mkdir()
    mounted = _mounted(out)
    try:
        earlier = out / "checkpoints" / "step-00000001"
        shutil.copytree(runs / "single" / "checkpoints" / "step-00000001", earlier)
        (out / "run.json").write_text((runs / "single" / "run.json").read_text())
        if mounted:
            room = shutil.disk_usage(out).free
            (out / ".filler").write_bytes(b"x" * max(0, room - 40_000))
        told = _no_room(out, 0 if mounted else 20_000)
        cause = os.strerror(errno.ENOSPC if mounted else errno.EFBIG)
        assert told.startswith("OSError") and "could not write checkpoint" in told and "step-00000002" in told
        assert cause in told and "earlier ones are untouched" in told
        verify(earlier)
        assert [p.name for p in earlier.parent.iterdir()] == [earlier.name]
        assert newest_checkpoint(earlier.parent) == earlier
    finally:
        if mounted:
            subprocess.run(["umount", str(out)], check=True)


def test_a_read_only_folder_is_told_and_the_earlier_checkpoint_stays(runs, tmp_path, monkeypatch):
    out = tmp_path / "run"
    shutil.copytree(runs / "single", out)
    shutil.rmtree(out / "checkpoints" / "step-00000002")
    root = out / "checkpoints"
    if os.geteuid() == 0:  # whom permissions do not stop: the call answers as it would to others
        from mezzotint.io import atomic

        before = atomic.Path.mkdir

        def mkdir(path, *args, **kwargs):
            if path.parent == root:
                raise PermissionError(errno.EACCES, "Permission denied", str(path))
            return before(path, *args, **kwargs)

        monkeypatch.setattr(atomic.Path, "mkdir", mkdir)
    else:
        root.chmod(0o555)
    try:
        with pytest.raises(OSError, match=r"could not write checkpoint .*step-00000002 \(Permission denied\)"):
            _train(out, 3)
    finally:
        root.chmod(0o755)
    verify(root / "step-00000001")
    assert [p.name for p in root.iterdir()] == ["step-00000001"]
