"""A denoiser that has its guidance inside: the weight is an input, and one evaluation does."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from mezzotint.core.condition import Condition
from mezzotint.core.denoiser import Denoiser, NetworkDenoiser
from mezzotint.core.prediction import Prediction

__all__ = ["WConditioned", "extra_of_weight", "handles_guidance", "student_in", "weight_of_extra"]

_NARROW = 1e-6  # of the range: what rounding a weight to the network's precision may move it by


class WConditioned(NetworkDenoiser):
    """D(x_t, t, c, w): what classifier-free guidance of weight w would predict, from one evaluation.

    w is c["guidance"], (b,), in the library's convention: eps_w = eps_null + w (eps_c - eps_null), w = 1 is none.

    Args:
        base: a network denoiser whose network reads c["guidance"] (`mezzotint.nn.guided_student` makes one).
        w_range: lowest and highest weight it was trained for, 0 <= low < high.
        steps: N where it was distilled to N steps, each of length 1/N in t; None: any sampler and number of steps.
        starts: its steps begin at multiples of 1/starts; N, or a multiple of it (2 N also for the stochastic sampler).
            None is N.
        encoder: whether its steps go up, from data to noise.
        parent: hash of the weights it was distilled from, "" where unknown.

    Raises:
        ValueError: for a base that has guidance inside already, or values out of range. When called: for a condition
            without "guidance", one of another length, or (where it lies on the CPU) outside the range.

    Source: arXiv 2210.03142, section 3.1 (there w is ours minus 1).
    """

    handles_guidance: ClassVar[bool] = True

    def __init__(
        self,
        base: NetworkDenoiser,
        w_range: Sequence[float],
        steps: int | None = None,
        starts: int | None = None,
        encoder: bool = False,
        parent: str = "",
    ) -> None:
        Denoiser.__init__(self, base.schedule)
        if handles_guidance(base):
            raise ValueError("WConditioned got a denoiser that has its guidance inside already; give the plain one")
        self.denoiser = base
        setattr(self, "kind", base.kind)  # noqa: B010 (a class variable to a type checker)
        self.w_range = _range(w_range)
        for name, value in (("steps", steps), ("starts", starts)):
            if value is not None and (type(value) is not int or value < 1):
                raise ValueError(f"WConditioned got {name}={value!r}; expected a whole number >= 1, or None")
        if starts is not None and (steps is None or starts % steps):
            raise ValueError(f"WConditioned got starts={starts} for steps={steps}; expected a multiple of the steps")
        self.steps, self.starts = steps, steps if starts is None else starts
        self.encoder, self.parent = bool(encoder), str(parent)

    @property
    def net(self) -> Any:  # type: ignore[override]
        """The network."""
        return self.denoiser.net

    @property
    def config(self) -> dict[str, Any]:
        """Constructor keywords; "base" is the denoiser itself."""
        return {
            "base": self.denoiser, "w_range": list(self.w_range), "steps": self.steps, "starts": self.starts,
            "encoder": self.encoder, "parent": self.parent,
        }  # fmt: skip

    def told(self, c: Condition | None, w: float | Sequence[float] | Tensor, batch: int | None = None) -> Condition:
        """The condition with the weight under "guidance".

        Args:
            c: what else the model is told; None for nothing.
            w: one weight, or one a row.
            batch: number of rows, where c has none.

        Raises:
            ValueError: for a weight outside the trained range (nothing is clamped), or a number of weights that is
                not the number of rows.
        """
        weights = torch.as_tensor(w, dtype=torch.float32)
        rows = c.batch if c is not None and len(c) else batch
        if rows is None:
            rows = len(weights) if weights.ndim else 1
        if weights.ndim > 1 or (weights.ndim == 1 and len(weights) != rows):
            raise ValueError(f"guidance has shape {tuple(weights.shape)} for {rows} samples; give one, or one a sample")
        self.check_weight(weights)
        given = {"guidance": weights.expand(rows)}
        return Condition(given) if c is None else c.updated(given)

    def check_weight(self, w: Tensor) -> None:
        """Refuse weights outside the trained range; waits for the device.

        Raises:
            ValueError: names the weight and the range.
        """
        low, high = self.w_range
        slack = _NARROW * (high - low)
        inside = (w >= low - slack) & (w <= high + slack)
        if not bool(inside.all()):
            bad = float(w.flatten()[int((~inside.flatten()).nonzero()[0])])
            raise ValueError(
                f"guidance w={bad:g} lies outside [{low:g}, {high:g}], which this student was distilled for; it is not "
                "clamped: choose a weight inside, or guide the teacher (1 means no guidance)"
            )

    def forward(self, x_t: Float[Tensor, "b *s"], t: Float[Tensor, " b"], c: Condition | None = None) -> Prediction:
        """See Denoiser.forward; c has "guidance", (b,)."""
        if c is None or "guidance" not in c:
            raise ValueError("this denoiser has its guidance inside and is told the weight: pass c=d.told(c, 3.0)")
        w = c["guidance"]
        if w.shape != (len(x_t),):
            raise ValueError(f"guidance has shape {tuple(w.shape)}; expected ({len(x_t)},), one weight a sample")
        if w.device.type == "cpu":  # elsewhere a look would wait for the device: `told` has looked
            self.check_weight(w)
        return self.denoiser(x_t, t, c)


def handles_guidance(d: object) -> bool:
    """Whether a denoiser, or one that it wraps, has its guidance inside: it must not be guided again."""
    while isinstance(d, Denoiser):
        if getattr(d, "handles_guidance", False):
            return True
        d = getattr(d, "denoiser", None)
    return False


def student_in(d: object) -> WConditioned | None:
    """The `WConditioned` that a denoiser is or wraps, None where there is none."""
    while isinstance(d, Denoiser):
        if isinstance(d, WConditioned):
            return d
        d = getattr(d, "denoiser", None)
    return None


def weight_of_extra(extra: float) -> float:
    """1 + extra: our weight of a paper's that counts only what is added to the conditional prediction.

    D = (1 + extra) D(c) - extra D(null) there. Source: arXiv 2210.03142, section 3; 2207.12598.

    >>> weight_of_extra(0.3)
    1.3
    """
    return 1.0 + extra


def extra_of_weight(w: float) -> float:
    """w - 1, the inverse of `weight_of_extra`."""
    return w - 1.0


def _range(w_range: Sequence[float]) -> tuple[float, float]:
    pair = tuple(float(w) for w in w_range)
    if len(pair) != 2 or not 0 <= pair[0] < pair[1] < math.inf:
        raise ValueError(f"w_range={pair}; expected the lowest and the highest weight, 0 <= low < high")
    return pair[0], pair[1]
