"""Pre-training an image encoder, with a slow average of it as the target."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, is_dataclass
from typing import Any

import torch
from torch import Tensor, nn

from mezzotint.core.noise import Noise
from mezzotint.nn.projector import ProjectedEncoder, Projector
from mezzotint.nn.vit import ViTEncoder
from mezzotint.objective.batch import Batch, Loss
from mezzotint.objective.curriculum import CeilDoubling
from mezzotint.objective.representation import Representation, Twins, Views
from mezzotint.objective.resolution import ResolutionLevels
from mezzotint.train.ema import EMA
from mezzotint.train.learner import Learner
from mezzotint.train.overrides import describe
from mezzotint.train.recipe import Batches, Runnable
from mezzotint.train.task import Metrics, check_clip, trainable

__all__ = ["PretrainingRecipe", "PretrainingTask"]

_PLAIN = Learner()


class PretrainingTask:
    """An encoder with its projector, AdamW, and a target network: target <- rate target + (1 - rate) online.

    The rate is fixed, without a warm-up, and the target starts equal to the encoder. Its norms use the batch's own
    statistics, as in MoCo-v3. Both are saved; `load_encoder` takes the encoder's weights from the file of the first.

    Args:
        encoder: what is trained.
        objective: its `at(step)` is called with both networks.
        projector: of the contrastive term; None for none.
        lr, betas, weight_decay: of AdamW; 2e-4 in the released configuration, 6e-4 in its script.
        clip: largest gradient norm; None, as in the released code, for no clipping.
        rate: of the target, in [0, 1).

    Raises:
        ValueError: for a rate out of range.

    Source: arXiv 2510.12586, code (stage 1).
    """

    def __init__(
        self,
        encoder: ViTEncoder,
        objective: Representation,
        *,
        projector: Projector | None = None,
        lr: float = 2e-4,
        betas: tuple[float, float] = (0.9, 0.95),
        weight_decay: float = 0.03,
        clip: float | None = None,
        rate: float = 0.99,
    ) -> None:
        check_clip(clip)
        if not 0 <= rate < 1:
            raise ValueError(f"rate is how much of the target is kept a step, in [0, 1), got {rate}")
        self.objective, self.clip, self.rate = objective, clip, rate
        online = ProjectedEncoder(encoder, projector)
        target = deepcopy(online).requires_grad_(False)
        self.modules = nn.ModuleDict({"online": online, "target": target})
        self.frozen = nn.ModuleDict()
        adamw = torch.optim.AdamW(
            trainable(online, "encoder"), lr=lr, betas=betas, weight_decay=weight_decay, foreach=True
        )
        self.optimisers: dict[str, torch.optim.Optimizer] = {"online": adamw}
        self.ema: dict[str, EMA] = {}

    @property
    def twins(self) -> Twins:
        """The encoder in training and its target."""
        return Twins(self.modules["online"], self.modules["target"])  # type: ignore[arg-type]

    @property
    def encoder(self) -> ViTEncoder:
        """The encoder in training."""
        return self.twins.online.encoder

    def step(self, batch: Batch, step: int, noise: Noise, learn: Learner = _PLAIN) -> Metrics:
        """One AdamW step, then one of the target; metrics: loss, its terms, and the gradient norm.

        Divided into parts, or among processes, each part's batch norms are its own, and in parts the negatives too.
        """
        self.modules.train()
        objective = self.objective.at(step)

        def loss(part: Batch, seeds: Noise) -> Loss:
            return objective(self.twins, part, seeds)

        metrics = learn(self, "online", loss, batch, noise)
        self.follow()
        return metrics

    @torch.no_grad()
    def follow(self) -> None:
        """Move the target's parameters towards the encoder's."""
        online: list[Tensor] = list(self.twins.online.parameters())
        target: list[Tensor] = list(self.twins.target.parameters())
        torch._foreach_lerp_(target, online, 1 - self.rate)


@dataclass(frozen=True)
class PretrainingRecipe(Runnable):
    """Pre-training of an image encoder; its run's folder is what `load_encoder` and fine-tuning start from.

    Args:
        data: (batch size, seed) -> (step -> Batch of images in [-1, 1]), a pure function of step.
        encoder: () -> the fresh encoder; its height sets the noise levels.
        views: y1, y2, and what the image itself goes through (as `mezzotint.data.VIEWS`).
        projector: (hidden, out) of the projector.
        contrast, consistency: weights of the two terms.
        rate: of the target network.
    """

    data: Callable[[int, int], Batches]
    encoder: Callable[[], ViTEncoder]
    views: Views
    projector: tuple[int, int] = (4096, 256)
    contrast: float = 1.0
    consistency: float = 1.0
    rate: float = 0.99

    def identity(self) -> dict[str, Any]:
        """See `Runnable.identity`; the number of levels doubles over the run, so that its length belongs to it."""
        views = [describe(view) if is_dataclass(view) else view.__class__.__qualname__ for view in self.views]
        return {**super().identity(), "budget.steps": self.budget.steps, "views": views}

    def build(self) -> tuple[PretrainingTask, Batches]:
        """Build the task and the batches of images."""
        o, encoder = self.optimiser, self.encoder()
        objective = Representation(
            ResolutionLevels(encoder.config["size"][0]),
            CeilDoubling(self.budget.steps),
            self.views,
            contrast=self.contrast,
            consistency=self.consistency,
            seed=self.seed,
        )
        task = PretrainingTask(
            encoder,
            objective,
            projector=Projector(encoder.width, *self.projector),
            lr=o.lr,
            betas=o.betas,
            weight_decay=o.weight_decay,
            clip=o.clip,
            rate=self.rate,
        )
        return task, self.data(self.budget.batch, self.seed)
