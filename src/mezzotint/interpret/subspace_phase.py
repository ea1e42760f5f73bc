"""How many samples a subspace needs: the error of what was found against N / d."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from mezzotint.core import LowRankMixture, Noise, fold
from mezzotint.interpret.subspace_fit import SubspaceSolver, subspace_error

__all__ = ["PhaseTransition", "balanced", "phase_transition"]


@dataclass(frozen=True, eq=False)
class PhaseTransition:
    """Errors of recovered subspaces.

    Args:
        dims: dimensions of a subspace.
        ratios: samples of each component over its dimension.
        errors: (dims, ratios, trials) of `subspace_error`.
    """

    dims: tuple[int, ...]
    ratios: tuple[float, ...]
    errors: Tensor

    @property
    def median(self) -> Tensor:
        """(dims, ratios)."""
        return self.errors.quantile(0.5, dim=2)

    def threshold(self, at: float = 0.5) -> tuple[float | None, ...]:
        """For each dimension the least ratio from which on the median error stays at or below `at`; None: never."""
        below = self.median <= at
        from_here = below.flip(1).cummin(1).values.flip(1)
        return tuple(next((r for r, good in zip(self.ratios, row) if good), None) for row in from_here)


def balanced(mix: LowRankMixture, count: int, seed: int, jitter: float = 0.0) -> Float[Tensor, "N n"]:
    """As many samples of each component, (k count, n) float64, plus noise of a standard deviation an element.

    Args:
        mix: the distribution.
        count: of each component, >= 1.
        seed: of everything.
        jitter: e_i of x_i = U_k a_i + e_i, standard deviation of an element.

    >>> balanced(LowRankMixture.orthogonal(6, 1, 2), 2, seed=0).shape
    torch.Size([4, 6])
    """
    k = len(mix.weights)
    noise = Noise([fold(seed, "sample", i) for i in range(k * count)])
    x = mix.sample_of(torch.arange(k).repeat_interleave(count), noise).flatten(1)
    return x + jitter * noise("jitter", 0, (mix.size,), dtype=torch.float64)


def phase_transition(
    solve: SubspaceSolver,
    dims: Sequence[int] = (3, 6),
    ratios: Sequence[float | int] = (0.5, 1, 2, 4, 8),
    *,
    components: int = 1,
    n: int = 48,
    jitter: float = 0.01,
    trials: int = 5,
    seed: int = 0,
) -> PhaseTransition:
    """Draw orthogonal subspaces and samples, find the subspaces again, and tell the error.

    Args:
        solve: `PCA()`, `KSubspaces()`, `TrainedSubspaces()`, or yours. All see the same samples.
        dims: of the subspaces.
        ratios: samples of each component over the dimension; rounded to a whole number, 1 or more.
        components: how many subspaces.
        n: dimension of the space.
        jitter: noise on the samples, standard deviation of an element.
        trials: >= 1.
        seed: of the first trial.

    Raises:
        ValueError: for subspaces that do not fit, ratios that are not positive, no trial.

    Source: arXiv 2409.02426, section 4 (figures of the phase transition).

    >>> from mezzotint.interpret import PCA
    >>> bool(phase_transition(PCA(), [3], [0.5, 8], trials=2).median[0, 1] < 0.1)
    True
    """
    if trials < 1 or not dims or not ratios or min(ratios) <= 0:
        raise ValueError(f"ratios={list(ratios)}, dims={list(dims)}, trials={trials}; expected some, all positive")
    if list(ratios) != sorted(ratios):
        raise ValueError(f"ratios={list(ratios)}; expected them rising")
    mixes = {d: [LowRankMixture.orthogonal(n, d, components, seed=fold(seed, d, i)) for i in range(trials)]
             for d in dims}  # fmt: skip
    errors = torch.zeros(len(dims), len(ratios), trials, dtype=torch.float64)
    for a, d in enumerate(dims):
        for b, ratio in enumerate(ratios):
            for i, mix in enumerate(mixes[d]):
                x = balanced(mix, max(1, round(ratio * d)), fold(seed, d, i), jitter)
                found = solve(x, components, d, Noise([fold(seed, d, i, "solve")]))
                errors[a, b, i] = subspace_error(found.to(torch.float64), mix.bases)
    return PhaseTransition(tuple(dims), tuple(float(r) for r in ratios), errors)
