"""Pictures of what a task can do so far: drawn from fixed seeds, with averaged weights, without touching the run."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mezzotint.core.condition import Condition
from mezzotint.core.noise import Noise
from mezzotint.train.share import rows_of
from mezzotint.train.task import Task

if TYPE_CHECKING:
    from mezzotint.sample import Sampler

__all__ = ["DenoisedSamples", "FirstBatch", "Reconstructions", "Samples", "at_rest"]

Samples = Callable[[Task, int], Float[Tensor, "n c h w"]]  # (task, step) -> images in [-1, 1]


@contextmanager
def at_rest(task: Task) -> Iterator[None]:
    """The task in evaluation mode with averaged weights and without gradients; all as before on leaving, bit for bit.

    Torch's generators are kept aside as well, so that whatever is drawn inside changes nothing outside.
    """
    modes = {module: module.training for module in task.modules.modules()}
    devices = [p.device for p in task.modules.parameters() if p.device.type == "cuda"][:1]
    with ExitStack() as stack:
        stack.enter_context(torch.random.fork_rng(devices))
        stack.enter_context(torch.no_grad())
        for ema in {id(ema.module): ema for ema in reversed(task.ema.values())}.values():  # a module's first average
            stack.enter_context(ema.applied())
        task.modules.eval()
        try:
            yield
        finally:
            for module, training in modes.items():
                module.training = training


@dataclass(frozen=True)
class DenoisedSamples:
    """Samples of a denoiser in training from seeds 0, 1, 2, ..., without guidance.

    Args:
        shape: of one (latent) sample.
        autoencoder: that decodes them (`Identity` for pixels).
        c: conditions, one a sample; None for none.
        count: of images.
        steps: of the sampler.
        sampler: None for DPM-Solver++ 2M.
    """

    shape: tuple[int, ...]
    autoencoder: nn.Module
    c: Condition | None = None
    count: int = 16
    steps: int = 20
    sampler: Sampler | None = None

    @classmethod
    def like(cls, batch: Any, autoencoder: nn.Module, count: int = 16, steps: int = 20) -> DenoisedSamples:
        """Samples of the shape of a batch, told what its first samples are told."""
        count = min(count, len(batch.x))
        first = rows_of(batch, range(count))
        return cls(tuple(batch.x.shape[1:]), autoencoder, first.c, count, steps)

    def __call__(self, task: Task, step: int) -> Float[Tensor, "n c h w"]:
        """Images in [-1, 1]; `task.modules` has a "denoiser"."""
        return self.of(task.modules["denoiser"])

    def of(self, denoiser: Any) -> Float[Tensor, "n c h w"]:
        """Images in [-1, 1] of any denoiser, by the same seeds."""
        from mezzotint.sample import DPMSolverPP

        device = next(denoiser.parameters()).device
        noise = Noise(range(self.count))
        c = None if self.c is None else self.c.to(device)
        prior = noise("x_T", 0, self.shape, device=device) * float(denoiser.schedule.sigma(torch.tensor(1.0)))
        z = (self.sampler or DPMSolverPP(order=2))(denoiser, prior, steps=self.steps, c=c, noise=noise)
        return self._decoder(device)(z)

    def _decoder(self, device: torch.device) -> Callable[[Tensor], Tensor]:
        """On the device of the task; a copy where the data's own lies elsewhere."""
        own: Any = self.autoencoder
        place = next((t.device for t in [*own.parameters(), *own.buffers()]), device)
        return own.decode if place == device else copy.deepcopy(own).to(device).decode


@dataclass(frozen=True)
class Reconstructions:
    """Images of a batch and, below, what the autoencoder in training makes of them.

    Args:
        x: (8, c, h, w) images in [-1, 1]; with other numbers the two halves share rows of the sheet.
    """

    x: Tensor

    @classmethod
    def like(cls, batch: Any) -> Reconstructions:
        """Of the first images of a batch."""
        return cls(batch.x[:8])

    def __call__(self, task: Task, step: int) -> Float[Tensor, "n c h w"]:
        """Rows of images and their reconstructions in turn; `task.modules` has an "autoencoder"."""
        autoencoder: Any = task.modules["autoencoder"]
        x = self.x.to(next(autoencoder.parameters()).device)
        made = autoencoder.decode(autoencoder.encode(x))
        return torch.cat([x, made]).cpu()


class FirstBatch:
    """Pictures that need a batch of the run: made when they are first asked for.

    Args:
        batches: step -> batch.
        make: batch -> pictures.
    """

    def __init__(self, batches: Callable[[int], Any], make: Callable[[Any], Samples]) -> None:
        self._batches, self._make = batches, make
        self._made: Samples | None = None

    def __call__(self, task: Task, step: int) -> Float[Tensor, "n c h w"]:
        """Images in [-1, 1]."""
        if self._made is None:
            self._made = self._make(self._batches(0))
        return self._made(task, step)
