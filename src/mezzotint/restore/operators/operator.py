"""What an operator is: y = A(x), linear or not, without the noise of the measurement."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor, nn

from mezzotint.restore.operators.krylov import conjugate_gradients

__all__ = ["Composed", "LinearOperator", "Operator"]


class Operator(nn.Module, ABC):
    """y = A(x) for a batch of images (b, c, h, w) (or any (b, *s)), rows apart; what it holds are buffers.

    Complex quantities (an image in MRI, its Fourier samples) are real tensors: channels 2 i and 2 i + 1 are the real
    and the imaginary part of channel i. `A @ B` is x -> A(B(x)).
    """

    linear: ClassVar[bool] = False
    value_range: tuple[float, float] | None = None  # the least and the greatest value of a clean measurement, if stated

    @abstractmethod
    def forward(self, x: Float[Tensor, "b *s"]) -> Float[Tensor, "b *m"]:
        """A(x).

        Raises:
            ValueError: for a shape that does not suit the operator; says which does.
        """

    @abstractmethod
    def guess(self, y: Float[Tensor, "b *m"]) -> Float[Tensor, "b *s"]:
        """A first image made of a measurement, in the shape of x: where restorers start.

        Raises:
            ValueError: for a measurement of the wrong shape.
        """

    def __matmul__(self, other: Operator) -> Operator:
        """x -> self(other(x))."""
        if not isinstance(other, Operator):
            return NotImplemented
        both = isinstance(self, LinearOperator) and isinstance(other, LinearOperator)
        return ComposedLinear(self, other) if both else Composed(self, other)


class LinearOperator(Operator):
    """A linear map with its adjoint; what is solved with it, where there is no closed form, by conjugate gradients.

    <A x, y> = <x, A* y>. Subclasses with a singular value decomposition are `SpectralOperator`.
    """

    linear = True

    @abstractmethod
    def adjoint(self, y: Float[Tensor, "b *m"]) -> Float[Tensor, "b *s"]:
        """A* y.

        Raises:
            ValueError: for a measurement of the wrong shape.
        """

    def pinv(self, y: Float[Tensor, "b *m"]) -> Float[Tensor, "b *s"]:
        """A+ y: among the x with the least |y - A x| the one of least norm."""
        return conjugate_gradients(lambda x: self.adjoint(self(x)), self.adjoint(y))

    def solve(
        self, y: Float[Tensor, "b *m"], signal: float | Tensor = 1.0, noise: float | Tensor = 0.0
    ) -> Float[Tensor, "b *m"]:
        """(signal A A* + noise I)^-1 y: the covariance of a measurement undone.

        With noise = 0 the pseudo-inverse of signal A A*.

        Args:
            y: (b, *m).
            signal: > 0, a number or (b, 1, ...).
            noise: >= 0, a number or (b, 1, ...); a tensor must be positive.
        """
        if not isinstance(noise, Tensor) and noise == 0:
            y = self(self.pinv(y))  # the part that A A* reaches, or gradients would run away
            return conjugate_gradients(lambda u: self(self.adjoint(u)), y) / signal
        return conjugate_gradients(lambda u: signal * self(self.adjoint(u)) + noise * u, y)

    def prox(self, x: Float[Tensor, "b *s"], y: Float[Tensor, "b *m"], weight: float | Tensor) -> Float[Tensor, "b *s"]:
        """argmin_z |y - A z|^2 + weight |z - x|^2 = x + A* (A A* + weight I)^-1 (y - A x).

        Args:
            x: (b, *s).
            y: (b, *m).
            weight: >= 0, a number or (b, 1, ...) tensor of positive ones; 0 is the limit, the nearest z among those
                that explain y best.
        """
        return x + self.adjoint(self.solve(y - self(x), 1.0, weight))

    def guess(self, y: Float[Tensor, "b *m"]) -> Float[Tensor, "b *s"]:
        """The pseudo-inverse."""
        return self.pinv(y)


class Composed(Operator):
    """x -> outer(inner(x)), made by `outer @ inner`.

    Args:
        outer, inner: operators; the measurement of the second is the image of the first.
    """

    def __init__(self, outer: Operator, inner: Operator) -> None:
        super().__init__()
        self.outer, self.inner = outer, inner
        self.value_range = outer.value_range

    def forward(self, x: Float[Tensor, "b *s"]) -> Float[Tensor, "b *m"]:
        """See Operator.forward."""
        return self.outer(self.inner(x))

    def guess(self, y: Float[Tensor, "b *m"]) -> Float[Tensor, "b *s"]:
        """The inner one's guess from the outer one's."""
        return self.inner.guess(self.outer.guess(y))


class ComposedLinear(Composed, LinearOperator):
    """Two linear operators, one after the other: the adjoint is inner* outer*."""

    def adjoint(self, y: Float[Tensor, "b *m"]) -> Float[Tensor, "b *s"]:
        """See LinearOperator.adjoint."""
        return self.inner.adjoint(self.outer.adjoint(y))  # type: ignore[union-attr,operator]

    def guess(self, y: Float[Tensor, "b *m"]) -> Float[Tensor, "b *s"]:
        """The pseudo-inverse of both."""
        return LinearOperator.guess(self, y)
