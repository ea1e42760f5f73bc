"""An inverse problem: a measurement, the operator that made it, and how noisy it is."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mezzotint.core import Noise
from mezzotint.restore.operators import Operator

__all__ = ["Problem"]

_MOST = 1e100  # its square is still a number


@dataclass(frozen=True, eq=False)
class Problem:
    """y = A(x) + std n, with n standard normal: what a restorer is given.

    Args:
        operator: A.
        y: the measurement, (b, *m), float32 or wider.
        std: standard deviation of its noise, >= 0, in the units of y.
        guess: a first image, (b, *s), made by the operator.

    Raises:
        ValueError: for a measurement that is empty or not finite, that the operator refuses, or a negative std.
    """

    operator: Operator
    y: Tensor
    std: float
    guess: Tensor

    @classmethod
    def of(cls, operator: Operator, y: Tensor, noise: Noise, std: float = 0.0) -> Problem:
        """The problem of one row a seed.

        Args:
            operator: A.
            y: (b, *m), or (1, *m): one measurement, of which each seed makes a sample; half precision is widened.
            noise: one seed a sample.
            std: see above.
        """
        if not isinstance(operator, Operator):
            raise ValueError(f"expected an Operator, such as Mask(mask) or Resize(4); got {type(operator).__name__}")
        if not isinstance(y, Tensor) or not y.is_floating_point():
            kind = y.dtype if isinstance(y, Tensor) else type(y).__name__
            raise ValueError(
                f"the measurement is {kind}; expected a floating-point tensor (batch, ...): complex numbers as two "
                "channels, images in the range of the model, [-1, 1]"
            )
        if y.ndim < 1 or y.numel() == 0:
            raise ValueError(f"the measurement has shape {tuple(y.shape)}; expected (batch, ...), nothing empty")
        if not bool(torch.isfinite(y).all()):
            raise ValueError("the measurement holds NaN or infinity; mask such values out (Mask) instead")
        if not 0 <= std < _MOST:
            raise ValueError(f"the noise of the measurement has std={std}; expected a number >= 0 and below {_MOST:g}")
        if len(noise) != len(y):
            if len(y) != 1:
                raise ValueError(
                    f"noise has {len(noise)} seeds but there are {len(y)} measurements; give one seed a measurement, "
                    "or one measurement and a seed for each sample of it"
                )
            y = y.expand(len(noise), *y.shape[1:])
        y = y.to(torch.promote_types(y.dtype, torch.float32))
        return cls(operator, y, float(std), operator.guess(y))

    def residual(self, x: Tensor) -> Tensor:
        """y - A(x), (b, *m)."""
        return self.y - self.operator(x)
