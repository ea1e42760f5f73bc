"""Several edits of one picture, and the one that a score likes best."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mezzotint.core import fold
from mezzotint.edit.cycle import Cycled, CycleDiffusion
from mezzotint.model import Model

__all__ = ["BestOf", "Chosen"]

Score = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Chosen:
    """What a choice gives: the single-sample result apart from the chosen one, which its score has seen.

    Args:
        first: of the first setting and trial, which no score has chosen: the number to report first.
        best: the chosen ones, one a seed (its nfe is that of all candidates; its code is None where seeds chose
            different candidates).
        scores: (n, candidates), settings in order, each with its trials.
        index: (n,), which candidate was chosen.
    """

    first: Cycled
    best: Cycled
    scores: Float[Tensor, "n m"]
    index: Int[Tensor, " n"]


@dataclass(frozen=True)
class BestOf:
    """For each seed, the candidate of the highest score, over settings and trials.

    The paper's figures are the best of 540: 15 trials x 6 weights x 6 numbers of skipped steps, chosen by the
    directional similarity that it then reports. A score that chose is no measure of what it chose: report `first`, or
    measure by another.

    Args:
        score: score(edited, original) -> (n,), (n, c, h, w) each; higher is better
            (`mezzotint.metric.DirectionSimilarity(...).towards(before, after)`).
        settings: one or more.
        trials: of each, >= 1; the first has the seed itself, the others seeds made of it.

    Raises:
        ValueError: for no setting, or trials below 1. When called: for scores of another shape or not finite, and what
            CycleDiffusion refuses.

    Source: arXiv 2210.05559, official code, section 3.4 of the sheet.

    >>> len(BestOf.published(lambda edited, original: edited.mean((1, 2, 3))).settings)
    36
    """

    score: Score
    settings: tuple[CycleDiffusion, ...] = (CycleDiffusion(),)
    trials: int = 15

    def __post_init__(self) -> None:
        if not self.settings:
            raise ValueError("no setting to choose among; give at least one CycleDiffusion(...)")
        if isinstance(self.trials, bool) or not isinstance(self.trials, int) or self.trials < 1:
            raise ValueError(f"trials={self.trials!r}; expected a whole number >= 1")

    @classmethod
    def published(cls, score: Score, base: CycleDiffusion | None = None) -> BestOf:
        """The paper's 540 candidates."""
        base = CycleDiffusion() if base is None else base
        settings = (
            replace(base, start=(100 - skip) / 100, guidance=w)
            for w in (1.0, 1.5, 2.0, 3.0, 4.0, 5.0)
            for skip in (15, 20, 25, 30, 40, 50)
        )
        return cls(score, tuple(settings), 15)

    def __call__(
        self, model: Model, image: Float[Tensor, "*n c h w"], seeds: Sequence[int] = (0,), **options: Any
    ) -> Chosen:
        """Edit as each setting would, and choose; options as for `CycleDiffusion.__call__`."""
        original = image.expand(len(seeds), *image.shape) if image.ndim == 3 else image
        first: Cycled | None = None
        best: Cycled | None = None
        rows: list[Tensor] = []
        top = torch.full((len(seeds),), -torch.inf, dtype=torch.float64)
        index, spent = torch.zeros(len(seeds), dtype=torch.long), 0
        for method in self.settings:
            for trial in range(self.trials):
                tried = [seed if trial == 0 else fold(seed, "trial", trial) for seed in seeds]
                made = method(model, image, tried, **options)
                spent += made.nfe
                value = self._scored(made.images, original)
                better = value > top
                index[better], top = len(rows), torch.maximum(value, top)
                rows.append(value)
                first = made if first is None else first
                best = made if best is None else _picked(best, made, better)
        assert first is not None and best is not None
        return Chosen(first, replace(best, nfe=spent), torch.stack(rows, 1), index)

    def _scored(self, images: Tensor, original: Tensor) -> Tensor:
        value = self.score(images, original.to(images)).detach().cpu().double()
        if value.shape != (len(images),) or not bool(torch.isfinite(value).all()):
            raise ValueError(
                f"the score gave {value.flatten()[:3].tolist()} of shape {tuple(value.shape)}; expected "
                f"({len(images)},) finite numbers, one a picture"
            )
        return value


def _picked(best: Cycled, made: Cycled, better: Tensor) -> Cycled:
    """Row by row; codes of different settings have different lengths and are not mixed."""
    if bool(better.all()):
        return made
    if not bool(better.any()):
        return best
    rows = better.to(made.images.device).view(-1, 1, 1, 1)
    images, latents = torch.where(rows, made.images, best.images), torch.where(rows, made.latents, best.latents)
    return Cycled(images, latents, made.nfe)
