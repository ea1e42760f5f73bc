"""Samplers of distilled students: N steps that were learned, down with or without noise, and up."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from mezzotint.core import Condition, Denoiser, Noise, resolve_grid, uniform_t
from mezzotint.core.grid import Grid
from mezzotint.core.guided import student_in
from mezzotint.sample.ddim import DDIM
from mezzotint.sample.loop import OnStep, Sampler, State, _check_start
from mezzotint.sample.multistep import Multistep, Row
from mezzotint.sample.plan import Node, nodes_of

__all__ = ["DistilledDDIM", "DistilledStochastic", "encode", "told"]

_SAME = 1e-9  # of times


@runtime_checkable
class AsksStudent(Protocol):
    """A sampler that asks a student whether it has learned its steps."""

    def per_step(self) -> int:
        """Steps of this sampler for each of the student's."""
        ...

    def check(self, d: Denoiser, times: Tensor, c: Condition | None = None) -> None:
        """Refuse steps that a student has not learned, and weights outside its range."""
        ...


@dataclass(frozen=True)
class _Distilled(Multistep):
    """See `AsksStudent`."""

    def trajectory(
        self,
        d: Denoiser,
        x_T: Float[Tensor, "b *s"],
        *,
        steps: int | None = None,
        grid: Grid | Tensor | None = None,
        c: Condition | None = None,
        noise: Noise | None = None,
    ) -> Iterator[State]:
        """See Sampler.trajectory; refuses steps that the student has not learned."""
        if student_in(d) is not None:
            self.check(d, resolve_grid(grid, d.schedule, steps), c)
        return super().trajectory(d, x_T, steps=steps, grid=grid, c=c, noise=noise)

    def per_step(self) -> int:
        """Steps of this sampler for each of the student's."""
        return 1

    def check(self, d: Denoiser, times: Tensor, c: Condition | None = None) -> None:
        """Refuse steps that a student has not learned, and weights outside its range.

        Raises:
            ValueError: names the student's number of steps, or its range.
        """
        student = student_in(d)
        if student is None:
            return
        if c is not None and "guidance" in c:
            student.check_weight(c["guidance"])
        if student.encoder:
            raise ValueError("this student encodes, from data to noise: use encode(d, x), or sample with its decoder")
        if student.steps is None:
            return
        n, name = student.steps * self.per_step(), type(self).__name__
        if student.starts is not None and student.starts % n:
            raise ValueError(
                f"{name} takes {n} steps with this student and so starts from multiples of 1/{n}, but it has learned "
                f"steps from multiples of 1/{student.starts} alone; distil with starts={n}, or take DistilledDDIM"
            )
        count = len(times) - 1
        wanted = torch.linspace(count, 0, count + 1, dtype=torch.float64) / n
        if count > n or not bool(((times - wanted).abs() < _SAME).all()):
            raise ValueError(
                f"{name} got {count} steps from t = {float(times[0]):.4g} to {float(times[-1]):.4g}, but this student "
                f"was distilled to N = {student.steps}: take steps={n}, or the last of these steps as times "
                f"(grid=[j/{n}, ..., 1/{n}, 0])"
            )


@dataclass(frozen=True)
class DistilledDDIM(_Distilled):
    """z'' = alpha'' D + (sigma''/sigma) (z - alpha D) on the grid i/N; the last step returns D itself.

    For a student of N steps (`WConditioned`), which has learned these N alone: another number is refused. A grid of
    its last j times starts from partial noise (editing). Any other denoiser is sampled by DDIM.

    Source: arXiv 2210.03142, section 3.2; 2202.00512.

    >>> from mezzotint.core import Gaussian, VP
    >>> d = Gaussian(torch.zeros(2), std=1.0).denoiser(VP())
    >>> DistilledDDIM()(d, torch.ones(1, 2), steps=4).shape
    torch.Size([1, 2])
    """

    order = 1

    def row(self, nodes: Sequence[Node], k: int) -> Row:
        """See Multistep.row."""
        return DDIM().row(nodes, k)


