"""G(z): a sampler as a function of all the noises that it uses."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from mezzotint.core import Condition, Denoiser, resolve_grid
from mezzotint.core.grid import Grid
from mezzotint.sample.dpm_encoder import _check_sampler
from mezzotint.sample.loop import Sampler
from mezzotint.sample.noise_code import Replayed
from mezzotint.sample.remembered import planned

__all__ = ["FromNoise"]


class FromNoise:
    """z = (z_T, z_1, ..., z_m) -> the picture: x_T = sigma z_T, and the noise of the j-th step that draws is z_j.

    z is standard normal where the sampler draws for itself. A deterministic sampler has z_T alone. Gradients flow
    through all steps, with the memory of all of them.

    Args:
        sampler: deterministic, or one that draws once a step (DDIM with eta > 0, DDPM, SDEDPMSolverPP).
        d: the denoiser, guided or not.
        steps, grid: as in Sampler.__call__.
        c: the condition, b rows.

    Raises:
        ValueError: for a sampler that draws otherwise, and what Sampler.__call__ refuses.

    Source: arXiv 2210.05559, section 3.1 of the sheet.

    >>> from mezzotint.core import Gaussian, Noise, VP; from mezzotint.sample import DDPM
    >>> G = FromNoise(DDPM(), Gaussian(torch.zeros(2), std=1.0).denoiser(VP()), steps=10)
    >>> G(Noise([0])("z", 0, G.shape((2,)))).shape, G.count                 # the last step draws nothing
    (torch.Size([1, 2]), 10)
    """

    def __init__(
        self,
        sampler: Sampler,
        d: Denoiser,
        *,
        steps: int | None = None,
        grid: Grid | Tensor | None = None,
        c: Condition | None = None,
    ) -> None:
        if not hasattr(d, "schedule"):
            raise ValueError(f"FromNoise needs a Denoiser, which has a schedule; got {type(d).__name__}")
        self.sampler, self.d, self.c = sampler, d, c
        self.times = resolve_grid(grid, d.schedule, steps)
        self.drawn: tuple[int, ...] = ()
        if sampler.stochastic:
            _check_sampler(sampler)
            plan = planned(sampler, d.schedule, self.times)
            place = plan.columns.index("noise")
            self.drawn = tuple(k for k, row in enumerate(plan.rows) if row[place] != 0)
        self._level = float(d.schedule.sigma(self.times[:1]))

    @property
    def count(self) -> int:
        """How many noises a sample has: 1 + m."""
        return 1 + len(self.drawn)

    def shape(self, shape: Sequence[int]) -> tuple[int, ...]:
        """Of one z, for samples of a shape."""
        return (self.count, *shape)

    def __call__(self, z: Float[Tensor, "b m *s"]) -> Float[Tensor, "b *s"]:
        """G(z).

        Raises:
            ValueError: for another number of noises.
        """
        if z.ndim < 2 or z.shape[1] != self.count:
            raise ValueError(
                f"z is {tuple(z.shape)}; expected (b, {self.count}, ...): x_T and {len(self.drawn)} noises of steps"
            )
        eps = {k: z[:, 1 + j] for j, k in enumerate(self.drawn)}
        noise = Replayed(range(len(z)), eps) if eps else None
        if noise is None and self.sampler.stochastic:  # one step, to sigma = 0
            noise = Replayed(range(len(z)), {0: torch.zeros_like(z[:, 0])})
        return self.sampler(self.d, self._level * z[:, 0], grid=self.times, c=self.c, noise=noise)
