"""Where a run happens: the device, and how a task and its batches get there."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, TypeVar, runtime_checkable

import torch
from torch import Tensor

from mezzotint.core.condition import Condition
from mezzotint.train.checkpoint import write_checkpoint
from mezzotint.train.learner import Learner
from mezzotint.train.state import load_task, save_task
from mezzotint.train.task import Task

T = TypeVar("T")


@runtime_checkable
class Engine(Protocol):
    """What the loop asks of the machine; one process, several, and sharded ones answer alike.

    Attributes:
        rank: this process's number; rank 0 writes the log.
        world: how many processes share each step's batch.
        device: this process's.
    """

    @property
    def rank(self) -> int: ...

    @property
    def world(self) -> int: ...

    @property
    def device(self) -> torch.device: ...

    def together(self) -> AbstractContextManager[None]:
        """Around a run: a failure of one process ends them all."""
        ...

    def lead(self, action: Callable[[], T]) -> T:
        """What process 0 gets from an action that only it does (a JSON value), or its error, on every process."""
        ...

    def builder(self, make: Callable[..., T]) -> Callable[..., T]:
        """Return how this process builds a network; one whose weights come from process 0 spares them."""
        ...

    def place(self, task: Task) -> None:
        """Put a task where it is trained, in place."""
        ...

    def compiled(self, task: Task) -> AbstractContextManager[None]:
        """Around the steps: networks are compiled where the engine is set to."""
        ...

    def move(self, batch: Any) -> Any:
        """Return a batch on the device."""
        ...

    def sync(self) -> None:
        """Wait until the device has done what it was given (before clocks are read)."""
        ...

    def agree(self, flags: int) -> int:
        """Return the bitwise or of every process's flags (below 256)."""
        ...

    def gather(self, values: Tensor) -> Tensor:
        """Return the numbers (n,) of every process, (world, n)."""
        ...

    def learner(self, parts: int, nonfinite: Literal["stop", "skip"]) -> Learner:
        """Return how optimisers learn here."""
        ...

    def save(self, task: Task, root: Path, step: int, keep: int, facts: Mapping[str, Any]) -> Path:
        """Write a checkpoint."""
        ...

    def load(self, task: Task, folder: Path) -> dict[str, Any]:
        """Fill a task from a checkpoint, and return its facts."""
        ...


@dataclass(frozen=True)
class Single:
    """One process, one device.

    Args:
        name: "cpu", "cuda", "cuda:1"; None takes the GPU where there is one.
        channels_last: lay images and convolution weights out channels last (20 to 25 % on a CPU).
        threads: torch's CPU threads; None leaves them as they are. Bit-equal resumes need the same number.
        precision: of the networks' matrix work, "float32" or "bfloat16" (for GPUs; see `Learner`).
        compile: backend of torch.compile for the networks' repeated blocks, such as "inductor" (minutes at the first
            step; for GPUs); None for none.

    >>> Single("cpu").device
    device(type='cpu')
    """

    name: str | None = None
    channels_last: bool = True
    threads: int | None = None
    precision: Literal["float32", "bfloat16"] = "float32"
    compile: str | None = None
    rank: int = dataclasses.field(default=0, init=False)
    world: int = dataclasses.field(default=1, init=False)

    def __post_init__(self) -> None:
        if self.threads is not None and self.threads < 1:
            raise ValueError(f"threads must be at least 1, got {self.threads}")
        if self.name is not None:
            try:
                device = torch.device(self.name)
            except RuntimeError as error:
                raise ValueError(f"unknown device {self.name!r}; expected cpu, cuda, or cuda:N") from error
            if device.type == "cuda" and not torch.cuda.is_available():
                raise ValueError(f"device {self.name!r} asked for, but torch sees no GPU here; use cpu")

    @property
    def device(self) -> torch.device:
        return torch.device(self.name or ("cuda" if torch.cuda.is_available() else "cpu"))

    def together(self) -> AbstractContextManager[None]:
        return nullcontext()

    def lead(self, action: Callable[[], T]) -> T:
        return action()

    def builder(self, make: Callable[..., T]) -> Callable[..., T]:
        return make

    def place(self, task: Task) -> None:
        if self.threads is not None:
            torch.set_num_threads(self.threads)
        for modules in (task.modules, task.frozen):
            modules.to(self.device)
            if self.channels_last:
                modules.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        for ema in task.ema.values():
            ema.align()
        if self.device.type in ("cpu", "cuda"):
            for optimiser in task.optimisers.values():
                fuse(optimiser)

    @contextmanager
    def compiled(self, task: Task) -> Iterator[None]:
        with ExitStack() as stack:
            if self.compile is not None:
                from mezzotint.sample.compiled import compiled

                for module in task.modules.values():
                    stack.enter_context(compiled(module, self.compile))
            yield

    def move(self, batch: Any) -> Any:
        return _map_tensors(batch, self._move_tensor)

    def sync(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def agree(self, flags: int) -> int:
        return flags

    def gather(self, values: Tensor) -> Tensor:
        return values[None]

    def learner(self, parts: int, nonfinite: Literal["stop", "skip"]) -> Learner:
        return Learner(parts, self.precision, nonfinite)

    def save(self, task: Task, root: Path, step: int, keep: int, facts: Mapping[str, Any]) -> Path:
        return write_checkpoint(root, step, lambda folder: save_task(task, folder, **facts), keep)

    def load(self, task: Task, folder: Path) -> dict[str, Any]:
        return load_task(task, folder)

    def _move_tensor(self, tensor: Tensor) -> Tensor:
        image = self.channels_last and tensor.ndim == 4 and tensor.is_floating_point()
        layout = torch.channels_last if image else torch.preserve_format
        return tensor.to(self.device, non_blocking=True, memory_format=layout)


def fuse(optimiser: torch.optim.Optimizer) -> None:
    """Let Adam and AdamW step in one kernel: a third of the time on a CPU; on a GPU no step count goes to the host."""
    if type(optimiser) in (torch.optim.Adam, torch.optim.AdamW):
        for group in (optimiser.defaults, *optimiser.param_groups):
            group["fused"], group["foreach"] = True, False


def _map_tensors(value: Any, move: Callable[[Tensor], Tensor]) -> Any:
    if isinstance(value, Tensor):
        return move(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {f.name: getattr(value, f.name) for f in dataclasses.fields(value) if f.init}
        return dataclasses.replace(value, **{k: _map_tensors(v, move) for k, v in fields.items()})
    if isinstance(value, Condition):
        return value.to(move(torch.empty(0)).device)
    if isinstance(value, dict):
        return {k: _map_tensors(v, move) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_map_tensors(v, move) for v in value)
    return value
