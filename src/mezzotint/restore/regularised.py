"""The regularised inverse of a linear operator: what a measurement says of the image, no more than its noise allows."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from mezzotint.restore.operators import LinearOperator, SpectralOperator

__all__ = ["regularised"]


def regularised(operator: LinearOperator, y: Float[Tensor, "b *m"], noise: float | Tensor) -> Float[Tensor, "b *s"]:
    """A* (A A* + noise I)^-1 y; the pseudo-inverse for noise = 0.

    Where the decomposition is closed, V s / (s^2 + noise) U* y: what of y lies outside of the range of A is never
    divided by a small noise, as in `operator.solve`, whose rounding then reaches the image.

    Args:
        operator: A.
        y: (b, *m).
        noise: >= 0, a number or (b, 1, ...); a tensor must be positive.

    >>> from mezzotint.restore.operators import Matrix
    >>> regularised(Matrix(2 * torch.eye(1)), torch.ones(1, 1), 4.0).tolist()
    [[0.25]]
    """
    if not isinstance(noise, Tensor) and noise == 0:
        return operator.pinv(y)
    if not isinstance(operator, SpectralOperator):
        return operator.adjoint(operator.solve(y, 1.0, noise))
    k = operator.measured_to_spectrum(y)
    s = operator.singulars(operator.from_spectrum(torch.zeros_like(k)))
    if isinstance(noise, Tensor):
        noise = noise.reshape(-1, *[1] * (k.ndim - 1))
    gain = s / (s**2 + noise)  # 0 / 0 where such a noise is none of a float
    gain = torch.where(operator.seen(s), gain, torch.zeros_like(gain))
    return operator.from_spectrum(gain * k)
