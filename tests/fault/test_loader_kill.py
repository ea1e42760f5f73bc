"""Worker processes that are killed: an error that says so, at once and at every moment, and no process left behind."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
import torch

from mezzotint.data import ArraySource, Cover, Loader, WorkerDied

pytestmark = [
    pytest.mark.fault,
    pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork"),
]


class _Slow(ArraySource):
    """Images of half a megabyte, so that a worker is often killed in the middle of an answer."""

    def __init__(self, seconds: float) -> None:
        pixels = np.random.Generator(np.random.Philox(0)).integers(0, 256, (8, 3, 400, 400), np.uint8)
        super().__init__(torch.from_numpy(pixels), [""] * 8)
        self.seconds = seconds

    def caption(self, index: int, step: int, seed: int) -> str:
        time.sleep(self.seconds)
        return ""


def _ends(run, seconds: float = 20.0):
    """The exception that `run` raises; a test failure where it takes longer than `seconds`."""
    found: list[BaseException] = []

    def inner() -> None:
        try:
            run()
        except BaseException as error:
            found.append(error)

    thread = threading.Thread(target=inner, daemon=True)
    thread.start()
    thread.join(seconds)
    assert not thread.is_alive(), "it hangs"
    assert found, "it did not notice"
    return found[0]


def test_a_worker_killed_while_it_is_waited_for() -> None:
    loader = Loader(_Slow(5.0), 4, Cover(8), workers=2)
    threading.Timer(0.3, lambda: os.kill(loader._pool.pids[1], signal.SIGKILL)).start()
    error = _ends(lambda: loader(0))
    assert isinstance(error, WorkerDied) and isinstance(error, OSError)  # which the command tells in one line
    assert "signal 9 (SIGKILL)" in str(error) and "fewer workers" in str(error)
    assert loader._pool is None


def test_workers_killed_at_any_moment_never_hang_the_caller() -> None:
    chance = random.Random(0)
    source = _Slow(0.0)
    expected = Loader(source, 8, Cover(400))(3).x
    for _ in range(3):
        loader = Loader(source, 8, Cover(400), workers=2, prefetch=2)
        loader(0)
        pids = loader._pool.pids
        delay = chance.uniform(0, 0.05)
        threading.Timer(delay, lambda: os.kill(pids[chance.randrange(2)], signal.SIGKILL)).start()  # noqa: B023

        def run() -> None:
            for step in range(1, 10_000):
                loader(step)  # noqa: B023

        assert isinstance(_ends(run), WorkerDied)
        assert torch.equal(loader(3).x, expected)  # it starts anew when asked again
        loader.close()


def test_idle_workers_that_are_killed_are_missed_at_the_next_call() -> None:
    loader = Loader(_Slow(0.0), 4, Cover(8), workers=1, prefetch=0)
    loader(0)
    os.kill(loader._pool.pids[0], signal.SIGKILL)
    time.sleep(0.3)
    assert isinstance(_ends(lambda: loader(1)), WorkerDied)


def _alive(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.slow  # a process of its own imports torch
@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="needs /proc")
def test_workers_go_when_their_parent_is_killed() -> None:
    code = (
        "import torch, time\n"
        "from mezzotint.data import ArraySource, Cover, Loader\n"
        "source = ArraySource(torch.zeros(8, 3, 9, 9, dtype=torch.uint8), [''] * 8)\n"
        "loader = Loader(source, 4, Cover(8), workers=2)\n"
        "loader(0)\n"
        "print(*loader._pool.pids, flush=True)\n"
        "time.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as parent:
        pids = [int(word) for word in parent.stdout.readline().split()]
        assert len(pids) == 2 and all(map(_alive, pids))
        parent.kill()
    end = time.monotonic() + 5
    while any(map(_alive, pids)) and time.monotonic() < end:
        time.sleep(0.1)
    assert not any(map(_alive, pids))
