"""Phantoms as DICOM files: plainly synthetic, for demonstrations and tests of what reads them."""

from __future__ import annotations

from hashlib import blake2b
from pathlib import Path
from typing import Any, Literal

import numpy as np

from mezzotint.data.medical.slices import LPS_TO_RAS
from mezzotint.data.medical.volume import Volume
from mezzotint.io.atomic import atomic_folder

__all__ = ["write_dicom_series"]

_CLASSES = {"CT": "1.2.840.10008.5.1.4.1.1.2", "MR": "1.2.840.10008.5.1.4.1.1.4"}
_EXPLICIT_LITTLE = "1.2.840.10008.1.2.1"


def write_dicom_series(
    folder: str | Path, volume: Volume, modality: Literal["CT", "MR"] = "CT", *, slope: float | None = None
) -> list[Path]:
    """Write a synthetic volume of one channel as a series of 16-bit slices that no one takes for a patient's.

    The same volume gives the same bytes: identifiers are hashes of it, and there is no date. Names of files do not
    follow the order of the slices. PatientName is SYNTHETIC^PHANTOM, and ImageType begins with DERIVED.

    Args:
        folder: a new one.
        volume: (1, d, h, w); in the range of a model it is written in its own unit.
        modality: "CT" (signed, intercept -1024) or "MR" (unsigned).
        slope: value of one stored step; None: 1 for CT, max / 4095 for MR.

    Returns:
        the files, in the order of the slices along d.

    Raises:
        ImportError: without pydicom (extra [medical]).
        ValueError: for a folder that exists, several channels, slices that are not rectangular, or values that 16 bits
            do not hold.
    """
    try:
        from pydicom.dataset import FileDataset, FileMetaDataset
        from pydicom.uid import UID
    except ImportError as error:
        raise ImportError("writing DICOM needs pydicom; install it with pip install 'mezzotint[medical]'") from error
    folder = Path(folder)
    if folder.exists():
        raise ValueError(f"{folder} exists; a series goes to a new folder")
    if modality not in _CLASSES:
        raise ValueError(f"unknown modality {modality!r}; expected CT or MR")
    volume = volume.to_unit()
    if len(volume.data) != 1:
        raise ValueError(f"a series has one channel; this volume has {len(volume.data)}")
    values = volume.data[0].double().numpy()
    intercept = -1024.0 if modality == "CT" else 0.0
    slope = slope or (1.0 if modality == "CT" else max(float(values.max()), 1e-6) / 4095)
    stored = np.rint((values - intercept) / slope)
    limits = np.iinfo(np.int16 if modality == "CT" else np.uint16)
    if not np.isfinite(stored).all() or stored.min() < limits.min or stored.max() > limits.max:
        raise ValueError(
            f"values from {values.min():g} to {values.max():g} do not fit 16 bits with slope {slope:g}; give another"
        )
    directions, positions, spacing = _geometry(volume)
    pixels = stored.astype(limits.dtype).astype(limits.dtype.newbyteorder("<"))
    key = blake2b(pixels.tobytes() + volume.affine.numpy().tobytes() + modality.encode(), digest_size=12).digest()
    names = [f"{blake2b(key + k.to_bytes(4, 'little'), digest_size=4).hexdigest()}-{k}.dcm" for k in range(len(pixels))]
    with atomic_folder(folder) as temporary:
        for k, (name, frame) in enumerate(zip(names, pixels, strict=True)):
            meta = FileMetaDataset()
            meta.MediaStorageSOPClassUID = UID(_CLASSES[modality])
            meta.MediaStorageSOPInstanceUID = UID(_uid(key, "slice", k))
            meta.TransferSyntaxUID = UID(_EXPLICIT_LITTLE)
            data = FileDataset(str(temporary / name), {}, file_meta=meta, preamble=bytes(128))
            _fill(data, modality, key, k)
            data.Rows, data.Columns = frame.shape
            data.ImageOrientationPatient = [_decimal(v) for v in directions]
            data.ImagePositionPatient = [_decimal(v) for v in positions[k]]
            data.PixelSpacing = [_decimal(v) for v in spacing]
            data.SliceThickness = _decimal(volume.spacing[0])
            data.PixelRepresentation = int(limits.min < 0)
            data.RescaleSlope, data.RescaleIntercept = _decimal(slope), _decimal(intercept)
            if modality == "CT":
                data.RescaleType = "HU"
            data.PixelData = frame.tobytes()
            data["PixelData"].VR = "OW"
            data.save_as(temporary / name, enforce_file_format=True)
    return [folder / name for name in names]


def _geometry(volume: Volume) -> tuple[np.ndarray, np.ndarray, tuple[float, float]]:
    """Directions (6,), positions (d, 3) in LPS, and spacing between rows, then columns."""
    affine = LPS_TO_RAS @ volume.affine.numpy()
    along, down = affine[:3, 0], affine[:3, 1]
    spacing = float(np.linalg.norm(down)), float(np.linalg.norm(along))
    directions = np.concatenate([along / spacing[1], down / spacing[0]])
    if abs(directions[:3] @ directions[3:]) > 1e-6:
        raise ValueError("the rows and columns of this volume are not at a right angle; DICOM slices are")
    places = affine[:3, 3] + np.arange(volume.size[0])[:, None] * affine[:3, 2]
    return directions, places, spacing


def _fill(data: Any, modality: str, key: bytes, k: int) -> None:
    data.SOPClassUID, data.SOPInstanceUID = data.file_meta.MediaStorageSOPClassUID, _uid(key, "slice", k)
    data.StudyInstanceUID, data.SeriesInstanceUID = _uid(key, "study", 0), _uid(key, "series", 0)
    data.FrameOfReferenceUID = _uid(key, "frame", 0)
    data.PatientName, data.PatientID = "SYNTHETIC^PHANTOM", "SYNTHETIC"
    data.PatientBirthDate = data.PatientSex = data.StudyDate = data.StudyTime = data.AccessionNumber = ""
    data.StudyID, data.SeriesNumber, data.InstanceNumber = "", 1, k + 1
    data.Modality, data.Manufacturer = modality, "Mezzotint"
    data.ImageType = ["DERIVED", "SECONDARY", "AXIAL"]
    data.SeriesDescription = "Synthetic phantom, no patient"
    data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
    data.BitsAllocated = data.BitsStored = 16
    data.HighBit = 15


def _uid(key: bytes, kind: str, k: int) -> str:
    number = int.from_bytes(blake2b(key + kind.encode() + k.to_bytes(4, "little"), digest_size=15).digest(), "little")
    return f"2.25.{number}"


def _decimal(value: float) -> str:
    """A number in at most 16 characters, as a decimal string allows."""
    for digits in range(15, 5, -1):
        text = f"{value:.{digits}g}"
        if len(text) <= 16:
            return text
    return f"{value:.5g}"
