"""How much arithmetic a training step is, counted without doing it."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from mezzotint.core.noise import Noise
from mezzotint.train.engine import Single
from mezzotint.train.learner import Learner, LossOf, Norms
from mezzotint.train.share import rows_of, samples_in
from mezzotint.train.task import Task

__all__ = ["count_flops", "flops_per_sample"]

_SMALL = 200_000_000  # parameters of which a second copy does no harm


class _Count(Learner):
    """Forward and backward, and no update."""

    def __call__(self, task: Any, name: str, loss: LossOf, batch: Any, noise: Noise) -> dict[str, Tensor | Norms]:
        total = loss(batch, noise).total
        total.backward()
        return {"loss": total.detach(), "gradient": Norms(total.detach().reshape(1), lambda: ["?"])}


def flops_per_sample(task: Task, batch: Any) -> float:
    """Floating point operations of one training step, forward and backward, a sample of the batch.

        operations of the matrix products, convolutions and attention of a step with 2 samples, / 2

    A multiply-add counts as two; the optimiser, norms and activations are left out, as is usual for the utilisation
    of a machine (arXiv 2204.02311, appendix B). What gradient checkpointing computes twice counts twice; a part of
    the task that starts at a later step does not count. The step is run on a copy of the task whose tensors have
    shapes and no numbers, so that nothing is calculated and no memory taken; a step that looks at numbers is run on
    a true copy, where the task is small. The task stays as it is.

    Args:
        task: its step must go through the `learn` that it is given. Before an engine shares it out among processes.
        batch: of the run, with any number of samples.

    Raises:
        ValueError: where the step cannot be run so; the message says why.
    """
    from torch._subclasses.fake_tensor import FakeTensorMode

    batch = rows_of(batch, range(min(2, samples_in(batch))))
    try:
        with FakeTensorMode(allow_non_fake_inputs=True):
            return _counted(copy.deepcopy(task, _shadows(task)), batch)
    except Exception as error:  # whatever a task does that needs numbers
        small = (
            not any(p.is_meta for p in task.modules.parameters())
            and sum(p.numel() for p in task.modules.parameters()) < _SMALL
        )
        told = f"{type(error).__name__}: {error}"
    try:
        if small:
            return _counted(copy.deepcopy(task, _left_out(task)), batch)
    except Exception as error:
        told = f"{type(error).__name__}: {error}"
    raise ValueError(f"the operations of a step cannot be counted: {told}")


def count_flops(task: Task, batch: Any) -> float | str:
    """`flops_per_sample`, or why a step cannot be counted."""
    try:
        return flops_per_sample(task, batch)
    except ValueError as error:
        return str(error)


def _counted(shadow: Task, batch: Any) -> float:
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils.flop_counter import FlopCounterMode

    device = next((p.device for p in shadow.modules.parameters()), torch.device("cpu"))
    part, count = Single(str(device), channels_last=False).move(batch), samples_in(batch)
    # attention as plain products, which the counter knows on every device
    with torch.random.fork_rng([device] if device.type == "cuda" else []), sdpa_kernel(SDPBackend.MATH):
        with FlopCounterMode(display=False) as counted:
            shadow.step(part, 0, Noise(range(count)), _Count())
    return counted.get_total_flops() / count


def _shadows(task: Task) -> dict[int, Any]:
    """For deepcopy: what stands in for a task's parameters and buffers, and what is left out."""
    memo = _left_out(task)
    for modules in (task.modules, task.frozen):
        for p in modules.parameters():
            memo[id(p)] = nn.Parameter(_shape(p), requires_grad=p.requires_grad)
        for b in modules.buffers():
            memo[id(b)] = _shape(b)
    return memo


def _left_out(task: Task) -> dict[int, Any]:
    """Averages and optimisers: nothing asks for them."""
    return {id(task.ema): {}, id(task.optimisers): {}}


def _shape(tensor: Tensor) -> Tensor:
    device = "cpu" if tensor.is_meta else tensor.device  # weights that are made when they are placed
    return torch.empty(tensor.shape, dtype=tensor.dtype, device=device)
