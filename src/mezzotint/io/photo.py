"""A photograph in and out with nothing lost: 8 or 16 bits or floats, grey or colour, its alpha channel, upright."""

from __future__ import annotations

import io
import struct
import zlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from mezzotint.io.atomic import atomic_file

__all__ = ["Photo", "check_photo_path", "read_photo", "write_photo"]

_PNG, _TIFFS = b"\x89PNG\r\n\x1a\n", (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_DEEP = {".png", ".tif", ".tiff"}
_SUFFIXES = {*_DEEP, ".jpg", ".jpeg", ".webp"}
_NO_ALPHA = {".jpg", ".jpeg"}
_ORIENTATION = 0x0112
_ROWS = 256  # at once
# EXIF orientation -> (transpose, flip rows, flip columns), in this order
_TURNS = {
    1: (False, False, False),
    2: (False, False, True),
    3: (False, True, True),
    4: (False, True, False),
    5: (True, False, False),
    6: (True, False, True),
    7: (True, True, True),
    8: (True, True, False),
}


@dataclass(frozen=True)
class Photo:
    """An image as a model takes it, and what is needed to write one like it.

    Args:
        image: (c, h, w) float32 in [-1, 1], c = 1 (grey) or 3 (RGB, the file's own values: no profile is applied).
        alpha: (h, w) as in the file (uint8, uint16 or float32), or None.
        dtype: of the file's values: "uint8", "uint16" or "float32".
        low, high: the values that became -1 and 1: 0 and the largest integer, or the extremes of a float image.
        profile: the ICC profile, handed on.
    """

    image: Float[Tensor, "c h w"]
    alpha: np.ndarray | None = None
    dtype: str = "uint8"
    low: float = 0.0
    high: float = 255.0
    profile: bytes | None = None

    def with_image(self, image: Float[Tensor, "c h w"]) -> Photo:
        """Another image with this one's range, depth and profile, and its alpha where the size is the same."""
        same = self.alpha is not None and self.alpha.shape == tuple(image.shape[1:])
        return replace(self, image=image, alpha=self.alpha if same else None)

    def values(self) -> np.ndarray:
        """(h, w, c) in the file's type and range; what lies outside is clipped, but for floats."""
        channels, height, width = self.image.shape
        made = np.empty((height, width, channels), self.dtype)
        for top in range(0, height, _ROWS):  # so that no whole copies in floats are made
            x = self.image[:, top : top + _ROWS].detach().cpu().float()
            x = ((x + 1) * ((self.high - self.low) / 2) + self.low).permute(1, 2, 0).numpy()
            whole = self.dtype != "float32"
            made[top : top + _ROWS] = np.clip(np.rint(x), self.low, self.high) if whole else x
        return made


def read_photo(path: str | Path) -> Photo:
    """Read a photograph, upright.

    PNG, TIFF, JPEG, WebP and what else Pillow reads; 16 bits and floats from PNG and TIFF by the extra [photo]. A
    palette becomes colours, CMYK is converted without a profile, of several pages the first is taken.

    Args:
        path: the file.

    Raises:
        ValueError: for a file that cannot be read; says why.
        ImportError: where the extra is needed.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "a.png"
    >>> write_photo(path, Photo(torch.full((3, 2, 2), 1.0)))
    >>> read_photo(path).image.min().item()
    1.0
    """
    from PIL import UnidentifiedImageError

    path = Path(path)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror or error}") from error
    try:
        if data.startswith(_PNG) and len(data) > 24 and data[24] == 16:
            values, turned, profile = _codecs(path).png_decode(data), *_tags(data)
        elif data.startswith(_TIFFS) and not _plain(data):
            values, turned, profile = _tiff(data, path)
        else:
            values, turned, profile = _pillow(data)
    except ImportError:
        raise
    except UnidentifiedImageError as error:
        raise ValueError(f"cannot read {path} as an image: it has no format that Pillow knows") from error
    except Exception as error:  # decoders raise what they like
        raise ValueError(f"cannot read {path} as an image: {error}") from error
    del data
    return _photo(_upright(values, turned), profile, path)


