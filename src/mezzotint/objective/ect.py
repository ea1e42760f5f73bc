"""Consistency tuning on levels that are drawn continuously, in pairs that draw nearer as training goes on.

Pieces for `ConsistencyStage`: the pairs, the loss with its normalisation, and a contrastive term on the output.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Float64
from torch import Tensor, nn

from mezzotint.core import Noise
from mezzotint.objective.consistency import ConsistencyStage
from mezzotint.objective.contrastive import Gather, all_ranks, nce, warn_if_few
from mezzotint.objective.levels import Pairs
from mezzotint.objective.representation import represent
from mezzotint.objective.resolution import ResolutionLevels
from mezzotint.objective.robust import ConstantScale

__all__ = ["ECT", "ECTPairs", "NormalisedSquare", "SameImage"]

_GAP = 1e-3  # least relative distance of a pair: at none the loss would be 0 / 0


@dataclass(frozen=True)
class ECTPairs:
    """ln t ~ N(mean, std^2), and r below it by a part that shrinks with the stage.

        r = max(s_min, t (1 - q^-stage (1 + k sigmoid(-b t))))

    Drawn for the reference height; both are then multiplied by the resolution's shift. t is kept in
    [1.001 s_min, s_max] (our choice: the paper's code begins at s_min itself, where the loss is 0).

    Args:
        resolution: the levels, and the height of the images.
        stage: >= 1.
        mean, std: of ln t.
        q, k, b: of the map; q > 1.

    Raises:
        ValueError: for settings out of range.

    Source: arXiv 2406.14548 (ECT); numbers of the code of 2510.12586 (stage 2, consistency).

    >>> r = ECTPairs(ResolutionLevels(64)).lower(torch.tensor([80.0, 5.0, 1.0], dtype=torch.float64))
    >>> [round(value, 4) for value in r.tolist()]
    [40.0, 2.3661, 0.002]
    """

    resolution: ResolutionLevels
    stage: int = 1
    mean: float = -0.4
    std: float = 1.6
    q: float = 2.0
    k: float = 8.0
    b: float = 1.0

    def __post_init__(self) -> None:
        if not (self.stage >= 1 and self.std > 0 and self.q > 1 and self.k >= 0):
            raise ValueError(
                f"ECTPairs got stage={self.stage}, std={self.std}, q={self.q}, k={self.k}; expected stage >= 1, "
                "std > 0, q > 1 and k >= 0"
            )

    def lower(self, t: Float64[Tensor, " b"]) -> Float64[Tensor, " b"]:
        """r for t, both at the reference height."""
        part = self.q**-self.stage * (1 + self.k * torch.sigmoid(-self.b * t))
        return (t * (1 - part)).clamp(min=self.resolution.levels.sigma_min)

    def __call__(self, noise: Noise, levels: Float64[Tensor, " n"]) -> Pairs:
        """One pair a sample, a function of its seed alone; the given levels are not used."""
        own = self.resolution.levels
        t = (self.mean + self.std * noise("t", 0, (), dtype=torch.float64)).exp()
        t = t.clamp(own.sigma_min * (1 + _GAP), own.sigma_max)
        place = torch.zeros(len(t), dtype=torch.int64)
        return Pairs(t * self.resolution.shift, self.lower(t) * self.resolution.shift, place, len(levels))

    def probabilities(self, levels: Float64[Tensor, " n"]) -> Float64[Tensor, " m"]:
        """Refused: the pairs are not those of a grid."""
        raise ValueError("ECTPairs draws continuous levels, which have no probability each")


@dataclass(frozen=True)
class NormalisedSquare:
    """q / sqrt(sg(q) + c^2), q the squared norm of a whole sample; no gradient through the denominator.

    Its gradient is 2 d / sqrt(q + c^2) for an error d: twice that of the pseudo-Huber distance sqrt(q + c^2) - c, at
    every q. So a learning rate for one is half as long with the other (for optimisers that see the scale).

    Source: arXiv 2510.12586, code (stage 2, consistency); weighting as in 2406.14548.

    >>> NormalisedSquare()(torch.tensor([[3.0, 4.0]]), c=12.0)
    tensor([1.9231])
    """

    def __call__(self, error: Float[Tensor, "b *s"], c: float) -> Float[Tensor, " b"]:
        """See `RobustLoss`."""
        q = error.to(torch.promote_types(error.dtype, torch.float32)).square().flatten(1).sum(1)
        return q / (q.detach() + c * c).sqrt()


@dataclass(frozen=True, eq=False)
class SameImage:
    """weight nce(W(f), sg W(x), tau): the output f shows the image it came from, to the eyes of a pre-trained W.

    W is frozen, but the gradient goes through it to f. Both are read at the least noise level, without noise added.

    Args:
        teacher: W(x, time) -> (b, d), in eval mode: a pre-trained `ViTEncoder`, or a `ProjectedEncoder` (as in the
            released code; the paper's text has it without projector).
        level: the least noise level, shifted by the resolution.
        tau, weight: of the term.
        sigma_data: standard deviation of the data.
        gather: brings the keys of the other processes.

    Source: arXiv 2510.12586, code (stage 2, consistency).
    """

    teacher: nn.Module
    level: float
    tau: float = 0.1
    weight: float = 1.0
    sigma_data: float = 0.5
    gather: Gather = all_ranks

    @property
    def name(self) -> str:
        """In the log."""
        return "same image"

    def __call__(self, x: Float[Tensor, "b *s"], out: Float[Tensor, "b *s"], pairs: Pairs) -> Float[Tensor, ""]:
        """See `ExtraTerm`."""
        warn_if_few(len(x))
        with torch.no_grad():
            keys = represent(self.teacher, x, self.level, sigma_data=self.sigma_data)
        queries = represent(self.teacher, out, self.level, sigma_data=self.sigma_data)
        return self.weight * nce(queries, keys, self.tau, gather=self.gather)


@dataclass(frozen=True, eq=False)
class ECT:
    """Consistency tuning: the pairs of stage 1 + floor(k / every) at step k, and the term of a frozen encoder.

        L = sum |f_t - sg f_r|^2 / sqrt(sg(.) + c^2) / (t - r) + nce(W(f_t), sg W(x))

    f must be a `BoundaryDenoiser` on resolution.schedule with sigma_min = resolution.minimum = m: with another boundary
    f(x, m) is not x. Its dropout masks are the same for f_t and f_r.

    Args:
        resolution: the levels, and the height of the images.
        every: steps of a stage.
        c: of the loss, for sums over a sample.
        teacher: W, frozen here and put in eval mode; None for no such term. It is not saved with the run.
        tau, weight: of that term.
        mean, std: of ln t.

    Raises:
        ValueError: for settings out of range.

    Source: arXiv 2510.12586, code (stage 2, consistency).

    >>> objective = ECT(ResolutionLevels(256))
    >>> objective.at(99_999).index.stage, objective.at(100_000).index.stage
    (1, 2)
    """

    resolution: ResolutionLevels
    every: int = 100_000
    c: float = 0.06
    teacher: nn.Module | None = None
    tau: float = 0.1
    weight: float = 1.0
    mean: float = -0.4
    std: float = 1.6

    def __post_init__(self) -> None:
        if self.every < 1 or not 0 < self.c < math.inf:
            raise ValueError(f"ECT got every={self.every}, c={self.c}; expected steps of at least 1 and c > 0")
        if self.teacher is not None:
            self.teacher.eval().requires_grad_(False)

    def at(self, step: int) -> ConsistencyStage:
        """The objective of step `step`."""
        stage = 1 + step // self.every
        teacher = self.teacher
        term = () if teacher is None else (SameImage(teacher, self.resolution.minimum, self.tau, self.weight),)
        return ConsistencyStage(
            self.resolution.shifted(2),  # the range alone: the pairs are continuous
            index=ECTPairs(self.resolution, stage, self.mean, self.std),
            loss=NormalisedSquare(),
            scale=ConstantScale(self.c),
            extra=term,
        )
