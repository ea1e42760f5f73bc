"""What a restorer is: an image from a measurement, an operator and a denoiser."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor

from mezzotint.core import Condition, Denoiser, Noise, resolve_grid
from mezzotint.core.grid import Grid
from mezzotint.restore.operators import LinearOperator, Operator
from mezzotint.restore.problem import Problem
from mezzotint.sample.loop import OnStep, Sampler

__all__ = ["Restorer", "SampledRestorer"]

_STEPS = 100


@dataclass(frozen=True)
class Restorer(ABC):
    """Settings of a method; a call restores. Keeps nothing between calls."""

    @abstractmethod
    def __call__(
        self,
        d: Denoiser,
        operator: Operator,
        y: Float[Tensor, "_ *m"],
        noise: Noise,
        *,
        std: float = 0.0,
        steps: int | None = None,
        grid: Grid | Tensor | None = None,
        c: Condition | None = None,
        on_step: OnStep | None = None,
    ) -> Float[Tensor, "b *s"]:
        """Restore.

        Args:
            d: the denoiser, guided or not.
            operator: A, which made the measurement.
            y: y = A(x) + std n, (b, *m); or (1, *m) and several seeds: as many samples of one measurement.
            noise: one seed a row of the result.
            std: standard deviation of the measurement's noise, in the units of y.
            steps, grid: as of a sampler; 100 steps where neither is given.
            c: the condition, b rows.
            on_step: called as on_step(k, state) after step k; state.x0 is a preview.

        Returns:
            images, (b, *s), in the shape of operator.guess(y) and the dtype of y.

        Raises:
            ValueError: for wrong arguments, before any network call.
            FloatingPointError: where a prediction is not finite.
        """

    @property
    def spread(self) -> bool:
        """Whether several seeds are samples of the posterior; else their spread says nothing of it."""
        return True


@dataclass(frozen=True)
class SampledRestorer(Restorer):
    """A method that is a sampler whose denoiser, or whose steps, know the measurement.

    A subclass changes the denoiser in `informed` (x0 and score editors: most methods), the steps in `sampler`, or
    both. The loop, its checks and previews are those of every sampler.
    """

    linear: ClassVar[bool] = False  # whether the operator must be

    @abstractmethod
    def sampler(self, problem: Problem) -> Sampler:
        """The sampler of this problem."""

    def informed(self, d: Denoiser, problem: Problem) -> Denoiser:
        """The denoiser of this problem."""
        return d

    def __call__(
        self,
        d: Denoiser,
        operator: Operator,
        y: Float[Tensor, "_ *m"],
        noise: Noise,
        *,
        std: float = 0.0,
        steps: int | None = None,
        grid: Grid | Tensor | None = None,
        c: Condition | None = None,
        on_step: OnStep | None = None,
    ) -> Float[Tensor, "b *s"]:
        """See Restorer."""
        if self.linear and not isinstance(operator, LinearOperator):
            raise ValueError(
                f"{type(self).__name__} needs a linear operator and {type(operator).__name__} is none; DPS and "
                "REDDiff take any that has gradients"
            )
        problem = Problem.of(operator, y, noise, std)
        times = resolve_grid(grid, d.schedule, _STEPS if steps is None and not isinstance(grid, Tensor) else steps)
        like = problem.guess
        z = noise("x_T", 0, tuple(like.shape[1:]), dtype=like.dtype, device=like.device)
        x_T = float(d.schedule.sigma(times[:1])) * z
        run = self.sampler(problem)
        return run(self.informed(d, problem), x_T, grid=times, c=c, noise=noise, on_step=on_step).to(y.dtype)
