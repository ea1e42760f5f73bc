"""Training one denoiser with one objective."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mezzotint.core.denoiser import Denoiser
from mezzotint.core.noise import Noise
from mezzotint.objective.batch import Batch, Objective
from mezzotint.train.ema import EMA
from mezzotint.train.task import frozen_parts


class DenoisingTask:
    """A denoiser, an objective, AdamW, gradient clipping by norm, and an EMA.

    Args:
        denoiser: what is trained, with its conditioner where it has one (`EncodedDenoiser`).
        objective: (denoiser, batch, noise) -> Loss.
        lr: base learning rate.
        betas, weight_decay: of AdamW.
        clip: largest gradient norm over all parameters; None for no clipping (the norm is still reported).
        ema: largest decay of the average; None for none.
    """

    def __init__(
        self,
        denoiser: Denoiser,
        objective: Objective,
        *,
        lr: float = 1e-4,
        betas: tuple[float, float] = (0.9, 0.999),
        weight_decay: float = 0.01,
        clip: float | None = 1.0,
        ema: float | None = 0.9999,
    ) -> None:
        if clip is not None and clip <= 0:
            raise ValueError(f"clip is a gradient norm and must be positive (or None), got {clip}")
        self.objective = objective
        self.clip = clip
        self.modules = nn.ModuleDict({"denoiser": denoiser})
        self.frozen = frozen_parts(objective)
        self._parameters = [p for p in denoiser.parameters() if p.requires_grad]
        if not self._parameters:
            raise ValueError("the denoiser has no parameter that requires a gradient; nothing to train")
        adamw = torch.optim.AdamW(self._parameters, lr=lr, betas=betas, weight_decay=weight_decay, foreach=True)
        self.optimisers: dict[str, torch.optim.Optimizer] = {"denoiser": adamw}
        self.ema = {} if ema is None else {"denoiser": EMA(denoiser, ema)}

    @property
    def denoiser(self) -> Denoiser:
        """The denoiser in training, with its own (not the averaged) weights."""
        return self.modules["denoiser"]  # type: ignore[return-value]

    def step(self, batch: Batch, step: int, noise: Noise) -> dict[str, Tensor]:
        """One AdamW step on the objective's total; metrics: loss, its terms, and the gradient norm."""
        self.modules.train()
        loss = self.objective(self.denoiser, batch, noise)
        optimiser = self.optimisers["denoiser"]
        optimiser.zero_grad(set_to_none=True)
        loss.total.backward()
        norm = nn.utils.clip_grad_norm_(self._parameters, float("inf") if self.clip is None else self.clip)
        optimiser.step()
        return {"loss": loss.total, **loss.terms, "gradient": norm}
