"""The processes of a run under torchrun, and how they talk: small messages, shared failures, no hangs."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

__all__ = ["Group", "PeerFailed"]

T = TypeVar("T")
_KEY = "mezzotint/failed"
_LOOK, _GRACE = 1.0, 10.0  # seconds between looks at the store; left to a process to end by itself
_WORDS = ("gloo", "nccl", "connection", "socket", "timed out", "timeout", "peer")


class PeerFailed(RuntimeError):
    """Another process of the run failed and has told why; this one ends with it."""


@dataclass(frozen=True)
class Group:
    """The processes that torchrun started, joined when this is made.

    Small messages (flags, paths, errors) travel as JSON over gloo, so that they never wait for a GPU; gradients and
    metrics over NCCL on GPUs.

    Args:
        device: this process's; None takes the GPU of its local rank where there is one.
        timeout: minutes after which a message that does not come ends the run.

    Raises:
        ValueError: outside torchrun, or for a device that is not there.
    """

    device: torch.device
    timeout: float = 10.0
    rank: int = field(default=0, init=False)
    world: int = field(default=1, init=False)

    def __post_init__(self) -> None:
        missing = [k for k in ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT") if k not in os.environ]
        if missing:
            raise ValueError(
                f"several processes are started by torchrun, which sets {', '.join(missing)}: "
                "torchrun --nproc-per-node 2 -m mezzotint train RECIPE"
            )
        if not self.timeout > 0:
            raise ValueError(f"timeout is a number of minutes and must be positive, got {self.timeout}")
        limit = timedelta(minutes=self.timeout)
        if not dist.is_initialized():
            if self.device.type == "cuda":
                torch.cuda.set_device(self.device)
            dist.init_process_group("cpu:gloo,cuda:nccl" if self.device.type == "cuda" else "gloo", timeout=limit)
        object.__setattr__(self, "rank", dist.get_rank())
        object.__setattr__(self, "world", dist.get_world_size())

    def any(self, flags: int) -> int:
        """The bitwise or of every process's flags."""
        told = torch.tensor([flags >> bit & 1 for bit in range(8)], dtype=torch.uint8)
        dist.all_reduce(told, dist.ReduceOp.MAX)
        return sum(int(value) << bit for bit, value in enumerate(told.tolist()))

    def gather(self, values: Tensor) -> Tensor:
        """Numbers (n,) of every process, (world, n)."""
        values = values.contiguous()
        rows = [torch.empty_like(values) for _ in range(self.world)]
        dist.all_gather(rows, values)
        return torch.stack(rows)

    def tell(self, value: Any) -> Any:
        """A JSON value of rank 0, on every process."""
        text = json.dumps(value).encode() if self.rank == 0 else b""
        length = torch.tensor([len(text)])
        dist.broadcast(length, 0)
        data = torch.frombuffer(bytearray(text), dtype=torch.uint8) if text else None
        data = torch.empty(int(length), dtype=torch.uint8) if data is None else data
        dist.broadcast(data, 0)
        return json.loads(bytes(data.tolist()))

    def exchange(self, text: str) -> list[str]:
        """A text of every process, in the order of their ranks."""
        data = text.encode()
        lengths = self.gather(torch.tensor([len(data)])).flatten().tolist()
        padded = torch.zeros(max(1, *lengths), dtype=torch.uint8)
        padded[: len(data)] = torch.tensor(list(data), dtype=torch.uint8)
        rows = self.gather(padded)
        return [bytes(row[:n].tolist()).decode() for row, n in zip(rows, lengths, strict=True)]

    def lead(self, action: Callable[[], T]) -> T:
        """What rank 0 gets from an action that only it does, on every process; so is its error.

        Args:
            action: returns a JSON value.
        """
        error: BaseException | None = None
        value: Any = None
        if self.rank == 0:
            try:
                value = action()
            except Exception as caught:
                error = caught
        told = self.tell([value, None if error is None else _told(error)])
        if error is not None:
            raise error
        if told[1] is not None:
            raise PeerFailed(f"process 0: {told[1]}")
        return value if self.rank == 0 else told[0]

    def all(self, action: Callable[[], T]) -> T:
        """Let every process act, then go on together: where one fails all raise, naming it."""
        error: Exception | None = None
        value: Any = None
        try:
            value = action()
        except Exception as caught:
            error = caught
        told = self.exchange("" if error is None else _told(error))
        if error is not None:
            raise error
        bad = [f"process {rank}: {text}" for rank, text in enumerate(told) if text]
        if bad:
            raise PeerFailed(bad[0])
        return value

    @contextmanager
    def together(self) -> Iterator[None]:
        """Around a run: the first failure of any process ends them all, and is told once.

        The process that failed first raises its own error, the others `PeerFailed`. One that waits for a GPU which
        waits for the lost process is ended after some seconds.
        """
        store = self._store()
        done = threading.Event()
        watch = threading.Thread(target=_watch, args=(store, done, self.rank), daemon=True)
        watch.start()
        try:
            yield
        except Exception as error:
            if not hasattr(error, "told"):  # an inner call of this has not seen it
                error = self._first(store, error)
                error.told = True  # type: ignore[attr-defined]
            raise error
        else:
            done.set()
            watch.join(_LOOK)  # inside a store's call while the program ends, it would take the program down
        finally:
            done.set()

    def leave(self) -> None:
        """Leave the group, at the end of the program."""
        if dist.is_initialized():
            dist.destroy_process_group()

    def _store(self) -> dist.Store:
        """A connection of our own: waiting for one message does not hold up others."""
        attempt = f"{os.environ.get('TORCHELASTIC_RUN_ID', '')}/{os.environ.get('TORCHELASTIC_RESTART_COUNT', 0)}"
        host, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
        return dist.PrefixStore(attempt, dist.TCPStore(host, port, is_master=False, timeout=timedelta(seconds=60)))

    def _first(self, store: dist.Store, error: Exception) -> Exception:
        """The error to raise: its own, where this process is the first to fail."""
        if isinstance(error, PeerFailed):
            return error
        lost = isinstance(error, (RuntimeError, ConnectionError)) and any(w in str(error).lower() for w in _WORDS)
        mine = f"process {self.rank}: {_told(error)}"
        if lost:
            mine = (
                "contact with another process of the run is lost (killed, or its machine is gone); start again to go "
                f"on from the newest checkpoint ({_told(error):.200})"
            )
            until = time.monotonic() + 3  # it may be about to say why
            while time.monotonic() < until and not _check(store):
                time.sleep(0.05)
        try:
            told = store.compare_set(_KEY, "", mine).decode()
        except (RuntimeError, ValueError):  # the store is gone with its process
            told = mine
        if told != mine:
            return PeerFailed(told)
        return RuntimeError(mine) if lost else error


def _watch(store: dist.Store, done: threading.Event, rank: int) -> None:
    """End this process where another has failed and this one does not notice."""
    while not done.wait(_LOOK):
        if _check(store):
            if not done.wait(_GRACE):
                os._exit(2)
            return


def _check(store: dist.Store) -> bool:
    try:
        return store.check([_KEY])
    except (RuntimeError, ValueError):
        return False


def _told(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
