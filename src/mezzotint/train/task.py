"""What the training loop trains: the one door between a method and the machinery."""

from __future__ import annotations

import dataclasses
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from mezzotint.core.noise import Noise
from mezzotint.train.ema import EMA


@runtime_checkable
class Task(Protocol):
    """Modules with their optimisers, and one training step over them.

    Everything a step depends on beyond its arguments lives in `modules`, `optimisers` and `ema`: that is what
    a checkpoint holds, and why a resumed run equals an uninterrupted one. Randomness comes from `noise` (or,
    inside network layers such as dropout, from the generator that the loop seeds before each step). A single
    denoiser and a generator with its discriminator are both tasks.

    Attributes:
        modules: everything whose state is saved. It must be built the same way each time.
        optimisers: name -> optimiser over parameters of `modules`. The loop multiplies their base learning
            rates by the schedule's factor before each step.
        ema: name -> average of one of the modules; the loop updates them after each step.
        frozen: networks a step only reads (features, a teacher). They go where the modules go and are not
            saved: a deterministic build brings them back.
    """

    modules: nn.ModuleDict
    optimisers: dict[str, torch.optim.Optimizer]
    ema: dict[str, EMA]
    frozen: nn.ModuleDict

    def step(self, batch: Any, step: int, noise: Noise) -> dict[str, Tensor]:
        """Forward, backward, clipping and optimiser steps; returns scalar tensors, unread (no `.item()`)."""
        ...


def frozen_parts(objective: Any) -> nn.ModuleDict:
    """Return the networks inside an objective (itself a module, or the module fields of a dataclass)."""
    if isinstance(objective, nn.Module):
        return nn.ModuleDict({"objective": objective})
    fields = dataclasses.fields(objective) if dataclasses.is_dataclass(objective) else ()
    parts = {f.name: getattr(objective, f.name) for f in fields}
    return nn.ModuleDict({name: part for name, part in parts.items() if isinstance(part, nn.Module)})
