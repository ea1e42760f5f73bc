"""Consistency training from data alone, in pieces: curriculum, index law, coupling, loss, scale, extra terms."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from mezzotint.core import Condition, Denoiser, Noise, Schedule
from mezzotint.objective.anchor import DiffusionAnchor
from mezzotint.objective.batch import Batch, Loss
from mezzotint.objective.coupling import Coupling, Independent, OptimalTransport
from mezzotint.objective.curriculum import Curriculum, Doubling
from mezzotint.objective.levels import IndexLaw, KarrasLevels, LogNormalIndex, Pairs
from mezzotint.objective.robust import AdaptiveScale, Cauchy, FixedScale, PseudoHuber, RobustLoss, RobustScale
from mezzotint.objective.spread import check_spread

__all__ = ["ConsistencyStage", "ConsistencyTraining", "ExtraTerm", "Partner", "SameNoise", "latent_consistency"]


@runtime_checkable
class ExtraTerm(Protocol):
    """A loss that reads the student's output; logged by its name."""

    @property
    def name(self) -> str: ...

    def __call__(self, x: Float[Tensor, "b *s"], out: Float[Tensor, "b *s"], pairs: Pairs) -> Float[Tensor, ""]:
        """The term, a scalar, for clean samples x and the outputs at pairs.high."""
        ...


@runtime_checkable
class Partner(Protocol):
    """The point at the lower level that a noisy sample is paired with."""

    def __call__(
        self, x: Tensor, eps: Tensor, x_high: Tensor, t_high: Tensor, t_low: Tensor, schedule: Schedule
    ) -> Tensor:
        """x at t_low, (b, *s); made without gradients."""
        ...


@dataclass(frozen=True)
class SameNoise:
    """alpha x + sigma eps with the same x and eps: on average an Euler step of the probability flow.

    Source: arXiv 2303.01469, definition of consistency training (section 5).
    """

    def __call__(
        self, x: Tensor, eps: Tensor, x_high: Tensor, t_high: Tensor, t_low: Tensor, schedule: Schedule
    ) -> Tensor:
        """See Partner."""
        return _noised(x, eps, t_low, schedule)


@dataclass(frozen=True, eq=False)
class ConsistencyStage:
    """E w d(f(x_high, high), sg f(x_low, low)) + extra terms, w = 1 / (high - low), at fixed levels and scale.

    f is the denoiser's data prediction, which must be a consistency function (`BoundaryDenoiser`). Both points share x,
    eps and every random number of the network's layers (dropout masks). The target has the student's own present
    weights and no gradient.

    Args:
        levels: (N,) falling levels sigma / alpha, float64, on the CPU.
        first: N at the beginning of the training, for the scale; None for this one.
        index, loss, scale, coupling, partner, extra: see `ConsistencyTraining`.
        spread: tolerance of the check on the batch; None for no check.

    Source: arXiv 2310.14189, sections 3.2 to 3.5; 2303.01469, algorithm 3.
    """

    levels: Float64[Tensor, " n"]
    first: int | None = None
    index: IndexLaw = LogNormalIndex()
    loss: RobustLoss = PseudoHuber()
    scale: RobustScale = FixedScale()
    coupling: Coupling = Independent()
    partner: Partner = SameNoise()
    extra: Sequence[ExtraTerm] = ()
    spread: float | None = None

    def __call__(self, denoiser: Denoiser, batch: Batch, noise: Noise) -> Loss:
        """The loss of a batch; `noise` has one seed a sample.

        Returns:
            total and terms: "consistency", one for each extra term, "levels" (N) and "c".
        """
        x, schedule = batch.x, denoiser.schedule
        if len(noise) != len(x):
            raise ValueError(f"noise has {len(noise)} seeds for {len(x)} samples; give one a sample")
        _check_reach(self.levels, schedule)
        if self.spread is not None:
            check_spread(x, getattr(denoiser, "sigma_data", 0.5), self.spread)
        eps = self.coupling(x, noise("eps", 0, x.shape[1:], dtype=x.dtype, device=x.device))
        pairs = self.index(noise, self.levels)
        t_high, t_low = (schedule.t_of(-level.log()) for level in (pairs.high, pairs.low))
        x_high = _noised(x, eps, t_high, schedule)
        with torch.no_grad():
            x_low = self.partner(x, eps, x_high, t_high, t_low, schedule)
        out, target = _both(denoiser, (x_high, t_high), (x_low, t_low), batch.c)
        weight = 1 / (pairs.high - pairs.low)
        c = self.scale(len(self.levels), self.first or len(self.levels), x[0].numel())
        apart = self.loss(out - target, c)
        total = (weight.to(apart.device, apart.dtype) * apart).mean()
        terms = {"consistency": total.detach()}
        for term in self.extra:
            value = term(x, out, pairs)
            total, terms[term.name] = total + value, value.detach()
        told = {"levels": len(self.levels), "c": c}
        return Loss(total, {**terms, **{name: total.detach().new_full((), number) for name, number in told.items()}})


