"""Training an autoencoder without a discriminator."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from mezzotint.core.noise import Noise
from mezzotint.latent.autoencoder import Autoencoder
from mezzotint.objective.batch import Batch, Loss
from mezzotint.train.ema import EMA
from mezzotint.train.task import frozen_parts

AutoencodingObjective = Callable[[Any, Batch, Noise], Loss]  # Any: the kind of autoencoder it is made for


class AutoencodingTask:
    """An autoencoder, a reconstruction objective, Adam, gradient clipping by norm, and an optional EMA.

    The latent statistics are measured after training (`Autoencoder.fit_statistics`), not here.

    Args:
        autoencoder: what is trained.
        objective: (autoencoder, batch, noise) -> Loss, such as `PlainAutoencode`.
        lr: base learning rate.
        betas: of Adam; (0.5, 0.9) in 2112.10752, where a discriminator plays along.
        clip: largest gradient norm; None for no clipping (the norm is still reported).
        ema: largest decay of the average; None for none, as in 2112.10752.
    """

    def __init__(
        self,
        autoencoder: Autoencoder,
        objective: AutoencodingObjective,
        *,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.99),
        clip: float | None = 1.0,
        ema: float | None = None,
    ) -> None:
        if clip is not None and clip <= 0:
            raise ValueError(f"clip is a gradient norm and must be positive (or None), got {clip}")
        self.objective = objective
        self.clip = clip
        self.modules = nn.ModuleDict({"autoencoder": autoencoder})
        self.frozen = frozen_parts(objective)
        self._parameters = [p for p in autoencoder.parameters() if p.requires_grad]
        if not self._parameters:
            raise ValueError("the autoencoder has no parameter that requires a gradient; nothing to train")
        adam = torch.optim.Adam(self._parameters, lr=lr, betas=betas, foreach=True)
        self.optimisers: dict[str, torch.optim.Optimizer] = {"autoencoder": adam}
        self.ema = {} if ema is None else {"autoencoder": EMA(autoencoder, ema)}

    @property
    def autoencoder(self) -> Autoencoder:
        """The autoencoder in training, with its own (not the averaged) weights."""
        return self.modules["autoencoder"]  # type: ignore[return-value]

    def step(self, batch: Batch, step: int, noise: Noise) -> dict[str, Tensor]:
        """One Adam step on the objective's total; metrics: loss, its terms, and the gradient norm."""
        self.modules.train()
        loss = self.objective(self.autoencoder, batch, noise)
        optimiser = self.optimisers["autoencoder"]
        optimiser.zero_grad(set_to_none=True)
        loss.total.backward()
        norm = nn.utils.clip_grad_norm_(self._parameters, float("inf") if self.clip is None else self.clip)
        optimiser.step()
        return {"loss": loss.total, **loss.terms, "gradient": norm}
