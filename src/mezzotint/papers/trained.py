"""The training of every small demonstration: one network for so many processor seconds, its averaged weights."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from typing import TypeVar, cast

import torch

from mezzotint.core import Denoiser, fold
from mezzotint.objective import Batch, Objective
from mezzotint.train import DenoisingTask, Single, fit

__all__ = ["trained"]

_MOST = 10**6
D = TypeVar("D", bound=Denoiser)


def trained(
    build: Callable[[], D],
    objective: Objective,
    batch: Callable[[int], Batch],
    *,
    seconds: float,
    seed: int,
    lr: float = 2e-3,
    purpose: str = "net",
) -> D:
    """Train from weights that the seed and a purpose fix; other methods get the same seconds, not the same steps.

    Args:
        build: () -> the denoiser.
        objective: what is minimised.
        batch: step -> the batch.
        seconds: of the processor, > 0; making data is best done before.
        seed: of weights, order and noise.
        lr: of Adam.
        purpose: of the seed of the weights.

    Returns:
        The denoiser with its averaged weights (EMA, decay 0.99), in eval mode.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(fold(seed, purpose))
        task = DenoisingTask(build(), objective, lr=lr, ema=0.99)
    until = time.process_time() + seconds
    with tempfile.TemporaryDirectory() as out:
        fit(task, batch, steps=_MOST, seed=seed, out=out, engine=Single("cpu"), save_every=_MOST,
            stop=lambda: time.process_time() >= until)  # fmt: skip
    task.ema["denoiser"].copy_to_module()
    return cast(D, task.denoiser.eval())
