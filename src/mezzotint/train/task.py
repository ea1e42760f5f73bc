"""What the training loop trains: the one door between a method and the machinery."""

from __future__ import annotations

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
    """

    modules: nn.ModuleDict
    optimisers: dict[str, torch.optim.Optimizer]
    ema: dict[str, EMA]

    def step(self, batch: Any, step: int, noise: Noise) -> dict[str, Tensor]:
        """Forward, backward, clipping and optimiser steps; returns detached scalar tensors (no `.item()`)."""
        ...
