"""How an optimiser learns from a loss: parts of a batch, backward, gradient norm, clipping, the optimiser's step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor

from mezzotint.core.noise import Noise
from mezzotint.objective.batch import Loss
from mezzotint.train.share import rows_of, samples_in

__all__ = ["Learner", "Norms"]

LossOf = Callable[[Any, Noise], Loss]  # (a batch or a part of one, its samples' noise) -> Loss


@dataclass(frozen=True)
class Norms:
    """The gradient norm of every parameter in one step, unread: their 2-norm is logged, a bad one is named.

    Args:
        values: (n,) one norm a parameter.
        names: tells those of the parameters; asked only where one is bad.
    """

    values: Tensor
    names: Callable[[], Sequence[str]]


@dataclass(frozen=True)
class Learner:
    """One update of one optimiser.

        g = 1/parts sum_p grad loss(part p);   g <- g min(1, clip / (|g| + 1e-6));   optimiser step

    so that `parts` micro-batches give the gradient of the large batch, where the loss is a mean over samples
    (losses that compare samples with each other see only their part). Nothing is read back from the device,
    except that `skip` looks at the norm on a CPU, and where the optimiser's kernel cannot.

    Args:
        parts: micro-batches a step; each keeps the memory of 1/parts of the batch.
        precision: "bfloat16" runs the networks' matrix work in it (autocast); sums, losses and the weights stay
            float32. On CPUs it is slower.
        nonfinite: "stop" applies every update (the loop stops the run when it reads the metrics); "skip" leaves
            the weights alone where the gradient norm is not finite.

    Raises:
        ValueError: for settings out of range, or a batch that cannot be divided evenly.
    """

    parts: int = 1
    precision: Literal["float32", "bfloat16"] = "float32"
    nonfinite: Literal["stop", "skip"] = "stop"

    def __post_init__(self) -> None:
        if self.parts < 1:
            raise ValueError(f"parts is a number of micro-batches and must be at least 1, got {self.parts}")
        if self.precision not in ("float32", "bfloat16"):
            raise ValueError(f"unknown precision {self.precision!r}; expected float32 or bfloat16")
        if self.nonfinite not in ("stop", "skip"):
            raise ValueError(f"unknown policy {self.nonfinite!r} for values that are not finite; expected stop or skip")

    def __call__(self, task: Any, name: str, loss: LossOf, batch: Any, noise: Noise) -> dict[str, Tensor | Norms]:
        """Update what optimiser `name` of a task trains; returns "loss", its terms, and "gradient" (before clipping).

        Args:
            task: its `optimisers[name]` steps; gradients are clipped to its `clip`, where that is no None.
            name: of the optimiser.
            loss: (part of the batch, noise) -> Loss, a mean over the samples.
            batch: this process's samples of the step.
            noise: one seed a sample.
        """
        optimiser = task.optimisers[name]
        optimiser.zero_grad(set_to_none=True)
        count = samples_in(batch)
        if count % self.parts:
            raise ValueError(f"a batch of {count} samples cannot be divided into {self.parts} equal parts")
        size = count // self.parts
        sums: dict[str, Tensor] = {}
        for place in range(self.parts):
            rows = range(place * size, (place + 1) * size)
            whole = self.parts == 1
            part, seeds = (batch, noise) if whole else (rows_of(batch, rows), noise.rows(slice(rows.start, rows.stop)))
            with self.sharing(task, name, last=place == self.parts - 1):
                with self._autocast(part):
                    told = self.run(task, name, loss, part, seeds)
                (told.total if whole else told.total / self.parts).backward()
            for key, value in {"loss": told.total, **told.terms}.items():
                share = value.detach() if whole else value.detach() / self.parts
                sums[key] = sums[key] + share if key in sums else share
        found = [p for group in optimiser.param_groups for p in group["params"] if p.grad is not None]
        norms = Norms(self.norms([p.grad for p in found]), partial(_names, task, found))
        self._apply(optimiser, found, norms.values, getattr(task, "clip", None))
        return {**sums, "gradient": norms}

    def run(self, task: Any, name: str, loss: LossOf, part: Any, noise: Noise) -> Loss:
        """The loss of a part; engines that replicate a network call it through their wrapper."""
        return loss(part, noise)

    def sharing(self, task: Any, name: str, *, last: bool) -> AbstractContextManager[Any]:
        """Around a part's forward and backward; engines exchange gradients in the last one only."""
        return nullcontext()

    def norms(self, gradients: list[Any]) -> Tensor:
        """The 2-norm of each gradient, (n,); engines that shard add up the shards."""
        return torch.stack(torch._foreach_norm(gradients, 2.0)) if gradients else torch.zeros(0)

    def own(self, tensors: list[Any]) -> list[Any]:
        """The part of each tensor that this process holds, in the same memory."""
        return tensors

    def _autocast(self, part: Any) -> AbstractContextManager[Any]:
        if self.precision == "float32":
            return nullcontext()
        return torch.autocast(getattr(part, "x", part).device.type, torch.bfloat16)

    def _apply(
        self, optimiser: torch.optim.Optimizer, parameters: list[Any], norms: Tensor, clip: float | None
    ) -> None:
        norm = torch.linalg.vector_norm(norms)
        if self.nonfinite == "skip":
            bad = ~norm.isfinite()
            if norm.device.type == "cpu" or not optimiser.defaults.get("fused"):
                if bad:
                    return
            else:  # the optimiser's kernel looks at it on the device
                optimiser.found_inf = bad.float()  # type: ignore[attr-defined]
        if clip is not None:
            factor = torch.clamp(clip / (norm + 1e-6), max=1.0)
            torch._foreach_mul_(self.own([p.grad for p in parameters]), factor)
        optimiser.step()


def _names(task: Any, parameters: Sequence[Any]) -> list[str]:
    """What a task calls its parameters."""
    names = {id(p): name for name, p in task.modules.named_parameters()}
    return [names.get(id(p), "?") for p in parameters]
