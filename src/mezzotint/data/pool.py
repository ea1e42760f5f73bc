"""Worker processes that answer in the order they are asked, and whose death is told instead of waited for."""

from __future__ import annotations

import itertools
import multiprocessing
import os
import signal
import threading
import time
import weakref
from collections.abc import Callable
from concurrent.futures import Future
from multiprocessing.connection import Connection, wait
from typing import Any, Literal

import torch

__all__ = ["Pool", "Start", "WorkerDied"]

Start = Literal["fork", "spawn", "forkserver"]


class WorkerDied(ChildProcessError):
    """A worker process of a loader was killed or crashed."""


class Pool:
    """Processes that each hold one piece of work, asked in turn.

    Each has a connection of its own (`concurrent.futures` shares one, and waits for ever where a process is killed in
    the middle of an answer), which a thread of this process reads.

    Args:
        work: called with what is asked; pure, so that any process answers alike. Sent to the processes once.
        count: processes, >= 1.
        start: how they start; None forks where the system can, and spawns elsewhere (the script then needs its
            `if __name__ == "__main__"`).
    """

    def __init__(self, work: Callable[..., Any], count: int, start: Start | None = None) -> None:
        can = multiprocessing.get_all_start_methods()
        context: Any = multiprocessing.get_context(start or ("fork" if "fork" in can else "spawn"))
        forks = context.get_start_method() == "fork"
        self._ours: list[Connection] = []
        self._processes: list[Any] = []
        for _ in range(count):
            ours, theirs = context.Pipe()
            others = [*self._ours, ours] if forks else []  # a fork inherits them, and would keep them open
            parent = os.getpid() if forks else None
            process = context.Process(target=_serve, args=(theirs, work, others, parent), daemon=True)
            process.start()
            theirs.close()  # so that the end of the process is the end of what can be read
            self._ours.append(ours)
            self._processes.append(process)
        self._waiting = _Waiting()
        self._numbers = itertools.count()
        arguments = (list(self._ours), list(self._processes), self._waiting)
        threading.Thread(target=_collect, args=arguments, name="mezzotint-loader", daemon=True).start()
        self._end = weakref.finalize(self, _stop, list(self._processes), self._waiting)

    @property
    def pids(self) -> list[int]:
        """The processes' ids."""
        return [process.pid for process in self._processes]

    def ask(self, *arguments: Any) -> Future[Any]:
        """Have a process do the work; `result()` of what is returned waits for it.

        The future raises WorkerDied where a process was killed, whichever it was.
        """
        number = next(self._numbers)
        future = self._waiting.add(number)
        if not future.done():
            try:
                self._ours[number % len(self._ours)].send((number, arguments))
            except OSError:  # it died; the thread that reads says so
                pass
        return future

    def close(self) -> None:
        """End the processes."""
        self._end()


class _Waiting:
    """Questions without an answer yet."""

    def __init__(self) -> None:
        self._futures: dict[int, Future[Any]] = {}
        self._lock, self._dead = threading.Lock(), ""

    def add(self, number: int) -> Future[Any]:
        future: Future[Any] = Future()
        with self._lock:
            if self._dead:
                future.set_exception(WorkerDied(self._dead))
            else:
                self._futures[number] = future
        return future

    def answer(self, number: int, good: bool, value: Any) -> None:
        with self._lock:
            future = self._futures.pop(number, None)
        if future is not None:
            future.set_result(value) if good else future.set_exception(value)

    def die(self, cause: str) -> None:
        with self._lock:
            self._dead = self._dead or cause
            futures, self._futures = list(self._futures.values()), {}
        for future in futures:
            future.set_exception(WorkerDied(self._dead))


def _collect(connections: list[Connection], processes: list[Any], waiting: _Waiting) -> None:
    """Read answers until a process is gone: then none of the open questions is answered any more."""
    lost = None
    while lost is None:
        for ready in wait(connections):
            try:
                waiting.answer(*ready.recv())  # type: ignore[union-attr]
            except (EOFError, OSError):
                lost = processes[connections.index(ready)]  # type: ignore[arg-type]
                break
            except Exception as error:  # an answer that cannot be unpickled
                waiting.die(f"a worker process sent an answer that cannot be read ({error!r})")
                lost = processes[connections.index(ready)]  # type: ignore[arg-type]
                break
    lost.join(timeout=5)
    code = lost.exitcode
    how = f"killed by signal {-code} ({signal.Signals(-code).name})" if code and code < 0 else f"ended (status {code})"
    waiting.die(
        f"one of the {len(processes)} worker processes that load images was {how}. The kernel kills where memory runs "
        "out: try fewer workers, or a smaller prefetch. A run goes on from its latest checkpoint"
    )
    for process in processes:
        process.terminate()
    for connection, process in zip(connections, processes):
        connection.close()
        process.join(timeout=5)


def _stop(processes: list[Any], waiting: _Waiting) -> None:
    waiting.die("the loader was closed")
    for process in processes:
        process.terminate()


def _serve(connection: Connection, work: Callable[..., Any], others: list[Connection], parent: int | None) -> None:
    """A worker: one thread, deaf to Ctrl-C (the parent decides), gone when the parent is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    for other in others:
        other.close()
    torch.set_num_threads(1)
    threading.Thread(target=_watch, args=(os.getppid() if parent is None else parent,), daemon=True).start()
    while True:
        try:
            number, arguments = connection.recv()
        except (EOFError, OSError):
            return
        try:
            answer = number, True, work(*arguments)
        except Exception as error:
            answer = number, False, error
        try:
            connection.send(answer)
        except OSError:
            return
        except Exception as error:  # it cannot be pickled
            connection.send((number, False, RuntimeError(f"{answer[2]!r} cannot be sent ({error})")))


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(1.0)
    os._exit(1)
