from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from mezzotint.data.decode import BrokenImage, decode, header_size


def _bytes(image: Image.Image, format: str = "PNG", **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


def _rgb() -> np.ndarray:
    return np.arange(5 * 7 * 3, dtype=np.uint8).reshape(5, 7, 3)


def _hwc(pixels: torch.Tensor) -> np.ndarray:
    return pixels.permute(1, 2, 0).numpy()


def test_plain_rgb_keeps_every_pixel() -> None:
    assert np.array_equal(_hwc(decode(_bytes(Image.fromarray(_rgb())))), _rgb())


def test_sixteen_bits_are_rounded_not_cut() -> None:
    values = np.array([[0, 128, 129, 257, 32768, 65406, 65407, 65535]], np.uint16)
    expected = np.rint(values / 257).astype(np.uint8)
    pixels = decode(_bytes(Image.fromarray(values)))
    assert np.array_equal(pixels[0].numpy(), expected) and torch.equal(pixels[0], pixels[2])
    assert np.array_equal(decode(_bytes(Image.fromarray(values), "TIFF"))[1].numpy(), expected)


def test_grey_palette_and_bilevel() -> None:
    grey = np.array([[0, 100, 255]], np.uint8)
    for image in (Image.fromarray(grey), Image.fromarray(grey).convert("P")):
        assert np.array_equal(_hwc(decode(_bytes(image))), grey[:, :, None].repeat(3, 2))
    assert decode(_bytes(Image.fromarray(grey > 50)))[0].tolist() == [[0, 255, 255]]


def test_cmyk_without_profile() -> None:
    cmyk = np.zeros((8, 8, 4), np.uint8)
    cmyk[..., 0] = 255  # cyan ink alone: no red
    pixels = decode(_bytes(Image.frombytes("CMYK", (8, 8), cmyk.tobytes()), "TIFF"))
    assert torch.equal(pixels[:, 0, 0], torch.tensor([0, 255, 255], dtype=torch.uint8))
    jpeg = decode(_bytes(Image.frombytes("CMYK", (8, 8), cmyk.tobytes()), "JPEG", quality=100))
    assert (jpeg[:, 4, 4].int() - pixels[:, 4, 4].int()).abs().max() <= 2


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "RGB", "L"])
def test_transparent_pixels_show_the_background(mode: str) -> None:
    rgba = np.array([[[204, 204, 204, 0], [204, 204, 204, 255]]], np.uint8)
    options: dict[str, object] = {}
    if mode in ("RGBA", "LA"):
        image = Image.fromarray(rgba).convert(mode)
    else:  # one colour is the transparent one
        image = Image.fromarray(np.array([[[9, 9, 9], [204, 204, 204]]], np.uint8)).convert(mode)
        options["transparency"] = (9, 9, 9) if mode == "RGB" else image.getpixel((0, 0))
    pixels = decode(_bytes(image, **options), background=(1.0, 0.5, 0.0))
    assert pixels[:, 0, 0].tolist() == [255, 128, 0] and pixels[:, 0, 1].tolist() == [204, 204, 204]


def test_alpha_is_linear() -> None:
    rgba = np.zeros((1, 256, 4), np.uint8)
    rgba[0, :, 3] = np.arange(256)  # black over white
    assert decode(rgba)[0, 0].tolist() == list(range(255, -1, -1))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("format", ["JPEG", "PNG", "TIFF", "WEBP"])
def test_exif_orientation(orientation: int, format: str) -> None:
    smooth = np.stack(np.meshgrid(np.arange(0, 240, 10), np.arange(0, 160, 10)), -1)
    image = Image.fromarray(np.concatenate([smooth, smooth[..., :1]], -1).astype(np.uint8))
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = _bytes(image, format, exif=exif, **({"lossless": True} if format == "WEBP" else {}))
    with Image.open(io.BytesIO(data)) as opened:
        expected = np.asarray(ImageOps.exif_transpose(opened).convert("RGB"))
    assert np.array_equal(_hwc(decode(data)), expected)
    assert header_size(data) == expected.shape[:2] == ((24, 16) if orientation >= 5 else (16, 24))


def test_the_first_of_several_frames() -> None:
    frames = [Image.fromarray(np.full((4, 4, 3), v, np.uint8)) for v in (10, 200)]
    data = _bytes(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert decode(data).unique().tolist() == [10]


def test_floating_point_in_the_unit_interval() -> None:
    values = np.array([[0.0, 0.5, 1.0]], np.float32)
    assert decode(_bytes(Image.fromarray(values), "TIFF"))[0].tolist() == [[0, 128, 255]]
    with pytest.raises(BrokenImage, match="expected values in"):
        decode(_bytes(Image.fromarray(values * 300), "TIFF"))
    with pytest.raises(BrokenImage, match="32-bit"):
        decode(_bytes(Image.fromarray(np.array([[70000]], np.int32)), "TIFF"))


def _bomb(width: int, height: int) -> bytes:
    """A PNG whose header promises what its few bytes do not hold."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "empty"),
        (b"no image, whatever its name says", "no image that can be recognised"),
        (_bytes(Image.fromarray(_rgb()))[:-40], "bytes: "),
        (_bytes(Image.fromarray(_rgb()), "JPEG")[:200], "bytes: "),
        (_bomb(20000, 20000), "more than|exceeds limit"),
        (_bomb(100, 100), "bytes: "),
    ],
    ids=["empty", "text", "cut png", "cut jpeg", "bomb", "no pixels"],
)
def test_broken_bytes_are_told(data: bytes, message: str) -> None:
    with pytest.raises(BrokenImage, match=message):
        decode(data)


def test_a_set_limit_of_pixels() -> None:
    data = _bytes(Image.fromarray(_rgb()))
    for read in (decode, header_size):
        with pytest.raises(BrokenImage, match="7 x 5 pixels are more than 34"):
            read(data, max_pixels=34)
    assert decode(data, max_pixels=35).shape == (3, 5, 7)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
def test_damaged_exif_does_not_spoil_the_pixels() -> None:
    data = _bytes(Image.fromarray(_rgb()), "PNG", exif=b"Exif\0\0II*\0\xff\xff\xff\xff")
    assert np.array_equal(_hwc(decode(data)), _rgb())
