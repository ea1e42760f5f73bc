"""Where the components of a pipeline compute and where their weights wait."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import nn

__all__ = ["offload_parts"]


def offload_parts(
    parts: dict[str, Any], kind: Literal["model", "sequential"], device: torch.device | str | None
) -> None:
    """Let weights wait on the CPU and visit `device` while they are used, by accelerate's hooks.

    "model" moves one component at a time, the last one leaving as the next one comes; "sequential" moves layer by
    layer, which needs the least memory and is the slowest.

    Raises:
        ValueError: for another kind, no device, or without accelerate.
    """
    if kind not in ("model", "sequential"):
        raise ValueError(f"offload={kind!r}; expected 'model' or 'sequential'")
    if device is None:
        raise ValueError(f"offload={kind!r} needs the device that computes; pass device='cuda'")
    try:
        from accelerate import cpu_offload, cpu_offload_with_hook
    except ImportError as error:
        raise ValueError("offload needs accelerate; install it with: pip install 'mezzotint[diffusers]'") from error
    hook = None
    # in the order in which they run: text encoders, network, autoencoder
    for name in sorted(parts, key=lambda name: (name.startswith("vae"), not name.startswith("text_encoder"))):
        part = parts[name]
        if not isinstance(part, nn.Module):
            continue
        if kind == "sequential":
            cpu_offload(part, torch.device(device), offload_buffers=len(part._parameters) > 0)
        else:
            _, hook = cpu_offload_with_hook(part, torch.device(device), hook)
