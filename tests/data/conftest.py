from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image


def picture(index: int, height: int = 12, width: int = 16) -> np.ndarray:
    """A smooth image (h, w, 3) of its own colours, so that any exchange, turn or mirror of images is seen."""
    y, x = np.mgrid[0:height, 0:width]
    channels = [(7 * index + 10 * x) % 256, (31 * index + 9 * y) % 256, (5 * index + 3 * (x + y)) % 256]
    return np.stack(channels, -1).astype(np.uint8)


def encoded(array: np.ndarray, format: str = "PNG", **options: object) -> bytes:
    file = io.BytesIO()
    Image.fromarray(array).save(file, format, **options)
    return file.getvalue()


@pytest.fixture
def folder(tmp_path: Path) -> Callable[..., Path]:
    """Make a folder of `count` PNG files 000.png ...; `broken` ones get another content."""

    def make(
        count: int = 10, broken: dict[int, bytes] | None = None, sizes: list[tuple[int, int]] | None = None
    ) -> Path:
        path = tmp_path / "images"
        path.mkdir()
        for i in range(count):
            size = (12, 16) if sizes is None else sizes[i]
            content = (broken or {}).get(i, encoded(picture(i, *size)))
            (path / f"{i:03d}.png").write_bytes(content)
        return path

    return make
