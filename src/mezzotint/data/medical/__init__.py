"""Medical images: volumes that know where they lie, their files, ranges, splits and phantoms. No clinical claim."""

from mezzotint.data.medical.dicom import read_dicom
from mezzotint.data.medical.dicom_write import write_dicom_series
from mezzotint.data.medical.nifti import read_nifti, write_nifti
from mezzotint.data.medical.nifti_header import NiftiHeader
from mezzotint.data.medical.phantom import PhantomSlices, PhantomVolume, phantom_slices, phantom_volume
from mezzotint.data.medical.ranges import Amplitude, Percentile, RangeMap, RangeRule, Uptake, Window, uptake_factor
from mezzotint.data.medical.split import patient_split, slice_split
from mezzotint.data.medical.volume import Volume

__all__ = [
    "Amplitude",
    "NiftiHeader",
    "Percentile",
    "PhantomSlices",
    "PhantomVolume",
    "RangeMap",
    "RangeRule",
    "Uptake",
    "Volume",
    "Window",
    "patient_split",
    "phantom_slices",
    "phantom_volume",
    "read_dicom",
    "read_nifti",
    "slice_split",
    "uptake_factor",
    "write_dicom_series",
    "write_nifti",
]
