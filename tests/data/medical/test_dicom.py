from __future__ import annotations

import builtins
import math
import random
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mezzotint.data.medical import Volume, Window, read_dicom, read_nifti, write_dicom_series, write_nifti

pydicom = pytest.importorskip("pydicom", reason="pydicom is not installed (extra [medical])")
pytest.importorskip("pydicom.encaps")
F64 = torch.float64


def oblique(shear: float = 0.0) -> torch.Tensor:
    """Columns of an oblique RAS+ affine; with shear the slices slide, as under a tilted gantry."""
    a, b = 0.3, 0.5
    x = np.array([[1, 0, 0], [0, math.cos(a), -math.sin(a)], [0, math.sin(a), math.cos(a)]])
    y = np.array([[math.cos(b), 0, math.sin(b)], [0, 1, 0], [-math.sin(b), 0, math.cos(b)]])
    matrix = np.eye(4)
    matrix[:3, :3] = x @ y @ np.diag([0.75, 0.8, 2.5])
    matrix[:3, 2] += shear * matrix[:3, 1]
    matrix[:3, 3] = [-20.5, 14.25, -63.0]
    return torch.from_numpy(matrix)


def volume(shear: float = 0.0) -> Volume:
    data = torch.randint(-1000, 2000, (1, 5, 6, 7), generator=torch.Generator().manual_seed(0)).float()
    return Volume(data, oblique(shear), "HU")


def edited(path: Path, change: Callable[[Any], None]) -> None:
    header = pydicom.dcmread(path)
    change(header)
    header.save_as(path, enforce_file_format=True)


def corners(v: Volume) -> torch.Tensor:
    return v.to_mm(torch.cartesian_prod(*(torch.tensor([0.0, n - 1.0]) for n in v.size)))


@pytest.mark.parametrize("shear", [0.0, 0.4])
def test_an_oblique_series_in_shuffled_order_lies_where_it_was(tmp_path: Path, shear: float) -> None:
    v = volume(shear)
    files = write_dicom_series(tmp_path / "s", v)
    random.Random(3).shuffle(files)
    for source in (tmp_path / "s", files, list(reversed(files))):
        back = read_dicom(source)
        assert back.unit == "HU" and back.stored == "int16" and torch.equal(back.data, v.data)
        assert float((corners(back) - corners(v)).abs().max()) < 1e-4


def test_places_by_the_standards_own_equation(tmp_path: Path) -> None:
    """Part 3, C.7.6.2.1.1: P = S + X delta_i i + Y delta_j j in LPS; RAS is (-x, -y, z), applied once."""
    files = write_dicom_series(tmp_path / "s", volume())
    back = read_dicom(tmp_path / "s")
    for k, path in enumerate(files):
        h = pydicom.dcmread(path)
        s, f = np.array(h.ImagePositionPatient, float), np.array(h.ImageOrientationPatient, float)
        between_rows, between_columns = map(float, h.PixelSpacing)
        for row, column in ((0, 0), (5, 0), (2, 6)):
            lps = s + f[:3] * between_columns * column + f[3:] * between_rows * row
            got = back.to_mm(torch.tensor([[k, row, column]]).double())[0].numpy()
            np.testing.assert_allclose(got, lps * [-1, -1, 1], atol=1e-4)
            assert float(back.data[0, k, row, column]) == float(h.pixel_array[row, column]) * 1.0 - 1024


def test_a_stack_written_from_the_other_end_is_the_same_volume(tmp_path: Path) -> None:
    """Slices against their normal (a mirrored affine): the reader sorts along it, and each voxel keeps its place."""
    v = volume()
    write_dicom_series(tmp_path / "s", v.flip(0))
    back = read_dicom(tmp_path / "s")
    assert torch.equal(back.data, v.data) and torch.allclose(back.affine, v.affine, atol=1e-6)


