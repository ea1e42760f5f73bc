"""Which engine a command runs on: one process, or those that torchrun has started."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import torch

from mezzotint.train.ddp import DDP
from mezzotint.train.engine import Engine, Single
from mezzotint.train.group import Group

__all__ = ["launched", "local_device", "process"]

EngineName = Literal["single", "ddp", "fsdp"]


def process() -> tuple[int, int]:
    """This process's number and how many torchrun has started; (0, 1) without it.

    >>> process()
    (0, 1)
    """
    return int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))


@contextmanager
def launched(
    name: EngineName | None = None,
    device: str | None = None,
    *,
    threads: int | None = None,
    precision: Literal["float32", "bfloat16"] = "float32",
    compile: str | None = None,
) -> Iterator[Engine]:
    """An engine for the length of a program, whose failures are shared by all processes.

    Args:
        name: "single", "ddp" or "fsdp"; None takes "ddp" where torchrun has started several processes.
        device: as "cpu" or "cuda"; under torchrun each process takes the GPU of its local rank. None takes a GPU
            where there is one.
        threads, precision, compile: see `Single`.

    Raises:
        ValueError: for an engine that does not suit the environment.
        PeerFailed: where another process has failed and tells why.
    """
    world = process()[1]
    name = name or ("ddp" if world > 1 else "single")
    if name == "single":
        if world > 1:
            raise ValueError(
                f"the engine single in {world} processes: all would train the same run; take ddp or fsdp, or start "
                "without torchrun"
            )
        yield Single(device, threads=threads, precision=precision, compile=compile)
        return
    if name == "fsdp":
        from mezzotint.train.fsdp import FSDP2

        one = Single(local_device(device), channels_last=False, threads=threads, precision=precision, compile=compile)
        engine = FSDP2(one, Group(one.device))
    elif name == "ddp":
        one = Single(local_device(device), threads=threads, precision=precision, compile=compile)
        engine = DDP(one, Group(one.device))
    else:
        raise ValueError(f"unknown engine {name!r}; expected single, ddp or fsdp")
    with engine.together():
        yield engine
    engine.group.leave()  # not after a failure, where it might wait for those that are gone


def local_device(name: str | None = None) -> str:
    """The device of this process: the GPU of its local rank, where there are GPUs and no other is asked for."""
    if name not in (None, "auto", "cuda"):
        return str(name)
    if not torch.cuda.is_available():
        return "cpu"
    return f"cuda:{int(os.environ.get('LOCAL_RANK', 0)) % torch.cuda.device_count()}"
