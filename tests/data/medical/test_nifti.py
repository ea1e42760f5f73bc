from __future__ import annotations

import gzip
import math
import struct
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

from mezzotint.data.medical import Volume, Window, read_nifti, write_nifti

F64 = torch.float64
TYPES = {"uint8": 2, "int16": 4, "int32": 8, "float32": 16, "float64": 64, "int8": 256, "uint16": 512, "uint32": 768,
         "int64": 1024, "uint64": 1280}  # fmt: skip


def oblique(spacing: tuple[float, float, float] = (0.9, 1.1, 3.0), mirrored: bool = False) -> torch.Tensor:
    """(i, j, k) -> mm, a rotation about two axes, columns scaled."""
    a, b = 0.4, -0.7
    x = np.array([[1, 0, 0], [0, math.cos(a), -math.sin(a)], [0, math.sin(a), math.cos(a)]])
    z = np.array([[math.cos(b), -math.sin(b), 0], [math.sin(b), math.cos(b), 0], [0, 0, 1]])
    matrix = np.eye(4)
    matrix[:3, :3] = x @ z @ np.diag([1, 1, -1 if mirrored else 1]) * np.array(spacing)
    matrix[:3, 3] = [-12.5, 30.25, 7.0]
    return torch.from_numpy(matrix)


def raw_file(stored: np.ndarray, order: str = "<", **fields: object) -> bytes:
    """One file by hand, bytes put at the offsets the format states; stored is (w, h, d[, c]), written column-major."""
    head = bytearray(348)

    def put(offset: int, form: str, *values: float) -> None:
        struct.pack_into(order + form, head, offset, *values)

    dims = [stored.ndim, *stored.shape] + [1] * (7 - stored.ndim)
    put(0, "i", 348)
    put(40, "8h", *dims)
    put(70, "hh", TYPES[stored.dtype.name], 8 * stored.dtype.itemsize)
    put(76, "8f", *fields.get("pixdim", [1, 0.9, 1.1, 3.0, 1, 1, 1, 1]))  # type: ignore[misc]
    put(108, "f", 352)
    put(112, "ff", *fields.get("scaling", (0, 0)))  # type: ignore[misc]
    put(123, "B", fields.get("units", 2))
    put(252, "hh", *fields.get("codes", (0, 1)))  # type: ignore[misc]
    put(256, "6f", *fields.get("quatern", [0] * 6))  # type: ignore[misc]
    put(280, "12f", *fields.get("srow", [0.9, 0, 0, -5, 0, 1.1, 0, 2, 0, 0, 3.0, 1]))  # type: ignore[misc]
    head[344:348] = fields.get("magic", b"n+1\0")  # type: ignore[assignment]
    return bytes(head) + bytes(4) + stored.astype(stored.dtype.newbyteorder(order)).tobytes(order="F")


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("kind", ["int16", "float32", "uint8", "int8", "uint16", "float64", "int32"])
def test_bytes_by_hand_are_read(tmp_path: Path, order: str, packed: bool, kind: str) -> None:
    stored = (np.arange(2 * 3 * 4) * 5).reshape(2, 3, 4).astype(kind)  # w 2, h 3, d 4
    raw = raw_file(stored, order, scaling=(0.5, -3.0))
    path = tmp_path / ("a.nii.gz" if packed else "a.nii")
    path.write_bytes(gzip.compress(raw) if packed else raw)
    volume = read_nifti(path, unit="HU")
    assert volume.size == (4, 3, 2) and volume.unit == "HU"
    for i, j, k in [(0, 0, 0), (1, 2, 3), (1, 0, 2), (0, 2, 1)]:
        assert float(volume.data[0, k, j, i]) == 0.5 * float(stored[i, j, k]) - 3
    want = torch.tensor([[0.9, 0, 0, -5], [0, 1.1, 0, 2], [0, 0, 3, 1], [0, 0, 0, 1]], dtype=F64)
    torch.testing.assert_close(volume.affine, want, atol=1e-6, rtol=0)
    assert volume.spacing == pytest.approx((3.0, 1.1, 0.9), abs=1e-6)


