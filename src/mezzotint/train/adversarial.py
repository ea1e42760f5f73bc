"""Training an autoencoder against a discriminator."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from mezzotint.core.noise import Noise
from mezzotint.latent.autoencoder import Autoencoder
from mezzotint.objective.adversarial import DiscriminatorLoss
from mezzotint.objective.batch import Batch, Loss
from mezzotint.train.ema import EMA
from mezzotint.train.task import frozen_parts


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
        ema: largest decay of the autoencoder's average; None, as in the released code, for none.

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
        ema: float | None = None,
    ) -> None:
        if clip is not None and clip <= 0:
            raise ValueError(f"clip is a gradient norm and must be positive (or None), got {clip}")
        self.generator = generator
        self.clip = float("inf") if clip is None else clip
        self.modules = nn.ModuleDict({"autoencoder": autoencoder, "discriminator": generator.discriminator})
        self.frozen = frozen_parts(generator)
        self.frozen.pop("discriminator")
        self._told = DiscriminatorLoss(generator.discriminator, generator.disc_start)
        self._parameters = {n: [p for p in m.parameters() if p.requires_grad] for n, m in self.modules.items()}
        self.optimisers: dict[str, torch.optim.Optimizer] = {
            name: torch.optim.Adam(parameters, lr=lr, betas=betas, foreach=True)
            for name, parameters in self._parameters.items()
        }
        self.ema = {} if ema is None else {"autoencoder": EMA(autoencoder, ema)}

    @property
    def autoencoder(self) -> Autoencoder:
        """The autoencoder in training, with its own (not the averaged) weights."""
        return self.modules["autoencoder"]  # type: ignore[return-value]

    def step(self, batch: Batch, step: int, noise: Noise) -> dict[str, Tensor]:
        """One Adam step of each; metrics: both losses, their terms, and both gradient norms."""
        self.modules.train()
        loss = self.generator(self.autoencoder, batch, noise, step)
        metrics = {"loss": loss.total, **loss.terms, "gradient": self._learn("autoencoder", loss)}
        if step < self.generator.disc_start:
            return metrics
        with torch.no_grad():
            x_hat = self.autoencoder(batch.x, noise)
        loss = self._told(batch.x, x_hat, step)
        norm = self._learn("discriminator", loss)
        return {**metrics, "discriminator": loss.total, **loss.terms, "discriminator gradient": norm}

    def _learn(self, name: str, loss: Loss) -> Tensor:
        self.optimisers[name].zero_grad(set_to_none=True)
        loss.total.backward()
        norm = nn.utils.clip_grad_norm_(self._parameters[name], self.clip)
        self.optimisers[name].step()
        return norm
