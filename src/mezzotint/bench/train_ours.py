"""Our side of `bench train`: `fit` as a user calls it, held between steps."""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Callable

import torch
from torch import Tensor

from mezzotint.bench.train_side import LR, Problem, Side
from mezzotint.core import VP, EpsDenoiser, Noise
from mezzotint.data import indices
from mezzotint.objective import Batch, Denoise
from mezzotint.train import DenoisingTask, Progress, Single, fit

__all__ = ["Held", "Ours"]


class Ours(Side):
    """`fit` with its data order, noise by sample, clipping, EMA, log rows and checks for NaN.

    Args:
        problem: what is trained.
        channels_last: the engine's layout of convolutions; False is that of the peers.
    """

    def __init__(self, problem: Problem, channels_last: bool = True) -> None:
        self.name = "mezzotint" if channels_last else "mezzotint, plain layout"
        self.about = f"EMA, clipping, log, NaN check{', channels last' if channels_last else ''}"
        self._folder = tempfile.TemporaryDirectory(prefix="mezzotint-bench-")
        denoiser = EpsDenoiser(problem.copy(), VP())
        self.net = denoiser.net
        task = DenoisingTask(denoiser, Denoise("eps", drop=0.0), lr=LR)
        engine = Single(str(problem.device), channels_last=channels_last, threads=torch.get_num_threads())
        source, batch = problem.source, problem.batch

        def batches(step: int) -> Batch:
            return Batch(source.batch(indices(0, step, batch, len(source)))[0])

        def work(pause: Callable[[], bool]) -> None:
            ended = [False]

            def on_step(progress: Progress) -> None:
                ended[0] = pause()

            fit(
                task, batches, steps=10**9, seed=0, out=self._folder.name, engine=engine, log_every=10,
                save_every=10**9, on_step=on_step, stop=lambda: ended[0],
            )  # fmt: skip

        self._task, self._held = task, Held(work)

    def advance(self, steps: int) -> None:
        self._held.advance(steps)

    def loss(self, x: Tensor) -> Tensor:
        return self._task.objective(self._task.denoiser, Batch(x), Noise(range(len(x)))).total  # type: ignore[operator]

    def close(self) -> None:
        self._held.close()
        self._folder.cleanup()


class Held:
    """Work in a thread of its own that goes on for some steps and then waits.

    Args:
        work: called with `pause`, which it calls after each step; True asks it to end.

    >>> seen = []
    >>> def work(pause):
    ...     while not pause():
    ...         seen.append(len(seen))
    >>> held = Held(work); held.advance(1); held.advance(3); held.close(); seen
    [0, 1, 2]
    """

    def __init__(self, work: Callable[[Callable[[], bool]], None]) -> None:
        self._work, self._left, self._closing = work, 0, False
        self._go, self._done = threading.Semaphore(0), threading.Semaphore(0)
        self._error: BaseException | None = None
        self._thread: threading.Thread | None = None

    def advance(self, steps: int) -> None:
        """Go on for so many steps; an error of the work is raised here."""
        self._left = steps
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, daemon=True)
            self._thread.start()
        else:
            self._go.release()
        self._done.acquire()
        if self._error is not None:
            raise self._error

    def close(self) -> None:
        """Ask the work to end, and wait for it."""
        if self._thread is not None and self._thread.is_alive():
            self._closing = True
            self._go.release()
            self._thread.join()

    def _run(self) -> None:
        try:
            self._work(self._pause)
        except BaseException as error:
            self._error = error
        self._done.release()

    def _pause(self) -> bool:
        self._left -= 1
        if self._left <= 0:
            self._done.release()
            self._go.acquire()
        return self._closing