def test_a_slope_of_zero_means_no_scaling(tmp_path: Path) -> None:
    stored = np.arange(8, dtype=np.int16).reshape(2, 2, 2)
    for scaling in ((0.0, 100.0), (math.nan, 5.0)):
        (tmp_path / "a.nii").write_bytes(raw_file(stored, scaling=scaling))
        assert read_nifti(tmp_path / "a.nii").data[0].permute(2, 1, 0).tolist() == stored.tolist()


@pytest.mark.parametrize("qfac", [1.0, -1.0])
def test_a_file_with_qform_alone_has_its_rotation(tmp_path: Path, qfac: float) -> None:
    """90 degrees about z: quaternion (cos 45, 0, 0, sin 45); x -> y, y -> -x; qfac turns the third column."""
    half = math.sqrt(0.5)
    raw = raw_file(
        np.zeros((2, 2, 2), np.uint8),
        codes=(1, 0),
        pixdim=[qfac, 2, 3, 4, 1, 1, 1, 1],
        quatern=[0, 0, half, 10, 20, 30],
    )
    (tmp_path / "a.nii").write_bytes(raw)
    affine = read_nifti(tmp_path / "a.nii").affine
    want = torch.tensor([[0, -3, 0, 10], [2, 0, 0, 20], [0, 0, 4 * qfac, 30], [0, 0, 0, 1]], dtype=F64)
    torch.testing.assert_close(affine, want, atol=1e-6, rtol=0)
    assert math.copysign(1, float(torch.linalg.det(affine))) == qfac


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("order", "<>")
def test_round_trip_of_an_oblique_volume(tmp_path: Path, mirrored: bool, order: str) -> None:
    volume = Volume(torch.randn(2, 3, 4, 5, generator=torch.Generator().manual_seed(0)), oblique(mirrored=mirrored))
    back = read_nifti(write_nifti(tmp_path / "a.nii.gz", volume, byteorder=order))  # type: ignore[arg-type]
    assert torch.equal(back.data, volume.data)
    torch.testing.assert_close(back.affine, volume.affine, atol=1e-5, rtol=0)
    # and by qform alone: the quaternion that was written is the rotation
    assert back.header is not None and back.header.codes == (1, 1)
    back.header.fields["sform_code"] = 0
    torch.testing.assert_close(back.header.affine(), volume.affine, atol=2e-5, rtol=0)


def test_header_bytes_lie_where_the_format_says(tmp_path: Path) -> None:
    raw = write_nifti(tmp_path / "a.nii", Volume(torch.zeros(3, 4, 5, 6), oblique())).read_bytes()
    assert struct.unpack_from("<i", raw, 0) == (348,) and raw[344:348] == b"n+1\0" and len(raw) == 352 + 4 * 360
    assert struct.unpack_from("<8h", raw, 40) == (4, 6, 5, 4, 3, 1, 1, 1)
    assert struct.unpack_from("<2h", raw, 70) == (16, 32) and struct.unpack_from("<f", raw, 108) == (352,)
    assert struct.unpack_from("<3f", raw, 80) == pytest.approx((0.9, 1.1, 3.0), abs=1e-6)
    assert struct.unpack_from("<4f", raw, 280)[3] == -12.5


