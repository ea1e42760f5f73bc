"""Gradient checkpointing: recompute a block's activations in the backward pass instead of keeping them."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from .site import any_opened, none_opened


def recomputed(block: Callable[..., Tensor], *args: object) -> Tensor:
    """Return `block(*args)`, keeping only its inputs for the backward pass.

    While this thread has attention handlers open the block runs as usual: a recomputation would show every call to
    them twice. In return the recomputation sees no handler, whatever is open by the time of the backward pass.

    >>> x = torch.ones(2, requires_grad=True)
    >>> recomputed(torch.sin, x).sum().backward()
    >>> torch.equal(x.grad, x.detach().cos())
    True
    """
    if not torch.is_grad_enabled() or any_opened():
        return block(*args)

    def unhandled() -> Tensor:
        with none_opened():
            return block(*args)

    out = checkpoint(unhandled, use_reentrant=False)
    assert isinstance(out, Tensor)
    return out