def test_from_dicom_to_nifti_and_back_to_the_same_places(tmp_path: Path) -> None:
    write_dicom_series(tmp_path / "s", volume())
    ct = read_dicom(tmp_path / "s")
    back = read_nifti(write_nifti(tmp_path / "a.nii.gz", ct.to_model(Window())))
    assert float((corners(back) - corners(ct)).abs().max()) < 1e-4
    torch.testing.assert_close(back.data, ct.data.clamp(-1000, 1000), atol=1e-3, rtol=0)


def test_an_mr_series_keeps_its_values_to_one_step(tmp_path: Path) -> None:
    v = Volume(torch.rand(1, 3, 4, 5, generator=torch.Generator().manual_seed(0)) * 700, oblique())
    write_dicom_series(tmp_path / "s", v, "MR")
    back = read_dicom(tmp_path / "s")
    assert back.unit == "" and float((back.data - v.data).abs().max()) <= 0.51 * 700 / 4095


def test_rescaling_is_each_slices_own_and_zero_is_refused(tmp_path: Path) -> None:
    v = volume()
    files = write_dicom_series(tmp_path / "s", v)

    def doubled(h: Any) -> None:
        h.RescaleSlope, h.RescaleIntercept = 2, -7

    edited(files[1], doubled)
    back = read_dicom(tmp_path / "s")
    assert torch.equal(back.data[0, 1], 2 * (v.data[0, 1] + 1024) - 7) and torch.equal(back.data[0, 0], v.data[0, 0])
    edited(files[1], lambda h: setattr(h, "RescaleSlope", 0))
    with pytest.raises(ValueError, match="RescaleSlope is 0"):
        read_dicom(tmp_path / "s")
    raw = read_dicom(tmp_path / "s", rescale=False)
    assert raw.unit == "" and torch.equal(raw.data, v.data + 1024)


@pytest.mark.parametrize("signed", [False, True])
def test_twelve_bits_in_sixteen_with_overlay_bits_above(tmp_path: Path, signed: bool) -> None:
    values = np.array([[-2048, -1, 0], [5, 2047, 77]]) if signed else np.array([[0, 1, 4095], [5, 2048, 77]])
    v = Volume(torch.zeros(1, 1, 2, 3), torch.eye(4, dtype=F64))
    (path,) = write_dicom_series(tmp_path / "s", v, "MR")

    def packed(h: Any) -> None:
        h.BitsStored, h.HighBit, h.PixelRepresentation = 12, 11, int(signed)
        h.RescaleSlope, h.RescaleIntercept = 1, 0
        h.PixelData = ((values & 0xFFF) | 0x9000).astype("<u2").tobytes()

    edited(path, packed)
    assert read_dicom(path).data[0, 0].tolist() == values.tolist()


def test_monochrome1_is_inverted_but_quantities_are_not(tmp_path: Path) -> None:
    v = Volume(torch.tensor([[0.0, 100.0, 4095.0]]).view(1, 1, 1, 3), torch.eye(4, dtype=F64))
    (path,) = write_dicom_series(tmp_path / "mr", v, "MR", slope=1.0)

    def inverted(h: Any) -> None:
        h.PhotometricInterpretation, h.BitsStored, h.HighBit = "MONOCHROME1", 12, 11

    edited(path, inverted)
    assert read_dicom(path).data.flatten().tolist() == [4095, 3995, 0]
    (path,) = write_dicom_series(tmp_path / "ct", v, "CT")
    edited(path, lambda h: setattr(h, "PhotometricInterpretation", "MONOCHROME1"))
    assert read_dicom(path).data.flatten().tolist() == [0, 100, 4095]


def test_padding_becomes_air_or_what_is_asked(tmp_path: Path) -> None:
    v = Volume(torch.tensor([-1024.0, 40.0, -1024.0, 3.0]).view(1, 1, 2, 2), torch.eye(4, dtype=F64), "HU")
    (path,) = write_dicom_series(tmp_path / "s", v)

    def padded(h: Any) -> None:
        h.add_new("PixelPaddingValue", "SS", -2000)
        h.PixelData = np.array([-2000, 1064, -2000, 1027], "<i2").tobytes()

    edited(path, padded)
    assert read_dicom(path).data.flatten().tolist() == [-1000, 40, -1000, 3]
    assert read_dicom(path, fill=-1.0).data.flatten().tolist() == [-1, 40, -1, 3]


