"""Guided distillation, stage 1: one network that takes the weight as an input learns what two evaluations predict."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from mezzotint.core import Condition, Denoiser, Noise
from mezzotint.core.guided import handles_guidance
from mezzotint.objective.batch import Batch, Loss
from mezzotint.objective.denoise import Target
from mezzotint.objective.snr import TruncatedSNR
from mezzotint.objective.times import TimeSampling, UniformTime
from mezzotint.objective.weight import Weighting

__all__ = ["GuidedDistillation", "guided_target"]

_TARGETS = ("x0", "eps", "v", "flow")


def guided_target(
    teacher: Denoiser,
    x_t: Float[Tensor, "b *s"],
    t: Float[Tensor, " b"],
    c: Condition | None,
    w: Float[Tensor, " b"],
    target: Target = "v",
) -> Float[Tensor, "b *s"]:
    """What a guided teacher predicts, with a weight for each sample, from one call on the batch [null, c].

    y_w = y_null + w (y_c - y_null), y in the space `target`: the same linear map in x0, eps, v and flow.

    Args:
        teacher: without guidance inside.
        x_t, t: noisy samples (b, *s) and their times (b,).
        c: the condition; its null is that of the guidance.
        w: weights (b,); 1 gives the conditional prediction and 0 the null one, bit for bit.
        target: the space of the result.

    Raises:
        ValueError: for a condition without a null, or a teacher that has guidance inside.

    Source: arXiv 2210.03142, section 3.1, with w = 1 + its w.
    """
    if handles_guidance(teacher):
        raise ValueError("the teacher has its guidance inside: guided again it would be guided twice; halve its steps")
    if c is None or not c.null_rows:
        raise ValueError(
            "guided distillation needs conditions with a null, Condition(values, null=...), in the batches"
        )
    both = teacher(torch.cat([x_t, x_t]), torch.cat([t, t]), Condition.cat([c.null(), c]))
    null, given = getattr(both, target).chunk(2)
    return torch.lerp(null, given, w.to(null).view(-1, *[1] * (null.ndim - 1)))


@dataclass(frozen=True)
class GuidedDistillation:
    """E_{w, t, x, eps} omega(t) |D_student(x_t, t, c, w) - [D(null) + w (D(c) - D(null))]|^2, D the teacher, frozen.

    w is uniform over the range, t as `times` has it; conditions are never dropped for the student. Write the student
    with `guided_student`; the conditions are those that the teacher reads (encoded, where it has an encoder).

    Args:
        teacher: a denoiser without guidance inside, in eval mode.
        w_range: lowest and highest weight.
        target: the space in which errors are measured: best the networks' own.
        times: of training.
        weight: of each noise level.

    Raises:
        ValueError: for an unknown target or an empty range; when called, for a student without guidance inside, or
            one of a smaller range.

    Source: arXiv 2210.03142, section 3.1; w = 1 + its w, so that its range [0, 4] is [1, 5].
    """

    teacher: Denoiser
    w_range: tuple[float, float] = (1.0, 5.0)
    target: Target = "v"
    times: TimeSampling = UniformTime()
    weight: Weighting = TruncatedSNR()

    def __post_init__(self) -> None:
        check_settings(self.target, self.w_range)

    def __call__(self, denoiser: Denoiser, batch: Batch, noise: Noise) -> Loss:
        """The loss of a batch; `noise` has one seed a sample.

        Returns:
            total (scalar) and terms: "mse", the same without the weight.
        """
        x, c = batch.x, batch.c
        check_student(denoiser, noise, x)
        t = self.times(noise, denoiser.schedule)
        z, when = noised(x, t, denoiser, noise)
        w = weights(noise, self.w_range).to(x.device, x.dtype)
        with torch.no_grad():
            aim = guided_target(self.teacher, z, when, c, w, self.target)
        assert c is not None
        got = getattr(denoiser(z, when, c.updated({"guidance": w})), self.target)
        return weighted(got, aim, t, denoiser.schedule, self.target, self.weight)


def check_settings(target: str, w_range: tuple[float, float] | None) -> None:
    """Refuse an unknown target, or weights that are no range."""
    if target not in _TARGETS:
        raise ValueError(f"unknown target {target!r}; expected one of {', '.join(_TARGETS)}")
    if w_range is not None and not 0 <= w_range[0] < w_range[1]:
        raise ValueError(f"w_range={w_range}; expected the lowest and the highest weight, 0 <= low < high")


def check_student(denoiser: Denoiser, noise: Noise, x: Tensor) -> None:
    """Refuse a student that cannot be told the weight, and seeds that are not one a sample."""
    if not handles_guidance(denoiser):
        raise ValueError("the student takes no guidance weight; make it with guided_student(teacher, w_range)")
    if len(noise) != len(x):
        raise ValueError(f"noise has {len(noise)} seeds for {len(x)} samples; give one a sample")


def weights(noise: Noise, w_range: tuple[float, float]) -> Tensor:
    """w uniform in the range, (b,) float64, a function of each sample's seed."""
    low, high = w_range
    return low + (high - low) * noise.uniform("guidance", 0, (), dtype=torch.float64)


def noised(x: Tensor, t: Tensor, denoiser: Denoiser, noise: Noise) -> tuple[Tensor, Tensor]:
    """alpha x + sigma eps, and the times in the samples' dtype and place."""
    shape = (-1, *[1] * (x.ndim - 1))
    a, s = (f(t).to(x.device, x.dtype).view(shape) for f in (denoiser.schedule.alpha, denoiser.schedule.sigma))
    eps = noise("eps", 0, x.shape[1:], dtype=x.dtype, device=x.device)
    return a * x + s * eps, t.to(x.device, x.dtype)


def weighted(got: Tensor, aim: Tensor, t: Tensor, schedule: Any, target: str, weight: Weighting) -> Loss:
    """mean_b omega(t) mse, and the mse alone."""
    factor = weight(target, schedule.alpha(t), schedule.sigma(t)).to(got.device, got.dtype)
    error = (got - aim).square().flatten(1).mean(1)
    return Loss((factor * error).mean(), {"mse": error.detach().mean()})
