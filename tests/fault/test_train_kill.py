"""A training run that is killed, at random moments and at every system call of a save, ends in the same bits.

The children are forked from this process, which has imported torch already, so a run costs milliseconds.
"""

from __future__ import annotations

import os
import random
import signal
import time
import warnings
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from mezzotint.core import Cosine
from mezzotint.core.denoiser import VDenoiser
from mezzotint.core.noise import Noise
from mezzotint.objective.batch import Batch, Loss
from mezzotint.train import CosineDecay, DenoisingTask, Single, fit, newest_checkpoint, read_log

pytestmark = [
    pytest.mark.fault,
    pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork"),
]


class _Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.SiLU(), nn.Dropout(0.1), nn.Conv2d(8, 3, 1))

    def forward(self, x: Tensor, time: Tensor, c: object = None) -> Tensor:
        return self.layers(x)


def _objective(denoiser, batch: Batch, noise: Noise) -> Loss:
    t = noise.uniform("time", 0, ())
    eps = noise("noise", 0, tuple(batch.x.shape[1:]))
    alpha, sigma = denoiser.schedule.alpha(t)[:, None, None, None], denoiser.schedule.sigma(t)[:, None, None, None]
    return Loss((denoiser(alpha * batch.x + sigma * eps, t).x0 - batch.x).square().mean(), {})


def _train(out: Path, steps: int, save_every: int, on_step=None) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        task = DenoisingTask(VDenoiser(_Net(), Cosine()), _objective, lr=1e-2, ema=0.99)
    fit(
        task,
        lambda step: Batch(torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(step))),
        steps=steps,
        seed=0,
        out=out,
        schedule=CosineDecay(steps, warmup=3),
        log_every=2,
        save_every=save_every,
        engine=Single("cpu"),
        on_step=on_step,
    )


@pytest.fixture(scope="module", autouse=True)
def _warm(tmp_path_factory):
    """One step here first: the optimiser imports a second's worth of torch that every child would repeat."""
    _train(tmp_path_factory.mktemp("warm"), 4, 2)


def _fork(action) -> int:
    child = os.fork()
    if child == 0:
        code = 1
        try:
            warnings.simplefilter("error")  # a damaged checkpoint that is passed over would be a fault here
            action()
            code = 0
        finally:
            os._exit(code)
    return child


def _wait(child: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def _weights(out: Path, steps: int) -> dict[str, bytes]:
    folder = newest_checkpoint(out / "checkpoints")
    assert folder is not None and folder.name == f"step-{steps:08d}"
    files = {p.name: p.read_bytes() for p in folder.glob("*.safetensors")}
    assert len(files) == 3  # module, average, optimiser
    return files


@pytest.mark.parametrize("number", [10, pytest.param(50, marks=pytest.mark.slow)])
def test_kills_at_random_moments_leave_the_same_bits(number, tmp_path):
    steps, save_every, moments = 60, 3, random.Random(number)
    start = time.monotonic()
    assert _wait(_fork(lambda: _train(tmp_path / "whole", steps, save_every))) == 0
    length = time.monotonic() - start
    expected = _weights(tmp_path / "whole", steps)

    kills, attempt = 0, 0
    while kills < number:
        out = tmp_path / f"killed-{attempt}"
        attempt += 1
        while kills < number:
            child = _fork(lambda out=out: _train(out, steps, save_every))
            time.sleep(moments.uniform(0.0, 0.15) * length)
            os.kill(child, signal.SIGKILL)
            status = _wait(child)
            if status == 0:  # the machine sped up and the run came to its end: kill another one
                break
            assert status == -signal.SIGKILL
            kills += 1
        assert _wait(_fork(lambda out=out: _train(out, steps, save_every))) == 0
        assert _weights(out, steps) == expected
        assert [row["step"] for row in read_log(out / "log.jsonl")] == list(range(2, steps + 1, 2))


_CALLS = ("open", "mkdir", "fsync", "replace", "rename", "unlink", "rmdir")


def _die_at_call(number: int | None, report: int | None = None):
    """on_step: from step 3 on count file system calls, and die by SIGKILL just before that one."""
    count = 0

    def on_step(progress):
        if progress.step != 5:
            return
        for name in _CALLS:
            setattr(os, name, _counted(getattr(os, name)))

    def _counted(call):
        def wrapper(*args, **kwargs):
            nonlocal count
            if count == number:
                os.kill(os.getpid(), signal.SIGKILL)
            count += 1
            if report is not None:
                os.write(report, b".")
            return call(*args, **kwargs)

        return wrapper

    return on_step


def test_a_kill_before_every_system_call_of_a_save_leaves_the_same_bits(tmp_path):
    # checkpoints at 2, 4, 6: the third save writes, renames, and removes the first
    read, write = os.pipe()
    child = _fork(lambda: _train(tmp_path / "whole", 6, 2, _die_at_call(None, write)))
    os.close(write)
    with os.fdopen(read, "rb") as pipe:
        calls = len(pipe.read())
    assert _wait(child) == 0 and calls > 25
    expected = _weights(tmp_path / "whole", 6)

    left = set()
    for number in range(calls):
        out = tmp_path / str(number)
        assert _wait(_fork(lambda out=out, n=number: _train(out, 6, 2, _die_at_call(n)))) == -signal.SIGKILL
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            left.add(newest_checkpoint(out / "checkpoints").name)
        assert _wait(_fork(lambda out=out: _train(out, 6, 2))) == 0
        assert _weights(out, 6) == expected
        assert len(list((out / "checkpoints").iterdir())) == 2  # nothing of the killed writer stays
    assert left == {"step-00000004", "step-00000006"}
