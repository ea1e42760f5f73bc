"""Training with another law of noise than the normal one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from mezzotint.core import Denoiser, Noise, Simplex
from mezzotint.objective.batch import Batch, Loss, Objective
from mezzotint.objective.denoise import Denoise

__all__ = ["Structured"]


@dataclass(frozen=True)
class Structured:
    """An objective whose noise follows another law, for each sample's own seed.

        x_t = alpha x + sigma n,   n by the law

    A sampler of the same network draws from the same law: `sampler(d, x_T, noise=law(seeds))` with x_T = law(seeds)
    ("x_T", 0, shape); a network trained so fails from normal starts.

    Args:
        law: seeds -> Noise, such as `Simplex()`; `Noise` itself is the ordinary process, bit for bit.
        objective: what is trained.

    Source: AnoDDPM (Wyatt et al. 2022), as arXiv 2211.07804 tells it.

    >>> import torch
    >>> from mezzotint.core import Flow, Gaussian
    >>> exact, batch = Gaussian(torch.zeros(1, 4), std=1.0).denoiser(Flow()), Batch(torch.zeros(2, 1, 4))
    >>> a, b = (f(exact, batch, Noise([0, 1])).total for f in (Structured(Noise), Denoise()))
    >>> torch.equal(a, b)
    True
    """

    law: Callable[[Sequence[int]], Noise] = field(default_factory=Simplex)
    objective: Objective = field(default_factory=Denoise)

    def __call__(self, denoiser: Denoiser, batch: Batch, noise: Noise) -> Loss:
        """The loss of a batch; of `noise` the seeds are taken."""
        return self.objective(denoiser, batch, self.law(noise.seeds))
