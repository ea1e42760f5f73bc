"""Training one denoiser with one objective."""

from __future__ import annotations

from functools import partial

import torch
from torch import nn

from mezzotint.core.denoiser import Denoiser
from mezzotint.core.noise import Noise
from mezzotint.objective.batch import Batch, Loss, Objective, Scheduled
from mezzotint.train.learner import Learner
from mezzotint.train.optimiser import MakeOptimiser
from mezzotint.train.power_ema import Averaging, averages
from mezzotint.train.task import Metrics, check_clip, frozen_parts, trainable

_PLAIN = Learner()


class DenoisingTask:
    """A denoiser, an objective, AdamW (or another optimiser), gradient clipping by norm, and an EMA.

    Args:
        denoiser: what is trained, with its conditioner where it has one (`EncodedDenoiser`).
        objective: (denoiser, batch, noise) -> Loss, or a `Scheduled` one.
        lr: base learning rate.
        betas, weight_decay: of AdamW.
        optimiser: parameters -> another optimiser, such as `RAdam(lr=1e-3).over`, in place of that one.
        clip: largest gradient norm over all parameters; None for no clipping (the norm is still reported).
        ema: largest decay of the average, or several of them, or `Power` lengths; None for none.
    """

    def __init__(
        self,
        denoiser: Denoiser,
        objective: Objective | Scheduled,
        *,
        lr: float = 1e-4,
        betas: tuple[float, float] = (0.9, 0.999),
        weight_decay: float = 0.01,
        optimiser: MakeOptimiser | None = None,
        clip: float | None = 1.0,
        ema: Averaging = 0.9999,
    ) -> None:
        check_clip(clip)
        self.objective = objective
        self.clip = clip
        self.modules = nn.ModuleDict({"denoiser": denoiser})
        self.frozen = frozen_parts(objective)
        make = optimiser or partial(torch.optim.AdamW, lr=lr, betas=betas, weight_decay=weight_decay, foreach=True)
        self.optimisers: dict[str, torch.optim.Optimizer] = {"denoiser": make(trainable(denoiser, "denoiser"))}
        self.ema = averages(denoiser, "denoiser", ema)

    @property
    def denoiser(self) -> Denoiser:
        """The denoiser in training, with its own (not the averaged) weights."""
        return self.modules["denoiser"]  # type: ignore[return-value]

    def step(self, batch: Batch, step: int, noise: Noise, learn: Learner = _PLAIN) -> Metrics:
        """One step on the objective's total; metrics: loss, its terms, and the gradient norm.

        An objective that changes over training has `at(step)`, which gives that of the step.
        """
        self.modules.train()
        objective = self.objective.at(step) if isinstance(self.objective, Scheduled) else self.objective

        def loss(part: Batch, seeds: Noise) -> Loss:
            return objective(self.denoiser, part, seeds)

        return learn(self, "denoiser", loss, batch, noise)
