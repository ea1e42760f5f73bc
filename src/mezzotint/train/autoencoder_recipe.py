"""Training of an autoencoder as a recipe: the first stage of latent diffusion."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from mezzotint.latent.autoencoder import Autoencoder
from mezzotint.train.autoencoding import AutoencodingObjective, AutoencodingTask
from mezzotint.train.engine import Engine
from mezzotint.train.power_ema import Averaging
from mezzotint.train.recipe import Batches, Runnable
from mezzotint.train.report.samples import FirstBatch, Reconstructions, Samples

__all__ = ["AutoencoderRecipe"]


@dataclass(frozen=True)
class AutoencoderRecipe(Runnable):
    """Training of an autoencoder: the first stage of latent diffusion.

    Args:
        data: (batch size, seed) -> (step -> Batch of images in [-1, 1]), a pure function of step.
        autoencoder: () -> the fresh autoencoder.
        objective: (autoencoder, batch, noise) -> Loss.
        ema: largest decay of the average, or several, or `Power` lengths, of which the first is used; None for none.
    """

    data: Callable[[int, int], Batches]
    autoencoder: Callable[[], Autoencoder]
    objective: AutoencodingObjective
    ema: Averaging = None

    def on(self, engine: Engine) -> AutoencoderRecipe:
        """Return the recipe as a process of this engine builds it."""
        return replace(self, autoencoder=engine.builder(self.autoencoder))

    def build(self) -> tuple[AutoencodingTask, Batches]:
        """Build the autoencoder's task and the batches of images."""
        o = self.optimiser
        task = AutoencodingTask(
            self.autoencoder(), self.objective, optimiser=o.without_decay, clip=o.clip, ema=self.ema
        )
        return task, self.data(self.budget.batch, self.seed)

    def pictures(self, batches: Batches) -> Samples:
        """Reconstructions of some training images."""
        return FirstBatch(batches, Reconstructions.like)