def test_duplicate_missing_and_uneven_slices_are_listed(tmp_path: Path) -> None:
    files = write_dicom_series(tmp_path / "s", volume())
    twin = tmp_path / "s" / "twin.dcm"
    twin.write_bytes(files[2].read_bytes())
    with pytest.raises(ValueError, match="1 slices lie where another lies") as told:
        read_dicom(tmp_path / "s")
    assert "twin.dcm" in str(told.value) and files[2].name in str(told.value)
    with pytest.raises(ValueError, match=f"missing: 1 between {files[1].name} .* and {files[3].name}"):
        read_dicom([f for f in files if f != files[2]])

    def moved(by: float) -> Callable[[Any], None]:
        def change(h: Any) -> None:
            normal = np.cross(*np.array(h.ImageOrientationPatient, float).reshape(2, 3))
            h.ImagePositionPatient = (np.array(h.ImagePositionPatient, float) + by * normal).round(6).tolist()

        return change

    edited(files[2], moved(0.6))
    with pytest.raises(ValueError, match="unevenly spaced"):
        read_dicom(files)


def test_slices_that_are_no_stack(tmp_path: Path) -> None:
    def changed(change: Callable[[Any], None], name: str) -> list[Path]:
        files = write_dicom_series(tmp_path / name, volume())
        edited(files[2], change)
        return files

    def aside(h: Any) -> None:  # along the row's own direction: the normal distance does not change
        at = np.array(h.ImagePositionPatient, float) + np.array(h.ImageOrientationPatient[:3], float)
        h.ImagePositionPatient = at.round(6).tolist()

    for name, (words, change) in {
        "aside": ("off the line", aside),
        "turned": ("directions", lambda h: setattr(h, "ImageOrientationPatient", [1, 0, 0, 0, 1, 0])),
        "spaced": ("PixelSpacing", lambda h: setattr(h, "PixelSpacing", [1, 1])),
        "unplaced": ("has no ImagePositionPatient", lambda h: delattr(h, "ImagePositionPatient")),
        "frames": ("2 frames", lambda h: setattr(h, "NumberOfFrames", 2)),
        "colour": ("is RGB", lambda h: setattr(h, "PhotometricInterpretation", "RGB")),
        "lut": ("ModalityLUTSequence", lambda h: setattr(h, "ModalityLUTSequence", [pydicom.Dataset()])),
        "short": ("corrupt", lambda h: setattr(h, "PixelData", h.PixelData[:-2])),
    }.items():
        files = changed(change, name)
        with pytest.raises(ValueError, match=words) as told:
            read_dicom(tmp_path / name)
        assert files[2].name in str(told.value) and "\n" not in str(told.value)


def test_two_series_are_told_apart(tmp_path: Path) -> None:
    files = write_dicom_series(tmp_path / "a", volume()) + write_dicom_series(tmp_path / "b", volume().flip(2), "CT")
    with pytest.raises(ValueError, match=r"2 series \(0: CT, 5 files; 1: CT, 5 files\)"):
        read_dicom(files)
    both = [read_dicom(files, series=i) for i in (0, 1)]
    assert sum(torch.equal(v.data, volume().data) for v in both) == 1
    with pytest.raises(ValueError, match="expected 0 to 1"):
        read_dicom(files, series=2)


def test_what_is_no_dicom(tmp_path: Path) -> None:
    folder = tmp_path / "s"
    files = write_dicom_series(folder, volume())
    (folder / "README.txt").write_text("notes")
    (folder / "DICOMDIR").write_bytes(b"x")
    assert read_dicom(folder).size == (5, 6, 7)
    (folder / "bad.dcm").write_bytes(b"x" * 400)
    with pytest.raises(ValueError, match="bad.dcm is no DICOM"):
        read_dicom(folder)
    (folder / "bad.dcm").write_bytes(files[0].read_bytes()[:900])
    with pytest.raises(ValueError, match="bad.dcm is corrupt"):
        read_dicom(folder)
    with pytest.raises(ValueError, match="no DICOM image"):
        (tmp_path / "empty").mkdir()
        read_dicom(tmp_path / "empty")
    with pytest.raises(FileNotFoundError):
        read_dicom(tmp_path / "none")


