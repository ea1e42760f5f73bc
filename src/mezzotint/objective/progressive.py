"""Progressive distillation: one step of the student learns two DDIM steps of the teacher, downwards or upwards.

With k(t, u) = sigma_u alpha_t - sigma_t alpha_u, and (x1, e1), (x2, e2) what the teacher predicts at (z, t) and at
(z', t'), z' = alpha' x1 + sigma' e1, the two steps end at z'' = alpha'' x2 + sigma'' e2. The one prediction (x~, e~)
at (z, t) whose step ends there is a weighted mean of the two:

    x~ = a x1 + (1 - a) x2,  a = (sigma'' / sigma') k(t, t') / k(t, t'')
    e~ = b e1 + (1 - b) e2,  b = (alpha'' / alpha') k(t, t') / k(t, t'')

which is the published x~ = (z'' - (sigma''/sigma) z) / (alpha'' - (sigma''/sigma) alpha), without its cancellation, for
steps of either sign and at both ends: sigma'' = 0 gives x~ = x2, from alpha = 0 and from sigma = 0 all is finite.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from mezzotint.core import Condition, Denoiser, Noise
from mezzotint.core.guided import handles_guidance, student_in
from mezzotint.objective.batch import Batch, Loss
from mezzotint.objective.denoise import Target
from mezzotint.objective.guided import check_settings, check_student, noised, weighted, weights
from mezzotint.objective.snr import TruncatedSNR
from mezzotint.objective.weight import Weighting

__all__ = ["EncoderDistillation", "ProgressiveDistillation", "two_step_target"]

_EPS_LEAST = 8  # steps up to which a prediction of noise is refused
Jump = tuple[Tensor, Tensor, Tensor]  # t, t', t'': (b,) float64


def two_step_target(
    teacher: Denoiser,
    x_t: Float[Tensor, "b *s"],
    jump: Jump,
    c: Condition | None = None,
) -> tuple[Float[Tensor, "b *s"], Float[Tensor, "b *s"]]:
    """(x~, e~) at (x_t, t) from which one DDIM step to t'' ends where two of the teacher's do, t -> t' -> t''.

    Where t' = t'' the teacher's first step is all there is. Coefficients are made in float64: the teacher's predictions
    are not clipped.

    Args:
        teacher: with its guidance inside, or without any.
        x_t: (b, *s).
        jump: t, t', t'', each (b,) float64: falling to decode, rising to encode.
        c: the condition, with "guidance" where the teacher reads it.

    Source: arXiv 2202.00512, appendix G; 2210.03142, section 3.2; written as a weighted mean (see above).

    >>> from mezzotint.core import Flow, Gaussian
    >>> d, t = Gaussian(torch.zeros(1), std=0.5).denoiser(Flow()), torch.tensor([0.5], dtype=torch.float64)
    >>> x, e = two_step_target(d, torch.ones(1, 1, dtype=torch.float64), (t, t - 0.25, t - 0.5))
    >>> round(float(0.5 * x + 0.5 * e), 12)
    1.0
    """
    t, middle, end = jump
    schedule, shape = teacher.schedule, (-1, *[1] * (x_t.ndim - 1))
    (a0, s0), (a1, s1), (a2, s2) = ((schedule.alpha(u), schedule.sigma(u)) for u in (t, middle, end))
    share = (s1 * a0 - s0 * a1) / (s2 * a0 - s0 * a2)
    once = middle == end
    of_x = torch.where(once, 1.0, share * s2 / torch.where(once, 1.0, s1))
    of_e = torch.where(once, 1.0, share * a2 / torch.where(once, 1.0, a1))
    of_x, of_e, alpha, sigma = (q.to(x_t).view(shape) for q in (of_x, of_e, a1, s1))
    first = teacher(x_t, t.to(x_t), c)
    second = teacher(alpha * first.x0 + sigma * first.eps, middle.to(x_t), c)
    return torch.lerp(second.x0, first.x0, of_x), torch.lerp(second.eps, first.eps, of_e)


@dataclass(frozen=True)
class _TwoSteps(ABC):
    """What decoding and encoding share; subclasses say which jumps there are."""

    teacher: Denoiser
    steps: int
    w_range: tuple[float, float] | None = None
    target: Target = "v"
    weight: Weighting = TruncatedSNR()

    def __post_init__(self) -> None:
        check_settings(self.target, self.w_range)
        if type(self.steps) is not int or self.steps < 1:
            raise ValueError(f"steps={self.steps!r}; expected the number of steps of the student, >= 1")
        inside = student_in(self.teacher)
        if handles_guidance(self.teacher) and self.w_range is None:
            raise ValueError("the teacher is told a guidance weight; give the w_range to draw it from")
        if inside is not None and inside.steps is not None and inside.steps != 2 * self.steps:
            raise ValueError(
                f"a teacher of {inside.steps} steps teaches a student of {inside.steps / 2:g}, not of {self.steps}"
            )

    @abstractmethod
    def jumps(self, noise: Noise) -> Jump:
        """t, t', t'' of every sample, (b,) float64."""

    def __call__(self, denoiser: Denoiser, batch: Batch, noise: Noise) -> Loss:
        """The loss of a batch; `noise` has one seed a sample.

        Returns:
            total (scalar) and terms: "mse", the same without the weight.

        Raises:
            ValueError: for a student that predicts noise, where that cannot be learned.
        """
        x, c, schedule = batch.x, batch.c, denoiser.schedule
        check_kind(denoiser, self.steps)
        jump = self.jumps(noise)
        z, t = noised(x, jump[0], denoiser, noise)
        if self.w_range is not None:
            check_student(denoiser, noise, x)
            w = weights(noise, self.w_range).to(x.device, x.dtype)
            c = Condition({"guidance": w}) if c is None else c.updated({"guidance": w})
        with torch.no_grad():
            x0, eps = two_step_target(self.teacher, z, jump, c)
        a, s = (f(jump[0]).to(z).view(-1, *[1] * (z.ndim - 1)) for f in (schedule.alpha, schedule.sigma))
        aim = {"x0": x0, "eps": eps, "v": a * eps - s * x0, "flow": eps - x0}[self.target]
        got = getattr(denoiser(z, t, c), self.target)
        return weighted(got, aim, jump[0], schedule, self.target, self.weight)


