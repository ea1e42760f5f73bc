"""How much arithmetic a training step is, counted without doing it."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from mezzotint.core.condition import Condition
from mezzotint.core.noise import Noise
from mezzotint.train.learner import Learner, LossOf, Norms
from mezzotint.train.share import rows_of, samples_in
from mezzotint.train.task import Task

__all__ = ["flops_per_sample"]


class _Count(Learner):
    """Forward and backward, and no update."""

    def __call__(self, task: Any, name: str, loss: LossOf, batch: Any, noise: Noise) -> dict[str, Tensor | Norms]:
        total = loss(batch, noise).total
        total.backward()
        return {"loss": total.detach(), "gradient": Norms(total.detach().reshape(1), ["?"])}


def flops_per_sample(task: Task, batch: Any) -> float:
    """Floating point operations of one training step, forward and backward, a sample of the batch.

        operations of the matrix products, convolutions and attention of a step with 2 samples, / 2

    A multiply-add counts as two; the optimiser, norms and activations are left out, as is usual for the utilisation
    of a machine (arXiv 2204.02311, appendix B). What gradient checkpointing computes twice counts twice; a part of
    the task that starts at a later step does not count. The step is run on a copy of the task without memory (the
    "meta" device): nothing is calculated and the task stays as it is.

    Args:
        task: before or after it was placed on a device. Its step must go through the `learn` that it is given.
        batch: of the run, with any number of samples.

    Raises:
        ValueError: where the step cannot be run so; the message says why.
    """
    count = min(2, samples_in(batch))
    told = ""
    for noise in (Noise(range(count)), _MetaNoise(range(count))):  # objectives differ in where they want their noise
        try:
            return _counted(task, rows_of(batch, range(count)), noise) / count
        except Exception as error:  # whatever a task does that needs numbers
            told = told or f"{type(error).__name__}: {error}"
    raise ValueError(f"the operations of a step cannot be counted: {told}")


class _MetaNoise(Noise):
    """Noise without numbers."""

    def __call__(self, purpose: str, k: int, shape: Sequence[int], *, dtype: Any = torch.float32, device: Any = None):
        return torch.empty((len(self), *shape), dtype=dtype, device="meta")

    def uniform(self, purpose: str, k: int, shape: Any = (), *, dtype: Any = torch.float32, device: Any = None):
        return self(purpose, k, shape, dtype=dtype)


def _counted(task: Task, batch: Any, noise: Noise) -> int:
    from torch.utils.flop_counter import FlopCounterMode

    with torch.random.fork_rng([]), FlopCounterMode(display=False) as counted:
        copy.deepcopy(task, _shadows(task)).step(_to_meta(batch), 0, noise, _Count())
    return counted.get_total_flops()


def _shadows(task: Task) -> dict[int, Any]:
    """For deepcopy: what stands in for a task's parameters and buffers; averages and optimisers are left out."""
    memo: dict[int, Any] = {}
    for modules in (task.modules, task.frozen):
        for p in modules.parameters():
            memo[id(p)] = nn.Parameter(_meta(p), requires_grad=p.requires_grad)
        for b in modules.buffers():
            memo[id(b)] = _meta(b)
    memo[id(task.ema)], memo[id(task.optimisers)] = {}, {}
    return memo


def _meta(tensor: Tensor) -> Tensor:
    return torch.empty(tensor.shape, dtype=tensor.dtype, device="meta")


def _to_meta(value: Any) -> Any:
    if isinstance(value, Tensor):
        return _meta(value)
    if isinstance(value, Condition):
        return Condition({k: _meta(v) for k, v in value.items()}, {k: _meta(v) for k, v in value.null_rows.items()})
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {f.name: getattr(value, f.name) for f in dataclasses.fields(value) if f.init}
        return dataclasses.replace(value, **{k: _to_meta(v) for k, v in fields.items()})
    if isinstance(value, dict):
        return {k: _to_meta(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_to_meta(v) for v in value)
    return value