@dataclass(frozen=True)
class DistilledStochastic(_Distilled):
    """A step of double length, from t to k = t - 2/n, and then half of it back by fresh noise:

        z_s = a z_k + sqrt(sigma_s^2 - a^2 sigma_k^2) xi,  s = t - 1/n,  a = alpha_s / alpha_k.

    The last step is plain. n steps of a student of n/2, which must have learned steps from every multiple of 1/n
    (`starts=n` in training); n evaluations. With a perfect student every number of steps draws from the data's law. On
    other grids the double step goes to the node after next.

    Source: arXiv 2210.03142, section 3.3 (after EDM's churn); edges: our choice.

    >>> from mezzotint.core import Gaussian, VP
    >>> d = Gaussian(torch.zeros(2), std=1.0).denoiser(VP())
    >>> DistilledStochastic()(d, torch.ones(1, 2), steps=4, noise=Noise([0])).shape
    torch.Size([1, 2])
    """

    order = 0

    @property
    def stochastic(self) -> bool:
        """True: all steps but the last draw."""
        return True

    def per_step(self) -> int:
        """2."""
        return 2

    def first_order(self, nodes: Sequence[Node], k: int) -> float:
        """See Sampler.first_order; the only estimate's whole weight."""
        return self.row(nodes, k).m[0]

    def row(self, nodes: Sequence[Node], k: int) -> Row:
        """See Multistep.row."""
        if k + 2 >= len(nodes):
            return DDIM().row(nodes[k : k + 2], 0)
        here, back, far = nodes[k : k + 3]
        down = DDIM().row((here, far), 0)
        a = back.alpha / far.alpha
        fresh = back.sigma * math.sqrt(-math.expm1(2 * (back.lam - far.lam)))
        return Row(a * down.x, (a * down.m[0],), fresh)


def told(d: Denoiser, c: Condition, w: float, sampler: Sampler, grid: Tensor | None, steps: int | None) -> Condition:
    """The condition with the guidance weight, for a run of a student that is thereby checked.

    Raises:
        ValueError: for a weight outside its range, another sampler than these where it has learned N steps, another N.
    """
    student = student_in(d)
    assert student is not None
    c = student.told(c, w)
    if isinstance(sampler, AsksStudent):
        sampler.check(d, resolve_grid(grid, d.schedule, steps))
    elif student.steps is not None:
        raise ValueError(
            f"{type(sampler).__name__} cannot take the steps of a student distilled to N = {student.steps}; use the "
            f"sampler 'distilled' with steps={student.steps}"
        )
    return c


def encode(
    d: Denoiser,
    x0: Float[Tensor, "b *s"],
    *,
    steps: int | None = None,
    c: Condition | None = None,
    on_step: OnStep | None = None,
) -> Float[Tensor, "b *s"]:
    """The noise of data, by DDIM steps upwards on the grid i/N: z'' = alpha'' x + sigma'' eps, (x, eps) predicted at z.

    With a distilled encoder N is its own; with any other denoiser N steps are N fine ones. Decode with the same
    condition to reconstruct, with another to transfer a style or a class.

    Args:
        d: the denoiser; w = 1 (no guidance) is the stable choice (ours).
        x0: data, (b, *s).
        steps: N; that of the encoder if None.
        c: the condition, b rows, with "guidance" where d reads it.
        on_step: called as on_step(k, state) after step k = 0, 1, ... from the data.

    Returns:
        x at t = 1, (b, *s), with the dtype of x0.

    Raises:
        ValueError: for a decoder of few steps, a number of steps that is not the encoder's, wrong arguments.

    Source: arXiv 2210.03142, section 3.4.

    >>> from mezzotint.core import Gaussian, VP
    >>> d = Gaussian(torch.zeros(2), std=1.0).denoiser(VP())
    >>> encode(d, torch.ones(1, 2), steps=4).shape
    torch.Size([1, 2])
    """
    student = student_in(d)
    if student is not None:
        if c is not None and "guidance" in c:
            student.check_weight(c["guidance"])
        if student.steps is not None and not student.encoder:
            raise ValueError(f"this student decodes in N = {student.steps} steps; encoding has a student of its own")
        steps = student.steps if steps is None else steps
        if student.steps not in (None, steps):
            raise ValueError(f"encode got steps={steps}, but this encoder was distilled to N = {student.steps}")
    if steps is None:
        raise ValueError("encode needs steps for a denoiser that was not distilled to any; pass steps=64")
    _check_start(x0)
    if c is not None and len(c) and c.batch != len(x0):
        raise ValueError(f"the condition has {c.batch} rows but x0 has {len(x0)} samples; give one row a sample")
    nodes = nodes_of(d.schedule, uniform_t(d.schedule, steps).flip(0))
    x = x0.to(torch.promote_types(x0.dtype, torch.float32))
    for k, (node, after) in enumerate(zip(nodes, nodes[1:])):
        p = d(x, torch.full((len(x),), node.t, dtype=x.dtype, device=x.device), c)
        x = (after.alpha * p.x0 + after.sigma * p.eps).to(x.dtype)
        if on_step is not None:
            on_step(k, State(x, k + 1, p.x0))
    if not bool(torch.isfinite(x).all()):
        raise FloatingPointError("encoding gave NaN or infinity; look at the network's output at small times")
    return x.to(x0.dtype)