@dataclass(frozen=True)
class ProgressiveDistillation(_TwoSteps):
    """E omega(t) |D_student(z, t, c, w) - x~|^2: N steps learn 2 N of the teacher's. t = i/N, i uniform in 1..N.

    Args:
        teacher: frozen, in eval mode: the student of 2 N steps, or one for any number. Without guidance inside (and
            w_range None) this is plain progressive distillation.
        steps: N.
        w_range: of the weight, uniform; None for denoisers that are told none.
        target: the space in which errors are measured: best the network's own.
        weight: of each noise level.
        starts: multiples of 1/starts that steps begin at: None for N; 2 N also for the stochastic sampler, which asks
            for steps from odd ones, min(1/N, t) long (our choice: the paper leaves those edges open).

    Raises:
        ValueError: for steps below 1 or not half of the teacher's, starts that are no multiple of N, no w_range for a
            teacher that is told a weight. When called: for a student that predicts eps or score, with N <= 8 or where
            alpha(1) = 0 (there x0 = (z - sigma eps) / alpha says nothing): distil a v, flow or x0 prediction.

    Source: arXiv 2210.03142, section 3.2; 2202.00512, algorithm 2.
    """

    starts: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.starts is not None and (self.starts < 1 or self.starts % self.steps):
            raise ValueError(f"starts={self.starts}; expected a multiple of the {self.steps} steps")

    def jumps(self, noise: Noise) -> Jump:
        """i/starts, and half a step and a step below, not under 0."""
        starts = self.steps if self.starts is None else self.starts
        i = (noise.uniform("step", 0, (), dtype=torch.float64) * starts).floor() + 1
        part = starts // self.steps
        return i / starts, (i - 0.5 * part).clamp(min=0) / starts, (i - part).clamp(min=0) / starts


@dataclass(frozen=True)
class EncoderDistillation(_TwoSteps):
    """The same upwards: N steps from data to noise learn 2 N of the teacher's. t = i/N, i uniform in 0..N - 1.

    At t = 0 the noise that a network says lies in clean data is all that steps go by: a v or flow prediction tells it.

    Args:
        teacher, steps, w_range, target, weight: see ProgressiveDistillation. Encoding is stable with weights near 1.

    Raises:
        ValueError: as there.

    Source: arXiv 2210.03142, section 3.4 (encoding); the formulas are those of decoding with t'' > t.
    """

    def jumps(self, noise: Noise) -> Jump:
        """i/N, and half a step and a step above."""
        i = (noise.uniform("step", 0, (), dtype=torch.float64) * self.steps).floor()
        return i / self.steps, (i + 0.5) / self.steps, (i + 1) / self.steps


def _chain(d: object) -> Iterator[Denoiser]:
    while isinstance(d, Denoiser):
        yield d
        d = getattr(d, "denoiser", None)


def check_kind(denoiser: Denoiser, steps: int) -> None:
    """Refuse a student of so many steps that predicts noise, where x0 cannot be told from it."""
    *_, inner = _chain(denoiser)
    kind = getattr(inner, "kind", None)
    if kind not in ("eps", "score"):
        return
    end = float(denoiser.schedule.alpha(torch.ones((), dtype=torch.float64)))
    if end == 0 or steps <= _EPS_LEAST:
        raise ValueError(
            f"a student that predicts {kind} cannot be distilled to {steps} steps here: x0 = (z - sigma eps) / alpha "
            f"divides by alpha(1) = {end:.3g}; use a network that predicts v, flow or x0"
        )