def test_written_like_another_it_keeps_affine_codes_and_header(tmp_path: Path) -> None:
    half = math.sqrt(0.5)
    raw = bytearray(
        raw_file(np.arange(8, dtype=np.int16).reshape(2, 2, 2), ">", codes=(2, 4), quatern=[0, 0, half, 1, 2, 3])
    )
    raw[148:153] = b"mine\0"
    (tmp_path / "a.nii").write_bytes(bytes(raw))
    like = read_nifti(tmp_path / "a.nii")
    mask = like.data[0] > 3
    back = read_nifti(write_nifti(tmp_path / "mask.nii.gz", mask, like))
    assert torch.equal(back.affine, like.affine) and back.header is not None and back.header.codes == (2, 4)
    assert back.stored == "uint8" and torch.equal(back.data[0] > 0.5, mask)
    written = gzip.decompress((tmp_path / "mask.nii.gz").read_bytes())
    assert written[148:152] == b"mine"
    assert struct.unpack_from("<6f", written, 256) == struct.unpack_from(">6f", raw, 256)
    # a part of it lies elsewhere, and both forms say where
    part = like.crop(d=slice(1, 2))
    back = read_nifti(write_nifti(tmp_path / "part.nii", part))
    torch.testing.assert_close(back.affine, part.affine, atol=1e-6, rtol=0)
    assert back.header is not None and back.header.codes == (2, 4)


def test_a_mask_is_never_scaled_and_a_mapped_volume_goes_back_to_its_unit(tmp_path: Path) -> None:
    ct = Volume(torch.linspace(-900, 900, 24).view(1, 2, 3, 4), oblique(), "HU").to_model(Window())
    labels = torch.tensor([0, 1, 7, 300]).repeat(6).view(2, 3, 4)
    assert torch.equal(read_nifti(write_nifti(tmp_path / "m.nii", labels, ct)).data[0].long(), labels)
    back = read_nifti(write_nifti(tmp_path / "ct.nii", ct, dtype="int16", scaling=(0.5, -1024.0)))
    torch.testing.assert_close(back.data, torch.linspace(-900, 900, 24).view(1, 2, 3, 4), atol=0.2501, rtol=0)


def test_units_of_micrometres_and_pairs_of_files(tmp_path: Path) -> None:
    stored = np.arange(8, dtype=np.int16).reshape(2, 2, 2)
    raw = bytearray(raw_file(stored, units=3, magic=b"ni1\0"))
    raw[108:112] = struct.pack("<f", 0)
    (tmp_path / "a.hdr").write_bytes(bytes(raw[:348]))
    with pytest.raises(ValueError, match="other half"):
        read_nifti(tmp_path / "a.hdr")
    (tmp_path / "a.img.gz").write_bytes(gzip.compress(bytes(raw[352:])))
    for name in ("a.hdr", "a.img.gz"):
        volume = read_nifti(tmp_path / name)
        assert volume.spacing == pytest.approx((3e-3, 1.1e-3, 0.9e-3)) and float(volume.data[0, 0, 0, 1]) == 4


def test_without_orientation_pixdim_is_taken_and_said(tmp_path: Path) -> None:
    (tmp_path / "a.nii").write_bytes(raw_file(np.zeros((2, 2, 2), np.uint8), codes=(0, 0)))
    with pytest.warns(UserWarning, match="no orientation"):
        affine = read_nifti(tmp_path / "a.nii").affine
    torch.testing.assert_close(affine.diag(), torch.tensor([0.9, 1.1, 3.0, 1.0], dtype=F64), atol=1e-6, rtol=0)
    raw = raw_file(np.zeros((2, 2, 2), np.uint8), codes=(1, 1), quatern=[1, 0, 0, 0, 0, 0])
    (tmp_path / "a.nii").write_bytes(raw)
    with pytest.warns(UserWarning, match="disagree"):
        assert float(read_nifti(tmp_path / "a.nii").affine[1, 1]) == pytest.approx(1.1)


