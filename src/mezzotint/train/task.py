"""What the training loop trains: the one door between a method and the machinery."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from mezzotint.core.noise import Noise
from mezzotint.train.ema import EMA
from mezzotint.train.learner import Learner, Norms

Metrics = dict[str, Tensor | Norms]


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

    def step(self, batch: Any, step: int, noise: Noise, learn: Learner) -> Metrics:
        """One step: `learn(self, name, loss, batch, noise)` for each optimiser in turn; returns unread scalars.

        `learn` does forward, backward, clipping (to `self.clip`, where there is one) and the optimiser's step, in
        parts and together with other processes as the engine has it.
        """
        ...


def trainable(module: nn.Module, name: str) -> list[nn.Parameter]:
    """Return the parameters of a module that require a gradient.

    Raises:
        ValueError: where there is none; the message names the module `name`.
    """
    found = [p for p in module.parameters() if p.requires_grad]
    if not found:
        raise ValueError(f"the {name} has no parameter that requires a gradient; nothing to train")
    return found


def check_clip(clip: float | None) -> None:
    """Refuse a gradient norm to clip to that is not positive."""
    if clip is not None and not clip > 0:
        raise ValueError(f"clip is a gradient norm and must be positive (or None), got {clip}")


def frozen_parts(objective: Any) -> nn.ModuleDict:
    """Return the networks inside an objective, at any depth of dataclasses, lists and mappings; named by their place.

    >>> frozen_parts((nn.Identity(), {"teacher": nn.Linear(2, 2)}))
    ModuleDict(
      (0): Identity()
      (1_teacher): Linear(in_features=2, out_features=2, bias=True)
    )
    """
    found: dict[str, nn.Module] = {}
    _collect(objective, "", found)
    return nn.ModuleDict(found)


def _collect(part: Any, name: str, found: dict[str, nn.Module]) -> None:
    if isinstance(part, nn.Module):
        name = name or "objective"
        while name in found or hasattr(nn.ModuleDict, name):  # a_b of a.b, and values, which it has itself
            name += "_"
        found[name] = part
        return
    if isinstance(part, Mapping):
        inner = {str(key).replace(".", "_"): value for key, value in part.items()}
    elif isinstance(part, (list, tuple)):
        inner = {str(i): value for i, value in enumerate(part)}
    elif dataclasses.is_dataclass(part) and not isinstance(part, type):
        inner = {field.name: getattr(part, field.name) for field in dataclasses.fields(part)}
    else:
        return
    for key, value in inner.items():
        _collect(value, f"{name}_{key}" if name else key, found)
