"""The 348 bytes of a NIfTI-1 header: its fields, the places of voxels it states, and their quaternion."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

__all__ = ["NiftiHeader"]

LAYOUT = np.dtype(
    [
        ("sizeof_hdr", "<i4"), ("data_type", "S10"), ("db_name", "S18"), ("extents", "<i4"), ("session_error", "<i2"),
        ("regular", "S1"), ("dim_info", "u1"), ("dim", "<i2", 8), ("intent_p", "<f4", 3), ("intent_code", "<i2"),
        ("datatype", "<i2"), ("bitpix", "<i2"), ("slice_start", "<i2"), ("pixdim", "<f4", 8), ("vox_offset", "<f4"),
        ("scl_slope", "<f4"), ("scl_inter", "<f4"), ("slice_end", "<i2"), ("slice_code", "u1"), ("xyzt_units", "u1"),
        ("cal_max", "<f4"), ("cal_min", "<f4"), ("slice_duration", "<f4"), ("toffset", "<f4"), ("glmax", "<i4"),
        ("glmin", "<i4"), ("descrip", "S80"), ("aux_file", "S24"), ("qform_code", "<i2"), ("sform_code", "<i2"),
        ("quatern", "<f4", 3), ("qoffset", "<f4", 3), ("srow", "<f4", (3, 4)), ("intent_name", "S16"), ("magic", "S4"),
    ]
)  # fmt: skip
TYPES = {2: "u1", 4: "i2", 8: "i4", 16: "f4", 64: "f8", 256: "i1", 512: "u2", 768: "u4", 1024: "i8", 1280: "u8"}
_REFUSED = {
    1: "single bits", 32: "complex64", 128: "RGB colours", 1536: "128-bit floats", 1792: "complex128",
    2048: "complex256", 2304: "RGBA colours",
}  # fmt: skip
_MILLIMETRES = {0: 1.0, 1: 1000.0, 2: 1.0, 3: 0.001}  # unknown (taken for mm), metres, millimetres, micrometres


@dataclass(frozen=True, eq=False)
class NiftiHeader:
    """A header as it was read; what a file written like it keeps.

    Args:
        fields: one record of LAYOUT, little-endian.
    """

    fields: np.ndarray

    @classmethod
    def parse(cls, raw: bytes | bytearray) -> tuple[NiftiHeader, Literal["<", ">"]]:
        """The header and the byte order of its file, by sizeof_hdr.

        Raises:
            ValueError: for what is no NIfTI-1 header, or states an impossible size.
        """
        if len(raw) < 348:
            raise ValueError(f"the header has {len(raw)} bytes of 348; the file is cut off")
        sizes = {order: int(np.frombuffer(raw, f"{order}i4", 1)[0]) for order in "<>"}
        order = ">" if sizes[">"] == 348 else "<"
        if 540 in sizes.values():
            raise ValueError("this is NIfTI-2; only NIfTI-1 is read: convert it")
        if sizes[order] != 348:
            raise ValueError(f"no NIfTI-1 file: its first number is {sizes['<']}, not 348")
        fields = np.frombuffer(raw[:348], LAYOUT.newbyteorder(order), 1).astype(LAYOUT).reshape(())
        magic = fields["magic"].item()
        if magic not in (b"n+1", b"ni1"):
            raise ValueError(
                f"the magic at byte 344 is {magic!r}, not n+1 or ni1; an Analyze file states no orientation"
            )
        header = cls(fields)
        header._check()
        return header, order

    def _check(self) -> None:
        f = self.fields
        rank = int(f["dim"][0])
        if not 1 <= rank <= 7 or (f["dim"][1 : rank + 1] < 1).any():
            raise ValueError(f"its dimensions are {f['dim'].tolist()}; the first says how many follow, 1 to 7, all > 0")
        code = int(f["datatype"])
        if code not in TYPES:
            kind = _REFUSED.get(code, "an unknown type")
            raise ValueError(
                f"its values are {kind} (datatype {code}); expected real numbers: write each part as a volume"
            )
        if int(f["bitpix"]) != 8 * np.dtype(TYPES[code]).itemsize:
            raise ValueError(f"datatype {code} ({np.dtype(TYPES[code]).name}) contradicts bitpix {int(f['bitpix'])}")
        if not math.isfinite(f["vox_offset"]) or f["vox_offset"] < 0 or f["vox_offset"] % 1:
            raise ValueError(f"its vox_offset is {f['vox_offset']}; expected a number of bytes")

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(c, d, h, w): the dimensions after the third are channels, the fourth runs fastest."""
        w, h, d, *rest = [*self.fields["dim"][1 : int(self.fields["dim"][0]) + 1].tolist(), 1, 1, 1][:7]
        return math.prod(rest), d, h, w

    @property
    def codes(self) -> tuple[int, int]:
        """(qform_code, sform_code)."""
        return int(self.fields["qform_code"]), int(self.fields["sform_code"])

    @property
    def scaling(self) -> tuple[float, float]:
        """(slope, intercept): value = slope stored + intercept. A slope of 0, or not finite, means none."""
        slope, inter = float(self.fields["scl_slope"]), float(self.fields["scl_inter"])
        if slope == 0 or not math.isfinite(slope):
            return 1.0, 0.0
        if not math.isfinite(inter):
            raise ValueError(f"its scl_inter is {inter} with scl_slope {slope}; expected a finite number")
        return slope, inter

    def affine(self) -> Float[Tensor, "4 4"]:
        """(i, j, k, 1) to millimetres in RAS+: by sform if its code is > 0, else qform, else pixdim with a warning.

        Without either the file states no orientation, and none is made up: i, j, k run along x, y, z from 0, which is
        method 1 of the format.
        """
        qform, sform = self.codes
        unit = _MILLIMETRES.get(int(self.fields["xyzt_units"]) & 7, 1.0)
        if sform > 0:
            matrix = self._sform()
            if qform == sform and not np.allclose(matrix, self._qform(), atol=1e-2 * float(self._zooms().max())):
                warnings.warn("sform and qform have one code but disagree; sform is taken", stacklevel=3)
        elif qform > 0:
            matrix = self._qform()
        else:
            warnings.warn("the file states no orientation (both codes are 0); pixdim alone is used", stacklevel=3)
            matrix = np.diag([*self._zooms(), 1.0])
        matrix[:3] *= unit
        return torch.from_numpy(matrix)

    def _sform(self) -> np.ndarray:
        return np.vstack([self.fields["srow"].astype(np.float64), [0, 0, 0, 1]])

    def _zooms(self) -> np.ndarray:
        zooms = np.abs(self.fields["pixdim"][1:4].astype(np.float64))
        bad = ~(np.isfinite(zooms) & (zooms > 0))
        if (bad & (self.fields["dim"][1:4] > 1)).any():
            warnings.warn(
                f"pixdim is {self.fields['pixdim'][1:4].tolist()}; 1 is taken where it is no size", stacklevel=4
            )
        return np.where(bad, 1.0, zooms)

    def _qform(self) -> np.ndarray:
        b, c, d = self.fields["quatern"].astype(np.float64)
        rest = 1 - (b * b + c * c + d * d)
        if not rest > -1e-5:
            raise ValueError(f"its quaternion {b:g}, {c:g}, {d:g} is longer than 1; it is no rotation")
        a = math.sqrt(max(rest, 0.0))
        if a == 0:  # rounding may leave a vector slightly off 1
            b, c, d = np.array([b, c, d]) / math.sqrt(b * b + c * c + d * d)
        turn = np.array(
            [
                [a * a + b * b - c * c - d * d, 2 * (b * c - a * d), 2 * (b * d + a * c)],
                [2 * (b * c + a * d), a * a + c * c - b * b - d * d, 2 * (c * d - a * b)],
                [2 * (b * d - a * c), 2 * (c * d + a * b), a * a + d * d - b * b - c * c],
            ]
        )
        qfac = -1.0 if self.fields["pixdim"][0] < 0 else 1.0
        matrix = np.eye(4)
        matrix[:3, :3] = turn * self._zooms() * np.array([1.0, 1.0, qfac])
        matrix[:3, 3] = self.fields["qoffset"]
        return matrix

    def placed(self, affine: Tensor) -> NiftiHeader:
        """The header with other places: sform, and qform where a quaternion can say it (no shear), else none.

        Codes stay what they were; a header that had none gets 1 (scanner coordinates) for both.
        """
        fields, matrix = self.fields.copy(), affine.numpy()
        qform, sform = self.codes if max(self.codes) > 0 else (1, 1)
        spacing = np.linalg.norm(matrix[:3, :3], axis=0)
        fields["xyzt_units"] = (int(fields["xyzt_units"]) & ~7) | 2
        fields["pixdim"][:4] = [1.0, *spacing]
        fields["srow"] = matrix[:3]
        quaternion = _quaternion(matrix[:3, :3] / spacing)
        if quaternion is None:
            qform, sform = 0, sform if sform > 0 else qform
        else:
            fields["quatern"], fields["pixdim"][0] = quaternion
            fields["qoffset"] = matrix[:3, 3]
        fields["qform_code"], fields["sform_code"] = qform, sform
        return NiftiHeader(fields)

    def described(
        self, shape: tuple[int, int, int, int], kind: np.dtype, slope: float, inter: float, offset: int
    ) -> NiftiHeader:
        """The header for data (c, d, h, w) of a type and scaling, `offset` bytes into one file."""
        fields = self.fields.copy()
        if self.shape != shape:
            c, d, h, w = shape
            fields["dim"] = [3 if c == 1 else 4, w, h, d, c, 1, 1, 1]
            fields["pixdim"][4:] = 1
            fields["intent_code"] = 0
        fields["datatype"] = next(code for code, name in TYPES.items() if np.dtype(name) == kind)
        fields["bitpix"] = 8 * kind.itemsize
        fields["vox_offset"], fields["scl_slope"], fields["scl_inter"] = offset, slope, inter
        fields["cal_max"] = fields["cal_min"] = 0  # the display range of other values
        fields["magic"] = b"n+1"
        return NiftiHeader(fields)

    @classmethod
    def empty(cls) -> NiftiHeader:
        """A header of zeros but for what every header has."""
        fields = np.zeros((), LAYOUT)
        fields["sizeof_hdr"], fields["regular"], fields["dim"][:], fields["pixdim"][:] = 348, b"r", 1, 1
        fields["xyzt_units"] = 2
        return cls(fields)

    def pack(self, order: Literal["<", ">"] = "<") -> bytes:
        """The 348 bytes."""
        return self.fields.astype(LAYOUT.newbyteorder(order)).tobytes()


def _quaternion(turn: np.ndarray) -> tuple[np.ndarray, float] | None:
    """(b, c, d) and qfac of unit columns; None if they are not orthogonal."""
    if not np.allclose(turn.T @ turn, np.eye(3), atol=1e-5):
        return None
    qfac = 1.0 if np.linalg.det(turn) > 0 else -1.0
    u, _, v = np.linalg.svd(turn * np.array([1.0, 1.0, qfac]))
    r = u @ v
    # the eigenvector of the greatest eigenvalue: no case by case of which component is large
    k = np.array(
        [
            [r[0, 0] - r[1, 1] - r[2, 2], 0, 0, 0],
            [r[1, 0] + r[0, 1], r[1, 1] - r[0, 0] - r[2, 2], 0, 0],
            [r[2, 0] + r[0, 2], r[2, 1] + r[1, 2], r[2, 2] - r[0, 0] - r[1, 1], 0],
            [r[2, 1] - r[1, 2], r[0, 2] - r[2, 0], r[1, 0] - r[0, 1], np.trace(r)],
        ]
    )
    b, c, d, a = np.linalg.eigh(k / 3)[1][:, -1]
    return np.array([b, c, d]) * (-1.0 if a < 0 else 1.0), qfac
