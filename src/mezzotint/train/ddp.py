"""Training by several processes, each with the whole network and its share of the batch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from mezzotint.core.noise import Noise
from mezzotint.objective.batch import Loss
from mezzotint.train.learner import Learner, LossOf
from mezzotint.train.several import LossModule, Several, average, send
from mezzotint.train.statistics import average_statistics
from mezzotint.train.task import Task

__all__ = ["DDP"]

T = TypeVar("T")


@dataclass(frozen=True)
class DDP(Several):
    """Data parallelism under torchrun: the same steps as `Single`, each process on its rows of every batch.

        g = 1/world sum_r grad loss(rows of process r),

    the gradient of the whole batch where the loss is a mean over its samples, so learning rates and losses do not
    change with the number of processes. Checkpoints are those of `Single`, written by process 0 and read by all.

    Args:
        single: device, layout, threads, precision and compilation of each process; a device without an index, or
            none, becomes the GPU of the process's local rank.
        group: the processes.
        unused: whether steps may leave some parameters without a gradient; None looks at each optimiser's first step.

    Source: arXiv 2006.15704.
    """

    unused: bool | None = None

    def builder(self, make: Callable[..., T]) -> Callable[..., T]:
        return make

    @torch.no_grad()
    def place(self, task: Task) -> None:
        self.single.place(task)
        for modules in (task.modules, task.frozen):  # built alike everywhere; this makes sure
            for tensor in (*modules.parameters(), *modules.buffers()):
                send(tensor)
        for ema in task.ema.values():
            for tensor in ema.averages.values():
                send(tensor)

    def learner(self, parts: int, nonfinite: Literal["stop", "skip"]) -> Learner:
        return _Replicas(parts, self.single.precision, nonfinite, unused=self.unused)

    def save(self, task: Task, root: Path, step: int, keep: int, facts: Mapping[str, Any]) -> Path:
        return Path(self.group.lead(lambda: str(self.single.save(task, root, step, keep, facts))))

    def load(self, task: Task, folder: Path) -> dict[str, Any]:
        return self.group.all(lambda: self.single.load(task, folder))


@dataclass(frozen=True)
class _Replicas(Learner):
    """Gradients are averaged over the processes while the last part's backward pass runs.

    An optimiser's first step averages them afterwards, and shows whether there are parameters that a loss leaves out:
    only then each later step looks for them.
    """

    unused: bool | None = None
    wrapped: dict[str, DistributedDataParallel] = field(default_factory=dict, compare=False)

    def run(self, task: Any, name: str, loss: LossOf, part: Any, noise: Noise) -> Loss:
        wrapper = self.wrapped.get(name)
        return loss(part, noise) if wrapper is None else Loss(wrapper(loss, part, noise), wrapper.module.terms)

    @contextmanager
    def sharing(self, task: Any, name: str, *, last: bool) -> Iterator[None]:
        wrapper = self.wrapped.get(name)
        with nullcontext() if last or wrapper is None else wrapper.no_sync():
            yield
        if not last:
            return
        trained = [p for group in task.optimisers[name].param_groups for p in group["params"]]
        if wrapper is None:
            found = average_gradients(trained)
            self.wrapped[name] = DistributedDataParallel(
                LossModule(nn.ParameterList(trained)),
                find_unused_parameters=not found if self.unused is None else self.unused,
            )
        elif not wrapper.find_unused_parameters and any(p.grad is None for p in trained):
            raise ValueError(
                f"a step of the optimiser {name!r} left parameters without a gradient that the first step did not; "
                "use DDP(..., unused=True)"
            )
        average_statistics(task.modules, average)


def average_gradients(parameters: list[nn.Parameter]) -> bool:
    """Average gradients over the processes, one by one; returns whether every process had all of them."""
    used = torch.tensor([p.grad is not None for p in parameters], dtype=torch.int32)
    dist.all_reduce(used)
    for p, count in zip(parameters, used.tolist(), strict=True):
        if count:
            p.grad = torch.zeros_like(p) if p.grad is None else p.grad
            average(p.grad)
    return bool((used == dist.get_world_size()).all())