def test_a_compression_without_its_decoder_is_named(tmp_path: Path) -> None:
    if find_spec("pylibjpeg"):
        pytest.skip("a decoder is installed")
    (path,) = write_dicom_series(tmp_path / "s", volume().crop(d=slice(0, 1)))

    def compressed(h: Any) -> None:
        h.file_meta.TransferSyntaxUID = pydicom.uid.HTJ2KLossless
        h.PixelData = pydicom.encaps.encapsulate([b"\xff\x4f\xff\x51" + bytes(20)])
        h["PixelData"].VR, h["PixelData"].is_undefined_length = "OB", True

    edited(path, compressed)
    with pytest.raises(ValueError, match=r"compressed as High-Throughput JPEG 2000 .* pip install pylibjpeg"):
        read_dicom(path)


def test_run_lengths_need_no_decoder(tmp_path: Path) -> None:
    v = volume()
    files = write_dicom_series(tmp_path / "s", v)
    for path in files:
        edited(path, lambda h: h.compress(pydicom.uid.RLELossless, generate_instance_uid=False))
    assert torch.equal(read_dicom(files).data, v.data)


def test_an_x_ray_without_a_place_is_read_with_a_warning(tmp_path: Path) -> None:
    (path,) = write_dicom_series(tmp_path / "s", volume().crop(d=slice(0, 1)))

    def xray(h: Any) -> None:
        del h.ImagePositionPatient, h.ImageOrientationPatient, h.PixelSpacing, h.SliceThickness
        h.ImagerPixelSpacing = [0.2, 0.1]

    edited(path, xray)
    with pytest.warns(UserWarning, match="no place"):
        assert read_dicom(path).spacing == pytest.approx((1.0, 0.2, 0.1))


def test_nothing_of_the_patient_is_kept(tmp_path: Path) -> None:
    files = write_dicom_series(tmp_path / "s", volume())
    for path in files:
        edited(path, lambda h: setattr(h, "PatientName", "Doe^Jane"))
    out = write_nifti(tmp_path / "a.nii", read_dicom(files))
    assert "Jane" not in repr(read_dicom(files)) and b"Jane" not in out.read_bytes()


def test_a_series_is_the_same_bytes_again_and_plainly_synthetic(tmp_path: Path) -> None:
    a, b = (write_dicom_series(tmp_path / name, volume()) for name in "ab")
    assert [f.name for f in a] == [f.name for f in b]
    assert all(x.read_bytes() == y.read_bytes() for x, y in zip(a, b, strict=True))
    header = pydicom.dcmread(a[0])
    assert str(header.PatientName) == "SYNTHETIC^PHANTOM" and header.ImageType[0] == "DERIVED"
    assert sorted(f.name for f in a) != [f.name for f in a]  # names do not follow the slices
    for words, v, arguments in (
        ("exists", volume(), {}),
        ("channel", volume().with_data(torch.zeros(2, 5, 6, 7)), {}),
        ("16 bits", volume().with_data(volume().data * 100), {}),
    ):
        with pytest.raises(ValueError, match=words):
            write_dicom_series(tmp_path / ("a" if words == "exists" else "new"), v, **arguments)
    assert not (tmp_path / "new").exists()


def test_without_pydicom_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def lost(name: str, *rest: Any, **named: Any) -> Any:
        if name.startswith("pydicom"):
            raise ImportError(name)
        return real(name, *rest, **named)

    monkeypatch.setattr(builtins, "__import__", lost)
    for call in (lambda: read_dicom(tmp_path), lambda: write_dicom_series(tmp_path / "s", volume())):
        with pytest.raises(ImportError, match=r"mezzotint\[medical\]"):
            call()
