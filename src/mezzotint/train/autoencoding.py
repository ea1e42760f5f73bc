"""Training an autoencoder without a discriminator."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import nn

from mezzotint.core.noise import Noise
from mezzotint.latent.autoencoder import Autoencoder
from mezzotint.objective.batch import Batch, Loss
from mezzotint.train.learner import Learner
from mezzotint.train.optimiser import MakeOptimiser
from mezzotint.train.power_ema import Averaging, averages
from mezzotint.train.task import Metrics, check_clip, frozen_parts, trainable

_PLAIN = Learner()

AutoencodingObjective = Callable[[Any, Batch, Noise], Loss]  # Any: the kind of autoencoder it is made for


class AutoencodingTask:
    """An autoencoder, a reconstruction objective, Adam or another optimiser, clipping by norm, and an optional EMA.

    The latent statistics are measured after training (`Autoencoder.fit_statistics`), not here.

    Args:
        autoencoder: what is trained.
        objective: (autoencoder, batch, noise) -> Loss, such as `PlainAutoencode`.
        lr: base learning rate.
        betas: of Adam; (0.5, 0.9) in 2112.10752, where a discriminator plays along.
        optimiser: parameters -> another optimiser in place of that one.
        clip: largest gradient norm; None for no clipping (the norm is still reported).
        ema: largest decay of the average, or several of them, or `Power` lengths; None for none, as in 2112.10752.
    """

    def __init__(
        self,
        autoencoder: Autoencoder,
        objective: AutoencodingObjective,
        *,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.99),
        optimiser: MakeOptimiser | None = None,
        clip: float | None = 1.0,
        ema: Averaging = None,
    ) -> None:
        check_clip(clip)
        self.objective = objective
        self.clip = clip
        self.modules = nn.ModuleDict({"autoencoder": autoencoder})
        self.frozen = frozen_parts(objective)
        make = optimiser or partial(torch.optim.Adam, lr=lr, betas=betas, foreach=True)
        self.optimisers: dict[str, torch.optim.Optimizer] = {"autoencoder": make(trainable(autoencoder, "autoencoder"))}
        self.ema = averages(autoencoder, "autoencoder", ema)

    @property
    def autoencoder(self) -> Autoencoder:
        """The autoencoder in training, with its own (not the averaged) weights."""
        return self.modules["autoencoder"]  # type: ignore[return-value]

    def step(self, batch: Batch, step: int, noise: Noise, learn: Learner = _PLAIN) -> Metrics:
        """One step on the objective's total; metrics: loss, its terms, and the gradient norm."""
        self.modules.train()

        def loss(part: Batch, seeds: Noise) -> Loss:
            return self.objective(self.autoencoder, part, seeds)

        return learn(self, "autoencoder", loss, batch, noise)
