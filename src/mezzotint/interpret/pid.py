"""What two words tell of an image: each alone, either, only both together; by pixel, with standard errors."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from mezzotint.core import Condition, Denoiser, Noise
from mezzotint.interpret.pid_information import contributions
from mezzotint.interpret.pid_levels import InformationLevels, level_error

__all__ = ["ATOMS", "Atoms", "Decomposition", "decompose"]

ATOMS = ("r", "u1", "u2", "s")


@dataclass(frozen=True)
class Atoms:
    """Redundancy r, uniqueness u1 and u2, synergy s, and the informations i1, i2, i12, in nats.

    r + u1 + u2 + s = i12, r + u1 = i1, r + u2 = i2. s may fall below 0 (noise, or a model that is not the optimal
    denoiser); the sign is kept.

    Args:
        r, u1, u2, s, i1, i2, i12: of one shape: (b, *s) for maps, (b,) for images.
    """

    names: ClassVar[tuple[str, ...]] = ("r", "u1", "u2", "s", "i1", "i2", "i12")
    r: Tensor
    u1: Tensor
    u2: Tensor
    s: Tensor
    i1: Tensor
    i2: Tensor
    i12: Tensor

    @classmethod
    def of(cls, i1: Tensor, i2: Tensor, i12: Tensor, first_less: Tensor | None = None) -> Atoms:
        """By the least: r = min(i1, i2), s = i12 - max(i1, i2).

        Args:
            i1, i2, i12: of one shape, averages over levels and noises (the least of noisy values is biased).
            first_less: where i1 counts as the lesser; compared if None.

        Source: "in the style of" arXiv 2406.05191: its formula for r could not be read; the minimum of Williams and
        Beer (arXiv 1004.2515), taken pointwise, is our choice.

        >>> a = Atoms.of(torch.tensor(0.2), torch.tensor(0.5), torch.tensor(0.9))
        >>> [round(float(v), 2) for v in (a.r, a.u1, a.u2, a.s)]
        [0.2, 0.0, 0.3, 0.4]
        """
        less = (i1 <= i2) if first_less is None else first_less
        r, most = torch.where(less, i1, i2), torch.where(less, i2, i1)
        return cls(r, i1 - r, i2 - r, i12 - most, i1, i2, i12)


@dataclass(frozen=True)
class Decomposition:
    """The atoms of two words in each image.

    Args:
        maps: (b, *s), one value a pixel (a latent pixel, for a latent model).
        errors: their standard errors.
        totals: (b,), the sums of the maps.
        total_errors: their standard errors, by the delta method (which word is the lesser at a pixel is held fixed).
    """

    maps: Atoms
    errors: Atoms
    totals: Atoms
    total_errors: Atoms

    def by_specificity(self, p1: float, p2: float) -> Atoms:
        """The atoms of whole images by specificity and ambiguity; experimental, in place of the minimum.

        h_k = -log p_k, r = min(h1, h2) - min(h1 - i1, h2 - i2), u_k = i_k - r, s = i12 - i1 - i2 + r. With equal priors
        r is the larger of i1 and i2, and the lesser word's uniqueness is negative. It means something for the
        "standard" form alone, where h_k - i_k = -log p(y_k | x).

        Args:
            p1, p2: prior probabilities of the words, in (0, 1].

        Raises:
            ValueError: for a prior out of range.

        Source: arXiv 1801.09223 (Finn and Lizier), pointwise; not what arXiv 2406.05191's positive maps show.
        """
        if not (0 < p1 <= 1 and 0 < p2 <= 1):
            raise ValueError(f"priors {p1}, {p2}; expected probabilities above 0 and at most 1")
        t, h1, h2 = self.totals, -math.log(p1), -math.log(p2)
        r = min(h1, h2) - torch.minimum(h1 - t.i1, h2 - t.i2)
        return Atoms(r, t.i1 - r, t.i2 - r, t.i12 - t.i1 - t.i2 + r, t.i1, t.i2, t.i12)

    @cached_property
    def sum_then_min(self) -> Atoms:
        """The atoms of the summed informations: two words that tell of two places then look redundant and synergistic.

        Kept for comparison; `totals` has no such artefact.
        """
        return Atoms.of(self.totals.i1, self.totals.i2, self.totals.i12)


def decompose(
    denoiser: Denoiser,
    x: Float[Tensor, "b channels *s"],
    conditions: Condition,
    noise: Noise,
    *,
    levels: InformationLevels | None = None,
    form: Literal["orthogonal", "standard"] = "orthogonal",
    batch: int = 64,
) -> Decomposition:
    """Partial information of two words in images.

    i1 = i(x; y1), i2 = i(x; y2), i12 = i(x; y1, y2), each against the reference; the atoms by `Atoms.of`, pixel by
    pixel, of the averages over levels. With a reference that holds the rest of the prompt they are conditional.

    Args:
        denoiser: not guided.
        x: images, or latents for a latent model.
        conditions: four rows: the reference (nothing, or the context), with the first word, with the second, with both.
        noise: one seed an image.
        levels, form, batch: see `information`.

    Raises:
        ValueError: as `information`, and unless there are four conditions.

    Source: arXiv 2406.05191, section 3, on the estimator of arXiv 2310.07972.
    """
    if conditions.batch != 4:
        raise ValueError(f"{conditions.batch} conditions; expected 4: the reference, one word, the other, both")
    pairs, levels = ((0, 1), (0, 2), (0, 3)), levels or InformationLevels()
    kept: list[tuple[Atoms, ...]] = []
    for told in contributions(denoiser, x, conditions, pairs, noise, levels, form, batch):
        i1, i2, _ = told.mean(0).unbind(1)
        one, two, both = told.unbind(2)
        each = Atoms.of(one, two, both, (i1 <= i2).expand(len(told), *i1.shape))
        whole = Atoms(*(getattr(each, n).flatten(2).sum(-1) for n in Atoms.names))
        kept.append((_each(each, _mean), _each(each, level_error), _each(whole, _mean), _each(whole, level_error)))
    return Decomposition(*(
        Atoms(*(torch.cat([getattr(a, n) for a in parts]) for n in Atoms.names)) for parts in zip(*kept, strict=True)
    ))  # fmt: skip


def _mean(told: Tensor) -> Tensor:
    return told.mean(0)


def _each(atoms: Atoms, of) -> Atoms:
    return Atoms(*(of(getattr(atoms, name)) for name in Atoms.names))