def check_photo_path(path: str | Path, photo: Photo) -> Path:
    """The path, if such a photograph can be written there.

    Raises:
        ValueError: for a suffix that is unknown or cannot hold this photograph.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in _SUFFIXES:
        raise ValueError(
            f"cannot write {path.name}: unknown suffix {suffix!r}; take one of {', '.join(sorted(_SUFFIXES))}"
        )
    if photo.dtype != "uint8" and suffix not in _DEEP:
        raise ValueError(f"{path.name} cannot hold {photo.dtype} values; write PNG (16 bits) or TIFF")
    if photo.dtype == "float32" and suffix == ".png":
        raise ValueError(f"{path.name} cannot hold floats; write TIFF")
    if photo.alpha is not None and suffix in _NO_ALPHA:
        raise ValueError(f"{path.name} cannot hold transparency; write PNG, TIFF or WebP")
    return path


def write_photo(path: str | Path, photo: Photo) -> None:
    """Write a photograph in its own depth, with its alpha and profile; the file is whole or not there.

    Args:
        path: .png, .tif, .jpg or .webp (the last two lossy, 8 bits).
        photo: what to write.

    Raises:
        ValueError: for a format that cannot hold it, or a place that cannot be written.
        ImportError: where the extra [photo] is needed.
    """
    path = check_photo_path(path, photo)
    if not all(bool(torch.isfinite(rows).all()) for rows in photo.image.split(_ROWS, 1)):
        raise ValueError(f"cannot write {path}: the image holds NaN or infinity")
    values, alpha = photo.values(), photo.alpha
    if alpha is not None:
        values = np.concatenate([values, alpha[:, :, None].astype(values.dtype)], axis=2)
    squeezed = np.ascontiguousarray(values[:, :, 0] if values.shape[2] == 1 else values)
    try:
        with atomic_file(path) as temporary:
            if photo.dtype != "uint8" and path.suffix.lower() == ".png":
                temporary.write_bytes(_with_profile(_codecs(path).png_encode(squeezed), photo.profile))
            elif photo.dtype != "uint8":
                _write_tiff(temporary, squeezed, photo, path)
            else:
                _write_pillow(temporary, squeezed, photo)
    except OSError as error:
        raise ValueError(f"cannot write {path}: {error.strerror or error}") from error


def _photo(values: np.ndarray, profile: bytes | None, path: Path) -> Photo:
    if values.ndim == 2:
        values = values[:, :, None]
    if values.ndim != 3 or values.shape[2] not in (1, 2, 3, 4):
        raise ValueError(f"{path} holds an array {values.shape}; expected (h, w) or (h, w, 1 to 4)")
    alpha = np.ascontiguousarray(values[:, :, -1]) if values.shape[2] in (2, 4) else None
    colours = values[:, :, : values.shape[2] - (alpha is not None)]
    if colours.dtype in (np.uint8, np.uint16):
        dtype, low, high = str(colours.dtype), 0.0, float(np.iinfo(colours.dtype).max)
    elif colours.dtype.kind == "f":
        dtype, low, high = "float32", float(colours.min()), float(colours.max())
        if not (np.isfinite(low) and np.isfinite(high)):
            raise ValueError(f"{path} holds NaN or infinity")
        high = high if high > low else low + 1
    else:
        raise ValueError(f"{path} holds {colours.dtype} values; expected 8 or 16 bits without sign, or floats")
    image = torch.empty(colours.shape[2], *colours.shape[:2])
    for channel, plane in enumerate(image):
        plane.copy_(torch.from_numpy(np.ascontiguousarray(colours[:, :, channel], np.float32)))
    return Photo(image.sub_(low).mul_(2 / (high - low)).sub_(1), alpha, dtype, low, high, profile)


def _upright(values: np.ndarray, turned: int) -> np.ndarray:
    transpose, rows, columns = _TURNS.get(turned, _TURNS[1])
    if transpose:
        values = values.swapaxes(0, 1)
    return values[:: -1 if rows else 1, :: -1 if columns else 1]


def _pillow(data: bytes) -> tuple[np.ndarray, int, bytes | None]:
    from PIL import Image

    with Image.open(io.BytesIO(data)) as image:
        profile = image.info.get("icc_profile")
        image.load()  # which turns some files (TIFF) upright itself, and then takes the tag away
        turned = int(image.getexif().get(_ORIENTATION, 1))
        if image.mode.startswith("I;16"):
            return np.asarray(image).astype(np.uint16), turned, profile
        if image.mode in ("F", "I"):
            raise ValueError(f"Pillow's mode {image.mode} has no known white; write it as a 16-bit or float TIFF")
        clear = image.mode in ("LA", "PA", "RGBA", "La", "RGBa") or "transparency" in image.info
        grey = image.mode in ("1", "L", "LA", "La")
        return (
            np.asarray(image.convert(("LA" if clear else "L") if grey else ("RGBA" if clear else "RGB"))),
            turned,
            profile,
        )


def _tags(data: bytes) -> tuple[int, bytes | None]:
    """Orientation and profile, of which the deep decoders say nothing."""
    from PIL import Image

    with Image.open(io.BytesIO(data)) as image:
        return int(image.getexif().get(_ORIENTATION, 1)), image.info.get("icc_profile")


def _plain(data: bytes) -> bool:
    """Whether Pillow reads a TIFF as it is: 8 bits or less."""
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(io.BytesIO(data)) as image:
            return image.mode in ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK") and max(image.tag_v2.get(258, (1,))) <= 8  # type: ignore[attr-defined]
    except UnidentifiedImageError:
        return False


def _tiff(data: bytes, path: Path) -> tuple[np.ndarray, int, bytes | None]:
    with _tifffile(path).TiffFile(io.BytesIO(data)) as file:
        page: Any = file.pages[0]
        tags = page.tags
        if page.photometric not in (0, 1, 2):
            raise ValueError(f"its colours are {page.photometric.name}; expected grey or RGB: convert it")
        if 1 in page.extrasamples:
            raise ValueError("its colour is multiplied by its alpha; expected one that is not: convert it")
        values = page.asarray()
        if page.planarconfig == 2 and values.ndim == 3:
            values = np.moveaxis(values, 0, 2)
        if page.photometric == 0:  # white is zero
            values = np.iinfo(values.dtype).max - values
        turned = int(tags[_ORIENTATION].value) if _ORIENTATION in tags else 1
        return values, turned, tags[34675].value if 34675 in tags else None


def _with_profile(data: bytes, profile: bytes | None) -> bytes:
    """A PNG file with a profile put behind its header (IHDR, which ends at byte 33)."""
    if not profile:
        return data
    body = b"iCCP" + b"ICC profile\0\0" + zlib.compress(profile)
    return data[:33] + struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body)) + data[33:]


def _write_tiff(temporary: Path, values: np.ndarray, photo: Photo, path: Path) -> None:
    _tifffile(path).imwrite(
        temporary,
        values,
        photometric="rgb" if photo.image.shape[0] == 3 else "minisblack",
        planarconfig="contig" if values.ndim == 3 else None,
        extrasamples=None if photo.alpha is None else ["unassalpha"],
        compression="zlib",
        predictor=photo.dtype != "float32",
        iccprofile=photo.profile,
        metadata=None,
    )


def _write_pillow(temporary: Path, values: np.ndarray, photo: Photo) -> None:
    from PIL import Image

    options: dict[str, Any] = {"icc_profile": photo.profile} if photo.profile else {}
    if temporary.suffix.lower() in (".jpg", ".jpeg", ".webp"):
        options["quality"] = 95
    Image.fromarray(values).save(temporary, **options)


def _codecs(path: Path) -> Any:
    try:
        import imagecodecs  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise ImportError(f"{path.name} has 16 bits a channel, which needs: pip install 'mezzotint[photo]'") from error
    return imagecodecs


def _tifffile(path: Path) -> Any:
    try:
        import tifffile  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise ImportError(f"{path.name} is a deep TIFF, which needs: pip install 'mezzotint[photo]'") from error
    return tifffile
