"""NIfTI-1 files in and out, without a dependency: places, codes and scaling kept."""

from __future__ import annotations

import gzip
import math
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from mezzotint.data.medical.nifti_header import TYPES, NiftiHeader
from mezzotint.data.medical.volume import Volume
from mezzotint.io.atomic import atomic_file

__all__ = ["read_nifti", "write_nifti"]

_PIECE = 1 << 24
_LONGEST = 32767  # the format counts in 16 bits
_OFFSET = 352  # where data begin in one file: the header, and four bytes that say no extension follows


def read_nifti(path: str | Path, unit: str = "") -> Volume:
    """A volume from .nii, .nii.gz, or a pair .hdr and .img (each may be compressed).

        value = scl_slope stored + scl_inter, or stored where scl_slope is 0

    Dimensions after the third are channels (the fourth runs fastest). Values become float32: integers above 2^24 and
    float64 are rounded. The affine is that of sform where its code is > 0, else of qform; units of metres and
    micrometres become millimetres.

    Args:
        path: the file; a pair by either of its files.
        unit: of the values, which the format does not state.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: for what is no NIfTI-1, is cut off or corrupt, or holds colours or complex numbers.
    """
    path = Path(path)
    if path.is_dir():
        raise ValueError(f"{path.name} is a folder; give a .nii, .nii.gz or .hdr file")
    try:
        return replace(_read(path), unit=unit)
    except (ValueError, EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise ValueError(f"{path.name}: {error}") from None


def _read(path: Path) -> Volume:
    head = _partner(path, ".hdr") if _ending(path) == ".img" else path
    with _opened(head) as file:
        header, order = NiftiHeader.parse(_exactly(file, 348, "header", may_end=True))
        kind = np.dtype(TYPES[int(header.fields["datatype"])]).newbyteorder(order)
        shape, offset = header.shape, int(header.fields["vox_offset"])
        count = math.prod(shape) * kind.itemsize
        if header.fields["magic"].item() == b"n+1":
            if offset < 348:
                raise ValueError(f"its vox_offset is {offset}, inside the header")
            _exactly(file, offset - 348, "header")
            raw = _exactly(file, count, "data")
            file.read(_PIECE)  # the end of a compressed file holds its checksum
        else:
            with _opened(_partner(head, ".img")) as data:
                _exactly(data, offset, "data")
                raw = _exactly(data, count, "data")
                data.read(_PIECE)
    stored = np.frombuffer(raw, kind).reshape(shape)
    slope, inter = header.scaling
    # integers of 32 bits and more are scaled before they are rounded to float32
    exact = (kind.kind == "f" and kind.itemsize == 4) or kind.itemsize <= 2
    values = stored.astype(np.float32 if exact and (slope, inter) == (1.0, 0.0) else np.float64)
    if (slope, inter) != (1.0, 0.0):
        values = values * slope + inter
    whole = kind.kind != "f" and slope == int(slope) and inter == int(inter)
    data = torch.from_numpy(values.astype(np.float32))
    return Volume(data, header.affine(), stored=kind.name if whole else "scaled float32", header=header)


def write_nifti(
    path: str | Path,
    data: Volume | Tensor,
    like: Volume | None = None,
    *,
    dtype: str | None = None,
    scaling: tuple[float, float] = (1.0, 0.0),
    byteorder: Literal["<", ">"] = "<",
) -> Path:
    """Write a volume, or values that lie on the voxels of another: the same affine, codes and shape.

    A Volume in the range of a model is written in its own unit; a tensor is written as it is: a mask is never scaled.
    The file is whole or not there.

    Args:
        path: ending in .nii or .nii.gz (compressed; the same values give the same bytes).
        data: a Volume, or a tensor (d, h, w) or (c, d, h, w) of numbers or bool with `like`.
        like: the volume whose places and header to keep.
        dtype: of the file, as "int16"; None: uint8 for bool, the tensor's own type for integers, else float32
            (float64 stays).
        scaling: (slope, intercept) of the file; stored = round((value - intercept) / slope) for integer types.
        byteorder: "<" or ">".

    Returns:
        the path.

    Raises:
        ValueError: for sizes that differ or that the format cannot state, another ending, or values that the type
            cannot hold.
    """
    path = Path(path)
    if not path.name.endswith((".nii", ".nii.gz")):
        raise ValueError(f"{path.name} ends in neither .nii nor .nii.gz")
    if isinstance(data, Volume):
        if like is not None and data.size != like.size:
            raise ValueError(f"the volume is of size {data.size}, the one it is written like of {like.size}")
        like, values = like or data, data.to_unit().data
    elif like is None:
        raise ValueError("a tensor has no places; give like=, the volume whose voxels it lies on")
    else:
        if data.ndim not in (3, 4) or tuple(data.shape[-3:]) != like.size:
            raise ValueError(
                f"data of shape {tuple(data.shape)} do not lie on the volume it is written like, of size {like.size} "
                "(d, h, w)"
            )
        values = data.detach().cpu().reshape(-1, *like.size)
    kind, slope, inter = _kind(values, dtype), *scaling
    if not (math.isfinite(slope) and math.isfinite(inter) and slope != 0):
        raise ValueError(f"scaling is {scaling}; expected a slope that is not 0 and an intercept, both finite")
    stored = _stored(values.numpy(), kind, slope, inter)
    c, d, h, w = stored.shape
    if max(stored.shape) > _LONGEST:
        raise ValueError(f"a volume of {tuple(stored.shape)} has no place in NIfTI-1, whose axes end at {_LONGEST}")
    header = like.header or NiftiHeader.empty()
    if like.header is None or not torch.equal(_quietly(header), like.affine):
        header = header.placed(like.affine)
    head = header.described((c, d, h, w), kind, slope, inter, _OFFSET).pack(byteorder)
    body = np.ascontiguousarray(stored, kind.newbyteorder(byteorder))
    with atomic_file(path) as temporary, open(temporary, "wb") as file:
        if path.name.endswith(".gz"):
            with gzip.GzipFile("", "wb", compresslevel=6, fileobj=file, mtime=0) as packed:
                packed.write(head + bytes(_OFFSET - 348))
                packed.write(body.data)
        else:
            file.write(head + bytes(_OFFSET - 348))
            file.write(body.data)
    return path


def _kind(values: Tensor, dtype: str | None) -> np.dtype:
    if values.is_complex() or values.dtype == torch.bfloat16:
        raise ValueError(f"{values.dtype} values cannot be written; convert them to real numbers first")
    name = dtype
    if name is None:
        name = "uint8" if values.dtype == torch.bool else str(values.dtype).removeprefix("torch.")
        name = "float32" if name == "float16" else name
    known = [np.dtype(kind) for kind in TYPES.values()]
    if name not in [kind.name for kind in known]:
        raise ValueError(f"unknown dtype {name!r}; expected one of {', '.join(sorted(k.name for k in known))}")
    return np.dtype(name)


def _stored(values: np.ndarray, kind: np.dtype, slope: float, inter: float) -> np.ndarray:
    if (slope, inter) != (1.0, 0.0):
        values = (values.astype(np.float64) - inter) / slope
    if kind.kind == "f" or values.dtype == kind or values.dtype == bool:
        return values.astype(kind)
    if values.dtype.kind == "f":
        if not np.isfinite(values).all():
            raise ValueError(f"the values hold NaN or infinity, which {kind.name} cannot; write float32")
        values = np.rint(values)
    limits = np.iinfo(kind)
    low, high = values.min(), values.max()
    if low < limits.min or high > limits.max:
        raise ValueError(f"stored values from {low} to {high} do not fit {kind.name}; give a scaling, or another dtype")
    return values.astype(kind)


def _quietly(header: NiftiHeader) -> Tensor:
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return header.affine()


def _ending(path: Path) -> str:
    return Path(path.name.removesuffix(".gz")).suffix


def _partner(path: Path, ending: str) -> Path:
    stem = path.name.removesuffix(".gz")
    stem = stem[: -len(Path(stem).suffix)] if Path(stem).suffix else stem
    for name in (stem + ending, stem + ending + ".gz"):
        if path.with_name(name).is_file():
            return path.with_name(name)
    raise ValueError(f"its other half, {stem}{ending}, is not beside it")


def _opened(path: Path) -> Any:
    with open(path, "rb") as file:
        packed = file.read(2) == b"\x1f\x8b"
    return gzip.open(path, "rb") if packed else open(path, "rb")


def _exactly(file: Any, count: int, part: str, may_end: bool = False) -> bytearray:
    """`count` bytes, read piece by piece: a corrupt header that states terabytes takes no memory."""
    raw = bytearray()
    while len(raw) < count:
        piece = file.read(min(_PIECE, count - len(raw)))
        if not piece:
            if may_end:
                return raw
            raise ValueError(f"its {part} end after {len(raw)} bytes of {count}; the file is cut off")
        raw += piece
    return raw
