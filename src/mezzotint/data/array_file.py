"""NumPy files as a source: mapped into memory, one image read at a time."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mezzotint.data.decode import MAX_PIXELS, WHITE
from mezzotint.data.images import ImageSource

__all__ = ["ArrayFile"]


class ArrayFile(ImageSource):
    """Images of one size in a .npy file (mapped), or in a .npz file (read whole, since it is an archive).

    Channels stand last, (n, h, w), (n, h, w, 1 | 3 | 4), or second, (n, 3, h, w); where both can be read (h, w of 1 to
    4 pixels), last is taken. A .npz has the images under "images", "arr_0" or as its only array, class indices under
    "labels", texts under "captions". Arrays of Python objects are refused: they are pickles.

    Args:
        path: the file.
        captions: a text an image, in place of the file's.
        labels: a class index an image, in place of the file's.
        background, max_pixels: see `ImageSource`.

    Raises:
        ValueError: for a file that is missing or unreadable, another dtype than uint8, other shapes or lengths.
    """

    def __init__(
        self,
        path: str | Path,
        captions: Sequence[str] | None = None,
        labels: Sequence[int] | None = None,
        background: Sequence[float] = WHITE,
        max_pixels: int = MAX_PIXELS,
    ) -> None:
        super().__init__(background, max_pixels)
        self.path = Path(path).absolute()
        self._images, told = _read(self.path)
        shape = self._images.shape
        last = self._images.ndim == 3 or (self._images.ndim == 4 and shape[3] in (1, 3, 4))
        if self._images.dtype != np.uint8 or not (last or (self._images.ndim == 4 and shape[1] == 3)) or 0 in shape:
            raise ValueError(
                f"{self.path}: an array {shape} of {self._images.dtype}; expected uint8 images (n, h, w), "
                "(n, h, w, 1 | 3 | 4) or (n, 3, h, w), at least one"
            )
        self._last = last
        words = told.get("captions") if captions is None else captions
        indices = told.get("labels") if labels is None else np.asarray(labels)
        self._words = None if words is None else [str(text) for text in words]
        if indices is not None and (indices.ndim != 1 or indices.dtype.kind not in "iu" or (indices < 0).any()):
            raise ValueError(f"{self.path}: labels are {indices.shape} of {indices.dtype}; expected (n,) indices >= 0")
        self._labels = indices
        for kind, found in (("captions", self._words), ("labels", self._labels)):
            if found is not None and len(found) != len(self._images):
                raise ValueError(f"{self.path}: {len(self._images)} images came with {len(found)} {kind}")
        self.classes = () if indices is None else tuple(str(k) for k in range(int(indices.max()) + 1))

    def __len__(self) -> int:
        return len(self._images)

    def __getstate__(self) -> dict[str, Any]:
        mapped = isinstance(self._images, np.memmap)
        return {**self.__dict__, **({"_images": None} if mapped else {})}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        if self._images is None:  # map the file again: a map would travel as a copy
            self._images, _ = _read(self.path)

    def name(self, index: int) -> str:
        return f"{self.path}, image {index}"

    def encoded(self, index: int) -> np.ndarray:
        image = np.asarray(self._images[index])
        return image if self._last else image.transpose(1, 2, 0)

    def captions(self, index: int) -> tuple[str, ...]:
        return () if self._words is None else (self._words[index],)

    def label(self, index: int) -> int | None:
        return None if self._labels is None else int(self._labels[index])

    def identity(self) -> dict[str, Any]:
        """Name, size and time of change of the file."""
        facts = self.path.stat()
        seen = {"background": list(self.background), "max_pixels": self.max_pixels}
        file = f"{self.path.name} {facts.st_size} {facts.st_mtime_ns}"
        return {"source": "ArrayFile", "images": len(self), "file": file, **seen}


def _read(path: Path) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    try:
        if path.suffix.lower() != ".npz":
            return np.load(path, mmap_mode="r", allow_pickle=False), {}
        with np.load(path, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
    except FileNotFoundError as error:
        raise ValueError(f"{path}: no such file") from error
    except Exception as error:  # zipfile and numpy raise OSError, ValueError, BadZipFile, KeyError, EOFError
        raise ValueError(f"{path}: not a readable NumPy file ({error})") from error
    name = next((name for name in ("images", "arr_0") if name in arrays), None)
    if name is None and len(arrays) == 1:
        name = next(iter(arrays))
    if name is None:
        raise ValueError(f"{path}: which array is the images? It has {', '.join(arrays) or 'none'}; call it 'images'")
    return arrays[name], arrays