@dataclass(frozen=True)
class ConsistencyTraining:
    """Consistency training with a curriculum; the defaults are iCT, `latent_consistency` is sLCT.

    At step k there are N(k) levels; `at(k)` is the loss of that step (`ConsistencyStage`).

    Args:
        curriculum: step -> N, for a known length of training.
        levels: N -> noise levels.
        index: which neighbouring pair a sample sees.
        loss: the distance of the two outputs.
        scale: what error counts as small, for N levels and samples of so many elements.
        coupling: of noise and data.
        partner: the second point of a pair.
        extra: further terms on the first output, as `DiffusionAnchor`.
        spread: how far the standard deviation of the first step's batch may lie from the denoiser's sigma_data (0.5),
            besides sampling error; None for no check (as for images in [-1, 1] that are not normalised).

    Raises:
        ValueError: at the first step, for data of another spread, or levels that the schedule does not reach.

    Source: arXiv 2310.14189.

    >>> objective = ConsistencyTraining(Doubling(1400, 10, 640), scale=AdaptiveScale())
    >>> len(objective.at(200).levels)
    21
    """

    curriculum: Curriculum
    levels: KarrasLevels = KarrasLevels()
    index: IndexLaw = LogNormalIndex()
    loss: RobustLoss = PseudoHuber()
    scale: RobustScale = FixedScale()
    coupling: Coupling = Independent()
    partner: Partner = SameNoise()
    extra: tuple[ExtraTerm, ...] = ()
    spread: float | None = 0.05

    def at(self, step: int) -> ConsistencyStage:
        """The objective of step `step`."""
        return ConsistencyStage(
            self.levels(self.curriculum(step)),
            self.curriculum.first,
            self.index,
            self.loss,
            self.scale,
            self.coupling,
            self.partner,
            self.extra,
            self.spread if step == 0 else None,
        )


def latent_consistency(steps: int, s0: int = 10, s1: int = 640) -> ConsistencyTraining:
    """sLCT: iCT with the Cauchy loss, the diffusion anchor, optimal transport and the adaptive scale.

    Its fifth part, norms without a learned gain, is the network's (`mezzotint.nn.without_gains`).

    Args:
        steps: length of the training.
        s0, s1: of the curriculum.

    Source: arXiv 2502.01441.
    """
    return ConsistencyTraining(
        Doubling(steps, s0, s1),
        loss=Cauchy(),
        scale=AdaptiveScale(),
        coupling=OptimalTransport(),
        extra=(DiffusionAnchor(),),
    )


def _noised(x: Tensor, eps: Tensor, t: Tensor, schedule: Schedule) -> Tensor:
    """alpha x + sigma eps."""
    shape = (-1, *[1] * (x.ndim - 1))
    alpha, sigma = (level.to(x.device, x.dtype).view(shape) for level in (schedule.alpha(t), schedule.sigma(t)))
    return alpha * x + sigma * eps


def _both(
    denoiser: Denoiser, high: tuple[Tensor, Tensor], low: tuple[Tensor, Tensor], c: Condition | None
) -> tuple[Tensor, Tensor]:
    """The student's output and its target, by the same random numbers inside the layers.

    The student goes first: autocast keeps the weights that it has cast, and those cast without gradients would cut the
    student off.
    """
    x = high[0]
    dtype = torch.promote_types(x.dtype, torch.float32)
    on_cpu = x.device.type == "cpu"
    kind = "cuda" if on_cpu else x.device.type  # of the generators besides the CPU's
    with torch.random.fork_rng([] if on_cpu else [x.device], device_type=kind):  # puts them back: the target replays
        out = denoiser(x, high[1].to(x.device, dtype), c).x0
    with torch.no_grad():
        target = denoiser(low[0], low[1].to(x.device, dtype), c).x0
    return out, target


def _check_reach(levels: Tensor, schedule: Schedule) -> None:
    top = float(schedule.half_log_snr(torch.ones((), dtype=torch.float64)).neg().exp())
    if float(levels[0]) > top * (1 + 1e-6):
        raise ValueError(
            f"the levels reach sigma/alpha={float(levels[0]):.6g} but the denoiser's schedule ends at {top:.6g}; "
            "lower sigma_max of the levels, or use a schedule that reaches it, as VE(0.002, 80.0)"
        )
