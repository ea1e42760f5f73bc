"""Training an autoencoder against a discriminator."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

import torch
from torch import nn

from mezzotint.core.noise import Noise
from mezzotint.latent.autoencoder import Autoencoder
from mezzotint.objective.adversarial import DiscriminatorLoss
from mezzotint.objective.batch import Batch, Loss
from mezzotint.train.learner import Learner
from mezzotint.train.power_ema import Averaging, averages
from mezzotint.train.task import Metrics, check_clip, frozen_parts, trainable

_PLAIN = Learner()


@runtime_checkable
class Generator(Protocol):
    """The autoencoder's loss where a discriminator plays along: `KLGenerator`, `VQGenerator`."""

    @property
    def discriminator(self) -> nn.Module: ...

    @property
    def disc_start(self) -> int: ...

    def __call__(self, autoencoder: Any, batch: Batch, noise: Noise, step: int) -> Loss: ...


class AdversarialTask:
    """An autoencoder and its discriminator, each with Adam.

    In one step the autoencoder learns first, then the discriminator on the image and its reconstruction by the
    autoencoder that has just learnt, with the same latent noise. Before `disc_start` the discriminator is left
    alone (the released code gives it gradients of zero).

    Args:
        autoencoder: what is trained.
        generator: the autoencoder's loss, which holds the discriminator.
        lr, betas: of both; (0.5, 0.9) as in the released code.
        clip: largest gradient norm of each; None, as in the released code, for no clipping.
        ema: largest decay of the autoencoder's average, or several of them, or `Power` lengths; None, as in the
            released code, for none.

    Source: arXiv 2112.10752, released code.
    """

    def __init__(
        self,
        autoencoder: Autoencoder,
        generator: Generator,
        *,
        lr: float = 1e-4,
        betas: tuple[float, float] = (0.5, 0.9),
        clip: float | None = None,
        ema: Averaging = None,
    ) -> None:
        check_clip(clip)
        self.generator = generator
        self.clip = clip
        self.modules = nn.ModuleDict({"autoencoder": autoencoder, "discriminator": generator.discriminator})
        self.frozen = frozen_parts(generator)
        self.frozen.pop("discriminator")
        self._told = DiscriminatorLoss(generator.discriminator, generator.disc_start)
        self.optimisers: dict[str, torch.optim.Optimizer] = {
            name: torch.optim.Adam(trainable(module, name), lr=lr, betas=betas, foreach=True)
            for name, module in self.modules.items()
        }
        self.ema = averages(autoencoder, "autoencoder", ema)

    @property
    def autoencoder(self) -> Autoencoder:
        """The autoencoder in training, with its own (not the averaged) weights."""
        return self.modules["autoencoder"]  # type: ignore[return-value]

    def step(self, batch: Batch, step: int, noise: Noise, learn: Learner = _PLAIN) -> Metrics:
        """One Adam step of each; metrics: both losses, their terms, and both gradient norms."""
        self.modules.train()

        def fool(part: Batch, seeds: Noise) -> Loss:
            return self.generator(self.autoencoder, part, seeds, step)

        def tell(part: Batch, seeds: Noise) -> Loss:
            with torch.no_grad():
                x_hat = self.autoencoder(part.x, seeds)
            return self._told(part.x, x_hat, step)

        metrics = learn(self, "autoencoder", fool, batch, noise)
        if step < self.generator.disc_start:
            return metrics
        found = learn(self, "discriminator", tell, batch, noise)
        renamed = {"loss": "discriminator", "gradient": "discriminator gradient"}
        return {**metrics, **{renamed.get(key, key): value for key, value in found.items()}}
