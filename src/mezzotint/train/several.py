"""What engines of several processes have in common."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from mezzotint.core.noise import Noise
from mezzotint.train.engine import Single
from mezzotint.train.group import Group
from mezzotint.train.learner import LossOf
from mezzotint.train.task import Task

__all__ = ["LossModule", "Several", "average", "send"]

T = TypeVar("T")


@dataclass(frozen=True)
class Several:
    """Processes under torchrun; a base of engines.

    Args:
        single: device, layout, threads, precision and compilation of each process.
        group: the processes.
    """

    single: Single
    group: Group

    @property
    def rank(self) -> int:
        return self.group.rank

    @property
    def world(self) -> int:
        return self.group.world

    @property
    def device(self) -> torch.device:
        return self.single.device

    def together(self) -> AbstractContextManager[None]:
        return self.group.together()

    def lead(self, action: Callable[[], T]) -> T:
        return self.group.lead(action)

    def compiled(self, task: Task) -> AbstractContextManager[None]:
        return self.single.compiled(task)

    def move(self, batch: Any) -> Any:
        return self.single.move(batch)

    def sync(self) -> None:
        self.single.sync()

    def agree(self, flags: int) -> int:
        return self.group.any(flags)

    def gather(self, values: Tensor) -> Tensor:
        return self.group.gather(values)


class LossModule(nn.Module):
    """The computation of a loss, as a module with the parameters it trains.

    What wraps this sees one forward pass a loss, whatever the loss does inside (several networks, several passes), and
    the networks themselves keep their types and names.
    """

    def __init__(self, trained: nn.Module) -> None:
        super().__init__()
        self.trained = trained
        self.terms: dict[str, Tensor] = {}
        self.running = False

    def forward(self, loss: LossOf, part: Any, noise: Noise) -> Tensor:
        """The loss's total; its terms are kept aside, as no gradient flows from them."""
        self.running = True
        try:
            told = loss(part, noise)
        finally:
            self.running = False
        self.terms = {name: term.detach() for name, term in told.terms.items()}
        return told.total


def send(tensor: Tensor) -> None:
    """Overwrite a tensor by that of process 0, whatever its layout."""
    value = tensor.detach()
    flat = value.contiguous()
    dist.broadcast(flat, 0)
    if flat.data_ptr() != value.data_ptr():
        value.copy_(flat)


def average(tensor: Tensor) -> None:
    """Replace a tensor by its mean over the processes, whatever its layout."""
    flat = tensor.contiguous()
    dist.all_reduce(flat)
    torch.div(flat, dist.get_world_size(), out=flat)
    if flat.data_ptr() != tensor.data_ptr():
        tensor.copy_(flat)
