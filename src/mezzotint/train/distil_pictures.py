"""Pictures of a distillation: what a stage's teacher draws and what its student makes of the same noise."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mezzotint.core import Denoiser
from mezzotint.core.guided import student_in
from mezzotint.train.report.samples import DenoisedSamples
from mezzotint.train.task import Task

__all__ = ["Compared"]

_ROW = 4  # pictures, in a sheet of 16


@dataclass(frozen=True)
class Compared:
    """Samples of a stage's teacher and, below each row, of its student, by DDIM of the same seeds and weight.

    Every stage draws from seeds 0, 1, 2, ..., so that a sample can be followed down the ladder: a student's pictures at
    its end are those of the next stage's teacher.

    Args:
        teacher: of the stage; without guidance inside it is guided.
        samples: what is drawn of both.
        w: the guidance weight.
        steps: (of the teacher, of the student).
    """

    teacher: Denoiser
    samples: DenoisedSamples
    w: float
    steps: tuple[int, int]

    @classmethod
    def like(
        cls, batch: Any, *, teacher: Denoiser, autoencoder: nn.Module, w: float, steps: tuple[int, int], count: int = 8
    ) -> Compared:
        """Samples of the shape of a batch, told what its first samples are told."""
        from mezzotint.sample import DistilledDDIM

        made = DenoisedSamples.like(batch, autoencoder, count)
        return cls(teacher, replace(made, sampler=DistilledDDIM()), w, steps)

    def __call__(self, task: Task, step: int) -> Float[Tensor, "n c h w"]:
        """Rows of the teacher's images and of the student's in turn, in [-1, 1]; `task.modules` has a "denoiser"."""
        both = zip((self.teacher, task.modules["denoiser"]), self.steps, strict=True)
        above, below = (self._drawn(d, steps).split(_ROW) for d, steps in both)
        return torch.cat([row for pair in zip(above, below, strict=True) for row in pair])

    def _drawn(self, d: Any, steps: int) -> Tensor:
        from mezzotint.guide import CFG

        c, student = self.samples.c, student_in(d)
        if student is None:
            d = CFG(self.w)(d)
        else:
            c = student.told(c, self.w, self.samples.count)
        return replace(self.samples, c=c, steps=steps).of(d)
