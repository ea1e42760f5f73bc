"""A series of DICOM files to a volume: slices in the order of their places, never of their names."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mezzotint.data.medical.slices import Slice, affine_of
from mezzotint.data.medical.volume import Volume

__all__ = ["read_dicom"]

_CALIBRATED = ("CT", "PT")  # stored values are quantities: how they are displayed does not change them
_DECODERS = {
    "JPEG 2000": "pylibjpeg pylibjpeg-openjpeg",
    "JPEG-LS": "pyjpegls",
    "JPEG": "pylibjpeg pylibjpeg-libjpeg",
    "HTJ2K": "pylibjpeg pylibjpeg-openjpeg",
}


def read_dicom(
    source: str | Path | Iterable[str | Path],
    *,
    series: int | None = None,
    rescale: bool = True,
    fill: float | None = None,
) -> Volume:
    """A volume from one series of single-frame grey slices.

        value = RescaleSlope stored + RescaleIntercept   (of each slice),   RAS = diag(-1, -1, 1) LPS

    Slices are sorted by ImagePositionPatient along row x column of ImageOrientationPatient; the distance between them
    comes from those positions (SliceThickness may differ), so that a tilted gantry gives a sheared affine. MONOCHROME1
    is inverted, but not for CT and PET, whose values are quantities. Padding (PixelPaddingValue and its range) becomes
    `fill`. A RescaleSlope of 0, which in DICOM has no meaning, is refused. No tag but unit and geometry is kept;
    messages name files, never patients.

    Args:
        source: a folder (files that are no DICOM are passed over unless they end in .dcm), or files.
        series: which one where there are several, as the message lists them.
        rescale: False to read the stored values as they are.
        fill: of padding; None: -1000 for CT (air), else the least value that is no padding.

    Raises:
        ImportError: without pydicom (extra [medical]).
        ValueError: for several series, duplicate or missing slices (listed), slices that do not fit together, several
            frames, colours, nonlinear rescaling, a compression without its decoder, or a corrupt file.
    """
    headers = _headers(source)
    groups: dict[str, list[tuple[Path, Any]]] = {}
    for path, header in headers:
        groups.setdefault(str(header.get("SeriesInstanceUID", "")), []).append((path, header))
    keys = sorted(groups, key=lambda key: (_number(groups[key][0][1], "SeriesNumber", 0.0), key))
    found = [groups[key] for key in keys]
    if series is None and len(found) > 1:
        listed = "; ".join(f"{i}: {g[0][1].get('Modality', '?')}, {len(g)} files" for i, g in enumerate(found))
        raise ValueError(f"there are {len(found)} series ({listed}); give series=, the number before the colon")
    if series is not None and not 0 <= series < len(found):
        raise ValueError(f"series={series}, but there are {len(found)}; expected 0 to {len(found) - 1}")
    chosen = found[series or 0]
    frames = [_frame(path, header) for path, header in chosen]
    order, affine = affine_of([frame.slice for frame in frames])
    return _assembled([frames[i] for i in order], affine, rescale, fill)


@dataclass(frozen=True)
class _Frame:
    slice: Slice
    header: Any


def _headers(source: str | Path | Iterable[str | Path]) -> list[tuple[Path, Any]]:
    try:
        import pydicom
        from pydicom.errors import InvalidDicomError
    except ImportError as error:
        raise ImportError("reading DICOM needs pydicom; install it with pip install 'mezzotint[medical]'") from error
    whole = isinstance(source, (str, Path)) and Path(source).is_dir()
    if whole:
        paths = sorted(p for p in Path(source).iterdir() if p.is_file() and not p.name.startswith("."))  # type: ignore[arg-type]
    else:
        paths = [Path(source)] if isinstance(source, (str, Path)) else [Path(p) for p in source]
    headers = []
    for path in paths:
        if not path.is_file():
            raise FileNotFoundError(f"{path}: no such file or folder")
        if path.name.upper() == "DICOMDIR":
            continue
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # pydicom's warnings quote values of tags
                header = pydicom.dcmread(path)
                list(header.iterall())  # elements are parsed as they are looked at
        except InvalidDicomError:
            if whole and path.suffix.lower() != ".dcm":
                continue
            raise ValueError(f"{path.name} is no DICOM file (no DICM at byte 128)") from None
        except Exception as error:  # whatever a corrupt file makes the parser do
            raise ValueError(f"{path.name} is corrupt: {type(error).__name__} while its tags were read") from None
        if "Rows" in header:
            headers.append((path, header))
        elif "Image" in getattr(header.get("SOPClassUID"), "name", "Image"):  # no report, plan or directory
            raise ValueError(f"{path.name} is corrupt: it has no Rows; the file is cut off")
    if not headers:
        raise ValueError("there is no DICOM image in what was given; expected the files of one series")
    return headers


def _frame(path: Path, header: Any) -> _Frame:
    def refuse(why: str) -> ValueError:
        return ValueError(f"{path.name}: {why}")

    if _number(header, "NumberOfFrames", 1.0) > 1:
        raise refuse(
            f"it holds {int(header.NumberOfFrames)} frames; only single-frame series are read: convert it, for example "
            "to NIfTI"
        )
    kind = str(header.get("PhotometricInterpretation", ""))
    if kind not in ("MONOCHROME1", "MONOCHROME2") or _number(header, "SamplesPerPixel", 1.0) != 1:
        raise refuse(f"its PhotometricInterpretation is {kind or 'missing'}; expected MONOCHROME1 or MONOCHROME2")
    if "ModalityLUTSequence" in header:
        raise refuse("it has a ModalityLUTSequence (nonlinear rescaling), which is not applied; convert it first")
    vectors = {}
    names = {"ImagePositionPatient": 3, "ImageOrientationPatient": 6, "PixelSpacing": 2}
    for name, count in names.items():
        value = header.get(name)
        if value is None and name == "PixelSpacing":
            value = header.get("ImagerPixelSpacing")
        if value is None:
            continue
        try:
            vector = np.array([float(v) for v in value], np.float64)
        except (TypeError, ValueError):
            vector = np.empty(0)
        if vector.shape != (count,) or not np.isfinite(vector).all():
            raise refuse(f"its {name} is not {count} numbers")
        vectors[name] = vector
    between = _number(header, "SpacingBetweenSlices", 0.0) or _number(header, "SliceThickness", 0.0)
    place = Slice(
        path.name,
        vectors.get("ImagePositionPatient"),
        vectors.get("ImageOrientationPatient"),
        vectors.get("PixelSpacing"),
        (int(header.Rows), int(header.Columns)),
        between,
    )
    return _Frame(place, header)


def _assembled(frames: list[_Frame], affine: np.ndarray, rescale: bool, fill: float | None) -> Volume:
    modality = str(frames[0].header.get("Modality", ""))
    values = np.empty((len(frames), *frames[0].slice.shape), np.float32)
    padding, whole = np.zeros(values.shape, bool), True
    for k, frame in enumerate(frames):
        header, name = frame.header, frame.slice.name
        stored = _stored(header, name)
        padding[k] = _padded(header, stored)
        if header.PhotometricInterpretation == "MONOCHROME1" and modality not in _CALIBRATED:
            bits = int(header.BitsStored)
            stored = (-1 if header.PixelRepresentation else (1 << bits) - 1) - stored
        slope, inter = (
            (_number(header, "RescaleSlope", 1.0), _number(header, "RescaleIntercept", 0.0)) if rescale else (1, 0)
        )
        if slope == 0 or not (np.isfinite(slope) and np.isfinite(inter)):
            raise ValueError(
                f"{name}: its RescaleSlope is {slope} and its RescaleIntercept {inter}, which leaves no image; "
                "rescale=False reads the stored values"
            )
        whole = whole and slope == int(slope) and inter == int(inter)
        values[k] = slope * stored.astype(np.float64) + inter
    if padding.any():
        if fill is None:
            fill = -1000.0 if modality == "CT" and rescale else float(values[~padding].min(initial=np.inf))
            fill = fill if np.isfinite(fill) else 0.0
        values[padding] = fill
    unit = str(frames[0].header.get("RescaleType", "HU") or "HU") if modality == "CT" else ""
    unit = str(frames[0].header.get("Units", "")) if modality == "PT" else unit
    unit = {"BQML": "Bq/ml"}.get(unit, unit) if rescale and unit in ("HU", "BQML", "GML") else ""
    bits = int(frames[0].header.BitsAllocated)
    stored_as = f"{'' if frames[0].header.PixelRepresentation else 'u'}int{bits}" if whole else "scaled float32"
    return Volume(
        torch.from_numpy(values)[None], torch.from_numpy(affine), {"GML": "SUV"}.get(unit, unit), stored=stored_as
    )


def _stored(header: Any, name: str) -> np.ndarray:
    """The stored integers (h, w) int64: the bits stored alone, with their sign."""
    syntax = header.file_meta.get("TransferSyntaxUID") if hasattr(header, "file_meta") else None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            pixels = header.pixel_array
        allocated, bits = int(header.BitsAllocated), int(header.BitsStored)
        high, signed = int(header.HighBit), bool(header.PixelRepresentation)
    except Exception as error:  # pydicom raises many kinds
        if syntax is not None and syntax.is_compressed and "missing dep" in str(error):
            family = next((kind for kind in ("HTJ2K", "JPEG 2000", "JPEG-LS", "JPEG") if kind in syntax.name), None)
            packages = _DECODERS.get(family or "", "a decoder that pydicom knows")
            raise ValueError(
                f"{name}: its pixels are compressed as {syntax.name} ({syntax}), for which no decoder is installed: "
                f"pip install {packages}"
            ) from None
        raise ValueError(f"{name} is corrupt: its pixels cannot be read ({type(error).__name__})") from None
    if pixels.shape != (int(header.Rows), int(header.Columns)) or pixels.dtype.kind not in "iu":
        raise ValueError(
            f"{name}: its pixels are {pixels.dtype} of shape {pixels.shape}; expected integers (rows, columns)"
        )
    if not 1 <= bits <= allocated <= 32 or not bits - 1 <= high < allocated:
        raise ValueError(f"{name}: BitsAllocated {allocated}, BitsStored {bits}, HighBit {high} contradict each other")
    # a decoder hands on the value itself; raw pixels may carry other things (overlays) in the bits that are not stored
    shift = 0 if syntax is not None and syntax.is_compressed else high + 1 - bits
    value = (pixels.astype(np.int64) >> shift) & ((1 << bits) - 1)
    return np.where(value >> (bits - 1) == 1, value - (1 << bits), value) if signed else value


def _padded(header: Any, stored: np.ndarray) -> np.ndarray:
    first = header.get("PixelPaddingValue")
    if first is None:
        return np.zeros(stored.shape, bool)
    last = header.get("PixelPaddingRangeLimit", first)
    bits = int(header.BitsStored)
    ends = []
    for value in (int(first), int(last)):
        if header.PixelRepresentation and value >= 1 << (bits - 1):  # written as the unsigned pattern of its bits
            value -= 1 << (16 if value >= 1 << bits else bits)
        ends.append(value)
    return (stored >= min(ends)) & (stored <= max(ends))


def _number(header: Any, name: str, default: float) -> float:
    value = header.get(name)
    try:
        return default if value is None or str(value).strip() == "" else float(value)
    except (TypeError, ValueError):
        raise ValueError(f"a file's {name} is no number") from None
