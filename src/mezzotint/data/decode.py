"""One encoded image to pixels: every mode that files come in, turned upright, on a known background."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

__all__ = ["MAX_PIXELS", "BrokenImage", "decode", "header_size"]

MAX_PIXELS = 89_478_485  # a quarter of a gigabyte as 24 bits: more is taken for a decompression bomb
WHITE = (1.0, 1.0, 1.0)
_ORIENTATION = 0x0112
_ALPHA = ("LA", "La", "PA", "RGBA", "RGBa")


class BrokenImage(ValueError):
    """An image that cannot be read; the message says why."""


def decode(
    data: bytes | Any, background: Sequence[float] = WHITE, max_pixels: int = MAX_PIXELS
) -> UInt8[Tensor, "3 h w"]:
    """Decode one image to upright RGB.

        pixel = round(background + alpha (colour - background))

    16 bits a channel are rounded to 8 (v / 257), grey and palette images become RGB, CMYK is converted without a
    colour profile (profiles are not applied to any image), the EXIF orientation is applied, and of several frames the
    first is taken.

    Args:
        data: the bytes of a file, a Pillow image, or an array (h, w), (h, w, 1), (h, w, 3) or (h, w, 4) of uint8.
        background: red, green, blue in [0, 1] behind transparent pixels.
        max_pixels: larger images are refused before they are decoded.

    Returns:
        (3, h, w) uint8, a view with channels last in memory.

    Raises:
        BrokenImage: for bytes that are no image, truncated, too large, or of a kind that has no known white.

    >>> decode(np.array([[[0, 0, 0, 0], [0, 0, 0, 255]]], dtype=np.uint8))[0].tolist()
    [[255, 0]]
    """
    if isinstance(data, np.ndarray):
        return _from_array(data, background)
    with _told(data):
        image = _opened(data, max_pixels)
        image.load()
        turned = _orientation(image)
        pixels = _pixels(image, background)
    return _upright(torch.from_numpy(pixels).permute(2, 0, 1), turned)


def header_size(data: bytes | Any, max_pixels: int = MAX_PIXELS) -> tuple[int, int]:
    """(height, width) of the upright image, from its header alone.

    The orientation of a PNG whose EXIF data follow its pixels is not seen.

    Args:
        data: as for `decode`.
        max_pixels: as for `decode`.

    Raises:
        BrokenImage: for bytes that are no image, or one too large.
    """
    if isinstance(data, np.ndarray):
        return int(data.shape[0]), int(data.shape[1])
    with _told(data):
        image = _opened(data, max_pixels)
        lazy = image.format == "PNG" and "exif" not in image.info  # there getexif() would decode the pixels
        swapped = not lazy and _orientation(image) >= 5
        if image.format == "TIFF" and swapped:  # some versions of Pillow turn a TIFF's size around as they open it
            tags: Any = image
            swapped = (image.height, image.width) == (tags.tag_v2[257], tags.tag_v2[256])
    return (image.width, image.height) if swapped else (image.height, image.width)


@contextmanager
def _told(data: Any) -> Iterator[None]:
    """Whatever a reader of image files raises is said in one way."""
    try:
        yield
    except (BrokenImage, MemoryError, ImportError):
        raise
    except Exception as error:  # plugins raise OSError, SyntaxError, ValueError, struct.error, zlib.error, ...
        size = f"{len(data)} bytes: " if isinstance(data, bytes) else ""
        kind = type(error).__name__
        cause = "no image that can be recognised" if kind == "UnidentifiedImageError" else f"{error or kind}"
        raise BrokenImage(size + cause) from error


def _opened(data: Any, max_pixels: int) -> Any:
    from PIL import Image

    if isinstance(data, (bytes, bytearray, memoryview)):
        if not len(data):
            raise BrokenImage("the file is empty")
        image = Image.open(io.BytesIO(data))
    else:
        image = data
    if image.width * image.height > max_pixels:
        raise BrokenImage(
            f"{image.width} x {image.height} pixels are more than {max_pixels}; raise max_pixels if this is meant"
        )
    return image


def _orientation(image: Any) -> int:
    try:
        found = image.getexif().get(_ORIENTATION, 1)
    except MemoryError:
        raise
    except Exception:  # damaged EXIF data do not spoil the pixels
        return 1
    return found if isinstance(found, int) and 1 <= found <= 8 else 1


def _pixels(image: Any, background: Sequence[float]) -> np.ndarray:
    mode = image.mode
    if mode.startswith("I") or mode == "F":
        grey = _grey(np.asarray(image), mode)
        return np.repeat(grey[:, :, None], 3, axis=2)
    if mode in _ALPHA or "transparency" in image.info:
        if mode == "La":
            image = image.convert("LA")
        return _composite(np.asarray(image.convert("RGBA")), background)
    return np.array(image.convert("RGB"))


def _grey(values: np.ndarray, mode: str) -> np.ndarray:
    """16 bits, or floating point in [0, 1], to 8 bits."""
    low, high = values.min(), values.max()
    if mode == "F":
        if not (low >= 0 and high <= 1):
            raise BrokenImage(f"floating-point pixels from {low} to {high}; expected values in [0, 1]")
        return np.rint(values * 255).astype(np.uint8)
    if low < 0 or high > 65535:
        raise BrokenImage(f"32-bit pixels from {low} to {high}; expected at most 16 bits")
    return ((values.astype(np.int64) * 255 + 32767) // 65535).astype(np.uint8)


def _composite(rgba: np.ndarray, background: Sequence[float]) -> np.ndarray:
    behind = np.array(background, np.float32) * 255
    alpha = rgba[:, :, 3:].astype(np.float32) / 255
    return np.rint(behind + alpha * (rgba[:, :, :3] - behind)).astype(np.uint8)


def _from_array(array: np.ndarray, background: Sequence[float]) -> Tensor:
    if array.dtype != np.uint8 or array.ndim not in (2, 3) or not array.size:
        raise BrokenImage(f"an array {array.shape} of {array.dtype}; expected (h, w) or (h, w, 1 | 3 | 4) of uint8")
    if array.ndim == 2:
        array = array[:, :, None]
    if array.shape[2] not in (1, 3, 4):
        raise BrokenImage(f"an array with {array.shape[2]} channels last; expected 1, 3 or 4")
    if array.shape[2] == 4:
        return torch.from_numpy(_composite(array, background)).permute(2, 0, 1)
    return torch.from_numpy(np.repeat(array, 3, 2) if array.shape[2] == 1 else array.copy()).permute(2, 0, 1)


def _upright(pixels: Tensor, orientation: int) -> Tensor:
    """Undo an EXIF orientation of 1 to 8."""
    if orientation >= 5:
        pixels = pixels.transpose(1, 2)
    axes = {2: (2,), 3: (1, 2), 4: (1,), 6: (2,), 7: (1, 2), 8: (1,)}.get(orientation, ())
    return pixels.flip(axes) if axes else pixels
