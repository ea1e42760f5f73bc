"""Photographs of unusual kinds: turned TIFFs, profiles of deep files, colour spaces that are not RGB, broken files."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image, ImageCms, ImageOps

from mezzotint.io.photo import Photo, read_photo, write_photo

DRAW = np.random.default_rng(0)


def deep(*shape: int) -> np.ndarray:
    return DRAW.integers(0, 65536, shape, dtype=np.uint16)


@pytest.mark.parametrize("suffix", [".png", ".tif", ".webp", ".jpg"])
@pytest.mark.parametrize("turned", range(10))
def test_a_file_is_turned_once_whoever_turns_it(tmp_path, turned, suffix):
    path, tags = tmp_path / f"a{suffix}", Image.Exif()
    tags[0x0112] = turned  # 0 and 9 mean nothing
    Image.fromarray(DRAW.integers(0, 256, (5, 7, 3), dtype=np.uint8)).save(path, exif=tags)
    with Image.open(path) as image:
        upright = np.asarray(ImageOps.exif_transpose(image))
    np.testing.assert_array_equal(read_photo(path).values(), upright)


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_the_profile_stays(tmp_path, dtype, suffix):
    if dtype == "uint16":
        pytest.importorskip("imagecodecs" if suffix == ".png" else "tifffile")
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    photo = Photo(torch.rand(3, 4, 5) * 2 - 1, None, dtype, 0.0, float(np.iinfo(dtype).max), profile)
    path = tmp_path / f"a{suffix}"
    write_photo(path, photo)
    back = read_photo(path)
    assert back.profile == profile and back.dtype == dtype
    np.testing.assert_array_equal(back.values(), photo.values())


@pytest.mark.parametrize(
    ("photometric", "shape", "named"),
    [("separated", (5, 7, 4), "SEPARATED"), ("cielab", (5, 7, 3), "CIELAB"), ("ycbcr", (5, 7, 3), "YCBCR")],
)
def test_deep_colours_that_are_not_rgb_are_refused(tmp_path, photometric, shape, named):
    tifffile = pytest.importorskip("tifffile")
    tifffile.imwrite(tmp_path / "a.tif", deep(*shape), photometric=photometric)
    with pytest.raises(ValueError, match=f"{named}.*grey or RGB"):
        read_photo(tmp_path / "a.tif")


def test_colours_multiplied_by_their_alpha_are_refused(tmp_path):
    tifffile = pytest.importorskip("tifffile")
    tifffile.imwrite(tmp_path / "a.tif", deep(5, 7, 4), photometric="rgb", extrasamples=["assocalpha"])
    with pytest.raises(ValueError, match="multiplied by its alpha"):
        read_photo(tmp_path / "a.tif")


def test_what_is_no_image_is_said_without_addresses(tmp_path):
    (tmp_path / "a.png").write_bytes(b"")
    with pytest.raises(ValueError, match=r"cannot read .*a\.png as an image: .*no format") as told:
        read_photo(tmp_path / "a.png")
    assert " at 0x" not in str(told.value)


def test_values_that_are_no_numbers_are_not_written(tmp_path):
    photo = Photo(torch.zeros(3, 2, 2))
    broken = replace(photo, image=torch.full((3, 2, 2), float("nan")))
    with pytest.raises(ValueError, match="NaN or infinity"):
        write_photo(tmp_path / "a.png", broken)
    assert not list(tmp_path.iterdir())
