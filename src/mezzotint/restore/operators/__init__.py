"""How images are degraded: y = A(x), and the noise of the measurement."""

from mezzotint.restore.operators.affine import Affine, Scale
from mezzotint.restore.operators.blur import Blur, ReflectBlur
from mezzotint.restore.operators.clip import Clip
from mezzotint.restore.operators.coils import MultiCoil, coil_maps, normalised_maps
from mezzotint.restore.operators.colour import LUMA, Bayer, Decolorise
from mezzotint.restore.operators.decode import Decode
from mezzotint.restore.operators.fan import FanBeam
from mezzotint.restore.operators.fourier import Fourier, centred_fft, centred_ifft
from mezzotint.restore.operators.haze import Haze
from mezzotint.restore.operators.jpeg import JPEG
from mezzotint.restore.operators.kernels import box_kernel, disc_kernel, gaussian_kernel, motion_kernel, shake_kernel
from mezzotint.restore.operators.krylov import conjugate_gradients
from mezzotint.restore.operators.kspace import cartesian_mask, radial_mask, random_mask
from mezzotint.restore.operators.light import LowLight
from mezzotint.restore.operators.mask import Mask, box_mask, free_form_mask, outer_mask, random_pixels
from mezzotint.restore.operators.matrix import Matrix
from mezzotint.restore.operators.operator import Composed, LinearOperator, Operator
from mezzotint.restore.operators.paired import AsComplex, as_channels, as_complex
from mezzotint.restore.operators.phase import PhaseRetrieval
from mezzotint.restore.operators.plain import Crop, Identity, Stack, random_projection
from mezzotint.restore.operators.pool import AveragePool
from mezzotint.restore.operators.quantise import Quantise
from mezzotint.restore.operators.radon import Radon
from mezzotint.restore.operators.rain import Rain, rain_layer
from mezzotint.restore.operators.rays import RayTransform
from mezzotint.restore.operators.resize import Resize
from mezzotint.restore.operators.separable import Separable
from mezzotint.restore.operators.separable_blur import SeparableBlur, split_kernel
from mezzotint.restore.operators.shadow import Shadow
from mezzotint.restore.operators.spectral import SpectralOperator

__all__ = [
    "Blur",
    "ReflectBlur",
    "LUMA",
    "Bayer",
    "Decolorise",
    "box_kernel",
    "disc_kernel",
    "gaussian_kernel",
    "motion_kernel",
    "shake_kernel",
    "Mask",
    "box_mask",
    "free_form_mask",
    "outer_mask",
    "random_pixels",
    "Crop",
    "Identity",
    "Stack",
    "random_projection",
    "AveragePool",
    "Resize",
    "Separable",
    "SeparableBlur",
    "split_kernel",
    "Affine",
    "AsComplex",
    "Clip",
    "Composed",
    "Decode",
    "FanBeam",
    "Fourier",
    "Haze",
    "JPEG",
    "LinearOperator",
    "LowLight",
    "Matrix",
    "MultiCoil",
    "Operator",
    "PhaseRetrieval",
    "Quantise",
    "Radon",
    "Rain",
    "RayTransform",
    "Scale",
    "Shadow",
    "SpectralOperator",
    "as_channels",
    "as_complex",
    "cartesian_mask",
    "centred_fft",
    "centred_ifft",
    "coil_maps",
    "conjugate_gradients",
    "normalised_maps",
    "radial_mask",
    "rain_layer",
    "random_mask",
]
