"""The optimiser of a recipe: settings, and a call that puts it over parameters."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
from torch import nn

from mezzotint.train.schedule import Constant, CosineDecay, RateSchedule

if TYPE_CHECKING:
    from mezzotint.train.task import Task

__all__ = ["AdamW", "MakeOptimiser", "RAdam"]

MakeOptimiser = Callable[[Sequence[nn.Parameter]], torch.optim.Optimizer]


@dataclass(frozen=True)
class AdamW:
    """Settings of the optimiser and of its learning-rate schedule.

        m <- b1 m + (1 - b1) g;   v <- b2 v + (1 - b2) g^2;   p <- (1 - lr decay) p - lr m' / (sqrt(v') + eps)

    with m' = m / (1 - b1^n) and v' = v / (1 - b2^n) at the n-th step.

    Args:
        lr: base learning rate.
        betas, weight_decay: as usual (an autoencoder uses Adam and no decay).
        clip: largest gradient norm; None for none.
        schedule: "constant", or "cosine" over the budget's steps.
        warmup: steps of linear warm-up.
        final: factor at the end of the cosine.
        eps: > 0; None is torch's own, 1e-8.

    Raises:
        ValueError: for settings out of range.

    Source: arXiv 1711.05101, algorithm 2.
    """

    lr: float = 1e-4
    betas: tuple[float, float] = (0.9, 0.999)
    weight_decay: float = 0.01
    clip: float | None = 1.0
    schedule: Literal["constant", "cosine"] = "constant"
    warmup: int = 0
    final: float = 0.0
    eps: float | None = None  # none where it is torch's: what run folders from before this setting say, too

    def __post_init__(self) -> None:
        if not 0 < self.lr < math.inf:
            raise ValueError(f"lr must be positive and finite, got {self.lr}")
        if self.warmup < 0:
            raise ValueError(f"warmup is a number of steps and cannot be negative, got {self.warmup}")
        if self.eps is not None and not 0 < self.eps < math.inf:
            raise ValueError(f"eps must be positive and finite (or none, for torch's own), got {self.eps}")

    def rate(self, steps: int) -> RateSchedule:
        """Return the schedule of a run of so many steps."""
        if self.schedule == "cosine":
            return CosineDecay(steps, self.warmup, self.final)
        return Constant(self.warmup)

    def over(self, parameters: Sequence[nn.Parameter]) -> torch.optim.Optimizer:
        """Return the optimiser over these parameters, at the base rate."""
        return torch.optim.AdamW(
            parameters, lr=self.lr, betas=self.betas, eps=self._eps, weight_decay=self.weight_decay, foreach=True
        )

    def without_decay(self, parameters: Sequence[nn.Parameter]) -> torch.optim.Optimizer:
        """Return the optimiser without weight decay: Adam."""
        return torch.optim.Adam(parameters, lr=self.lr, betas=self.betas, eps=self._eps, foreach=True)

    def check(self, task: Task) -> None:
        """Refuse a task that was built without these settings.

        Raises:
            ValueError: where a kind of training takes neither eps nor another optimiser than its own.
        """
        if self.eps is None:
            return
        for name, optimiser in task.optimisers.items():
            if optimiser.defaults.get("eps") != self.eps:
                raise ValueError(f"eps={self.eps:g}: the optimiser of {name} does not take it; leave it none")

    @property
    def _eps(self) -> float:
        return 1e-8 if self.eps is None else self.eps


@dataclass(frozen=True)
class RAdam(AdamW):
    """Rectified Adam: no adaptive rate while v is known from few steps (the first five at b2 = 0.999).

        p <- p - lr m'                                        while rho_n <= 5
        p <- p - lr m' r_n / (sqrt(v) + eps) sqrt(1 - b2^n)   then

        rho_n = R - 2 n b2^n / (1 - b2^n),   R = 2 / (1 - b2) - 1,
        r_n^2 = (rho_n - 4) (rho_n - 2) R / ((R - 4) (R - 2) rho_n)

    Weight decay is decoupled, as AdamW's; none by default. Consistency models are trained with it.

    Source: arXiv 1908.03265, algorithm 2; 2303.01469 and 2310.14189, training details.
    """

    weight_decay: float = 0.0

    def over(self, parameters: Sequence[nn.Parameter]) -> torch.optim.Optimizer:
        """See AdamW.over."""
        return torch.optim.RAdam(
            parameters,
            lr=self.lr,
            betas=self.betas,
            eps=self._eps,
            weight_decay=self.weight_decay,
            decoupled_weight_decay=True,
            foreach=True,
        )

    def without_decay(self, parameters: Sequence[nn.Parameter]) -> torch.optim.Optimizer:
        """See AdamW.without_decay."""
        return torch.optim.RAdam(parameters, lr=self.lr, betas=self.betas, eps=self._eps, foreach=True)

    def check(self, task: Task) -> None:
        """See AdamW.check."""
        super().check(task)
        for name, optimiser in task.optimisers.items():
            if not isinstance(optimiser, torch.optim.RAdam):
                raise ValueError(f"RAdam: {name} is trained with {type(optimiser).__name__} alone; choose AdamW")
