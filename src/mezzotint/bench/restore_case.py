"""What `bench restore` asks of every method: a task's operator, the noise, the measurement, the prior."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from mezzotint.core import Condition, Denoiser, Noise, Prediction, fold
from mezzotint.restore.operators import Mask, Operator
from mezzotint.restore.tasks import Given, Window, find_task

__all__ = ["CASES", "Case", "Prior", "case_of"]

# task -> standard deviation of the measurement's noise, where images lie in [-1, 1]
CASES: dict[str, float] = {
    "inpaint": 0.05, "sr4": 0.05, "deblur": 0.05, "denoise": 0.2, "jpeg": 0.0, "colourise": 0.05,
}  # fmt: skip


@dataclass(frozen=True)
class Case:
    """Pictures and their measurements.

    Args:
        task: of `CASES`.
        operator: A.
        std: of the measurement's noise.
        x: the pictures, (n, 3, h, w).
        y: A x + std n, (n, *m).
        seeds: of each row, for what a method draws.
    """

    task: str
    operator: Operator
    std: float
    x: Float[Tensor, "n c h w"]
    y: Float[Tensor, "n *m"]
    seeds: tuple[int, ...]

    def rows(self, start: int, stop: int) -> Case:
        """Some of its pictures."""
        part = slice(start, stop)
        return Case(self.task, self.operator, self.std, self.x[part], self.y[part], self.seeds[part])


def case_of(task: str, x: Float[Tensor, "n c h w"], *, seed: int = 0) -> Case:
    """The task on these pictures: the mask is a box in the middle, half as high and wide as the picture.

    Raises:
        ValueError: for another task, or a size that does not suit it.
    """
    if task not in CASES:
        raise ValueError(f"unknown task {task!r}; expected some of {', '.join(CASES)}")
    height, width = x.shape[2:]
    suited, std = find_task(task), CASES[task]
    if height % suited.multiple or width % suited.multiple:
        raise ValueError(f"{task} needs sizes that are multiples of {suited.multiple}; pictures are {height} x {width}")
    hole = torch.zeros(height, width, dtype=torch.bool)
    hole[height // 4 : 3 * height // 4, width // 4 : 3 * width // 4] = True
    operator = suited.build(Given(mask=hole), Window(0, 0, height, width, (height, width))).to(x.device)
    seeds = tuple(fold(seed, "bench restore", task, i) for i in range(len(x)))
    with torch.no_grad():
        y = operator(x)
        y = y + std * Noise(seeds)("measured", 0, tuple(y.shape[1:]), device=y.device)
        y = operator(y) if isinstance(operator, Mask) else y  # nothing is measured in the hole, noise neither
    return Case(task, operator, std, x, y, seeds)


class Prior(Denoiser):
    """A denoiser with its condition inside, that counts its calls: the same one for every method and library.

    Args:
        denoiser: the model's.
        c: its condition of one row, or None.
    """

    def __init__(self, denoiser: Denoiser, c: Condition | None = None) -> None:
        super().__init__(denoiser.schedule)
        self.denoiser, self.told, self.calls = denoiser, c, 0

    def forward(self, x_t: Float[Tensor, "b *s"], t: Float[Tensor, " b"], c: Condition | None = None) -> Prediction:
        """See Denoiser.forward."""
        self.calls += 1
        return self.denoiser(x_t, t, None if self.told is None else self.told.rows([0] * len(x_t)))


Run = Callable[[Prior, Case, int], Tensor]  # (prior, case, network calls) -> restored pictures
