"""What a flow's network is told of the time, where the scheduler counts in whole steps."""

from __future__ import annotations

from typing import Any

from torch import Tensor

__all__ = ["cut", "tells_whole_steps"]


def tells_whole_steps(scheduler: Any) -> bool:
    """Whether a scheduler tells flow networks floor(1000 sigma): those made for integer steps do (DPM-Solver, UniPC),
    the schedulers of flow matching tell 1000 sigma."""
    return bool(scheduler.config.get("use_flow_sigmas")) and not type(scheduler).__name__.startswith("FlowMatch")


def cut(time: Tensor) -> Tensor:
    """floor(time); 1000 sigma comes in float32, and what lies within its rounding below a whole number is meant to
    be it.

    >>> import torch
    >>> cut(torch.tensor([749.9999, 749.9])).tolist()
    [750.0, 749.0]
    """
    return (time + 1e-3).floor()
