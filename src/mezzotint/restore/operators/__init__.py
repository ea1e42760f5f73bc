"""How images are degraded: y = A(x), and the noise of the measurement."""

from mezzotint.restore.operators.clip import Clip
from mezzotint.restore.operators.decode import Decode
from mezzotint.restore.operators.fourier import Fourier, centred_fft, centred_ifft
from mezzotint.restore.operators.krylov import conjugate_gradients
from mezzotint.restore.operators.matrix import Matrix
from mezzotint.restore.operators.operator import Composed, LinearOperator, Operator
from mezzotint.restore.operators.paired import AsComplex, as_channels, as_complex
from mezzotint.restore.operators.radon import Radon
from mezzotint.restore.operators.rays import RayTransform
from mezzotint.restore.operators.spectral import SpectralOperator

__all__ = [
    "AsComplex",
    "Clip",
    "Composed",
    "Decode",
    "Fourier",
    "LinearOperator",
    "Matrix",
    "Operator",
    "Radon",
    "RayTransform",
    "SpectralOperator",
    "as_channels",
    "as_complex",
    "centred_fft",
    "centred_ifft",
    "conjugate_gradients",
]
