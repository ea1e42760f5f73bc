"""Photographs come out as they went in: depth, range, alpha, orientation."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from mezzotint.io.photo import Photo, check_photo_path, read_photo, write_photo


def written(path, values):
    """A file of the values, by the deep encoders or by Pillow."""
    if values.dtype == np.uint8:
        Image.fromarray(values).save(path)
    elif path.suffix == ".png":
        path.write_bytes(pytest.importorskip("imagecodecs").png_encode(values))
    else:
        colour = values.ndim == 3 and values.shape[2] >= 3
        extra = ["unassalpha"] if values.ndim == 3 and values.shape[2] in (2, 4) else None
        pytest.importorskip("tifffile").imwrite(
            path, values, photometric="rgb" if colour else "minisblack", extrasamples=extra
        )
    return path


def read_back(path):
    if path.suffix == ".png" and path.read_bytes()[24] == 16:
        return pytest.importorskip("imagecodecs").png_decode(path.read_bytes())
    if path.suffix == ".tif":
        return pytest.importorskip("tifffile").imread(path)
    return np.asarray(Image.open(path))


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize(("suffix", "dtype"), [(".png", "uint8"), (".png", "uint16"), (".tif", "uint16")])
def test_every_value_survives(tmp_path, suffix, dtype, channels):
    top = np.iinfo(dtype).max
    every = np.arange(65536).reshape(256, 256)
    values = np.stack([(every + 7 * c) % (top + 1) for c in range(channels)], axis=2).astype(dtype)
    values = values[:, :, 0] if channels == 1 else values
    photo = read_photo(written(tmp_path / f"in{suffix}", values))
    assert photo.dtype == dtype and photo.image.shape[0] == min(channels, 3)
    assert float(photo.image.min()) == -1 and abs(float(photo.image.max()) - 1) < 1e-6
    assert (photo.alpha is not None) == (channels == 4)
    write_photo(tmp_path / f"out{suffix}", photo.with_image(photo.image))
    np.testing.assert_array_equal(read_back(tmp_path / f"out{suffix}"), values)


def test_floats_keep_their_range(tmp_path):
    pytest.importorskip("tifffile")
    values = np.linspace(-1000, 3000, 120, dtype=np.float32).reshape(10, 12)
    photo = read_photo(written(tmp_path / "in.tif", values))
    assert (photo.dtype, photo.low, photo.high) == ("float32", -1000, 3000)
    write_photo(tmp_path / "out.tif", photo)
    np.testing.assert_allclose(read_back(tmp_path / "out.tif"), values, atol=1e-3)


@pytest.mark.parametrize("turned", range(1, 9))
def test_orientation_is_applied_once(tmp_path, turned):
    values = np.random.default_rng(0).integers(0, 255, (5, 7, 3), dtype=np.uint8)
    exif = Image.Exif()
    exif[0x0112] = turned
    Image.fromarray(values).save(tmp_path / "a.png", exif=exif)
    expected = np.asarray(ImageOps.exif_transpose(Image.open(tmp_path / "a.png")))
    photo = read_photo(tmp_path / "a.png")
    np.testing.assert_array_equal(photo.values(), expected)
    write_photo(tmp_path / "b.png", photo)
    np.testing.assert_array_equal(read_photo(tmp_path / "b.png").values(), expected)


def test_palettes_cmyk_and_profiles(tmp_path):
    values = np.random.default_rng(0).integers(0, 255, (6, 6, 3), dtype=np.uint8)
    picture = Image.fromarray(values)
    picture.quantize(8).save(tmp_path / "p.png")
    assert read_photo(tmp_path / "p.png").image.shape == (3, 6, 6)
    picture.convert("CMYK").save(tmp_path / "c.tif")
    assert read_photo(tmp_path / "c.tif").image.shape == (3, 6, 6)
    picture.save(tmp_path / "i.png", icc_profile=b"profile")
    write_photo(tmp_path / "o.png", read_photo(tmp_path / "i.png"))
    assert Image.open(tmp_path / "o.png").info["icc_profile"] == b"profile"


def test_values_outside_are_clipped_and_another_size_drops_the_alpha():
    photo = Photo(torch.tensor([[[-3.0, 3.0]]]), alpha=np.zeros((1, 2), np.uint8))
    assert photo.values().flatten().tolist() == [0, 255]
    assert photo.with_image(torch.zeros(1, 4, 4)).alpha is None


@pytest.mark.parametrize(
    ("name", "photo", "message"),
    [
        ("a.gif", Photo(torch.zeros(3, 2, 2)), "unknown suffix '.gif'"),
        ("a.jpg", Photo(torch.zeros(3, 2, 2), dtype="uint16", high=65535.0), "cannot hold uint16 values"),
        ("a.png", Photo(torch.zeros(3, 2, 2), dtype="float32"), "cannot hold floats; write TIFF"),
        ("a.jpg", Photo(torch.zeros(3, 2, 2), np.zeros((2, 2), np.uint8)), "cannot hold transparency"),
    ],
)
def test_what_a_format_cannot_hold_is_refused_before_work(name, photo, message):
    with pytest.raises(ValueError, match=message):
        check_photo_path(name, photo)


def test_broken_files_are_named_in_one_line(tmp_path):
    bad = tmp_path / "a.png"
    with pytest.raises(ValueError, match=r"cannot read .*a.png: No such file"):
        read_photo(bad)
    for data in (b"", b"hello", b"\x89PNG\r\n\x1a\n" + bytes(17), b"II*\0" + bytes(20)):
        bad.write_bytes(data)
        with pytest.raises(ValueError, match=r"cannot read .*a.png as an image") as caught:
            read_photo(bad)
        assert len(str(caught.value).splitlines()) == 1


def test_a_failed_write_leaves_the_earlier_file(tmp_path, monkeypatch):
    path = tmp_path / "a.png"
    photo = Photo(torch.zeros(3, 2, 2))
    write_photo(path, photo)
    before = path.read_bytes()
    monkeypatch.setattr(Image.Image, "save", lambda *a, **k: (_ for _ in ()).throw(OSError(28, "No space left")))
    with pytest.raises(ValueError, match=r"cannot write .*a.png: No space left"):
        write_photo(path, photo)
    assert path.read_bytes() == before and [p.name for p in tmp_path.iterdir()] == ["a.png"]