def test_corrupt_files_are_refused_in_one_line(tmp_path: Path) -> None:
    whole = raw_file(np.arange(64, dtype=np.int16).reshape(4, 4, 4))
    packed = bytearray(gzip.compress(whole))
    packed[-8] ^= 255  # the checksum
    huge = bytearray(whole)
    struct.pack_into("<8h", huge, 40, 7, *[32767] * 7)
    colours, complex_, bits, analyze, second = (bytearray(whole) for _ in range(5))
    struct.pack_into("<hh", colours, 70, 128, 24)
    struct.pack_into("<hh", complex_, 70, 32, 64)
    struct.pack_into("<hh", bits, 70, 4, 8)
    analyze[344:348] = bytes(4)
    struct.pack_into("<i", second, 0, 540)
    cases = {
        "cut off": whole[:-1], "no NIfTI": b"x" * 400, "of 348": b"xy", "after": bytes(huge),
        "ended": gzip.compress(whole)[:-20],
        "CRC": bytes(packed), "RGB": bytes(colours), "complex64": bytes(complex_), "bitpix": bytes(bits),
        "Analyze": bytes(analyze), "NIfTI-2": bytes(second),
    }  # fmt: skip
    for words, raw in cases.items():
        (tmp_path / "bad.nii").write_bytes(raw)
        with pytest.raises(ValueError, match=words) as told:
            read_nifti(tmp_path / "bad.nii")
        assert str(told.value).startswith("bad.nii: ") and "\n" not in str(told.value)
    with pytest.raises(FileNotFoundError):
        read_nifti(tmp_path / "none.nii")


def test_what_cannot_be_written(tmp_path: Path) -> None:
    volume = Volume(torch.full((1, 2, 2, 2), 40000.0), oblique())
    for words, arguments in {
        "int16": (volume, None, {"dtype": "int16"}),
        "like": (torch.zeros(2, 2, 2), None, {}),
        "do not lie": (torch.zeros(2, 2, 3), volume, {}),
        "slope": (volume, None, {"scaling": (0.0, 1.0)}),
        "dtype": (volume, None, {"dtype": "complex64"}),
        "NaN": (torch.full((2, 2, 2), math.nan), volume, {"dtype": "int16"}),
    }.items():
        with pytest.raises(ValueError, match=words):
            write_nifti(tmp_path / "a.nii", arguments[0], arguments[1], **arguments[2])  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="ends in"):
        write_nifti(tmp_path / "a.png", volume)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("codes", [(1, 0), (0, 2), (1, 4)])
@pytest.mark.parametrize("kind", ["int16", "float32", "uint16", "float64"])
def test_parity_with_nibabel(tmp_path: Path, codes: tuple[int, int], kind: str) -> None:
    nib = pytest.importorskip("nibabel", reason="nibabel is not installed (extra [medical])")
    stored = np.random.default_rng(0).integers(0, 1000, (4, 3, 2, 2)).astype(kind)
    image = nib.Nifti1Image(stored, None)
    image.header.set_qform(oblique(mirrored=True).numpy(), code=codes[0])
    image.header.set_sform(oblique((1.0, 2.0, 2.5)).numpy(), code=codes[1])
    image.header.set_slope_inter(0.25, -7)
    nib.save(image, tmp_path / "theirs.nii.gz")
    volume, theirs = read_nifti(tmp_path / "theirs.nii.gz"), nib.load(tmp_path / "theirs.nii.gz")
    torch.testing.assert_close(volume.affine, torch.from_numpy(np.array(theirs.affine)), atol=1e-6, rtol=0)
    values = torch.from_numpy(theirs.get_fdata(dtype=np.float32)).permute(3, 2, 1, 0)
    torch.testing.assert_close(volume.data, values, atol=1e-4, rtol=1e-6)
    # and what is written is read by it
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ours = nib.load(write_nifti(tmp_path / "ours.nii.gz", volume))
        np.testing.assert_allclose(ours.affine, theirs.affine, atol=1e-6)
        np.testing.assert_array_equal(ours.get_fdata(dtype=np.float32), volume.data.permute(3, 2, 1, 0).numpy())
        assert (int(ours.header["qform_code"]), int(ours.header["sform_code"])) == codes
        np.testing.assert_allclose(ours.header.get_qform(), theirs.header.get_qform(), atol=1e-6)
