"""How images are degraded: y = A(x), and the noise of the measurement."""

from mezzotint.restore.operators.krylov import conjugate_gradients
from mezzotint.restore.operators.matrix import Matrix
from mezzotint.restore.operators.operator import Composed, LinearOperator, Operator
from mezzotint.restore.operators.spectral import SpectralOperator

__all__ = [
    "Composed",
    "LinearOperator",
    "Matrix",
    "Operator",
    "SpectralOperator",
    "conjugate_gradients",
]
