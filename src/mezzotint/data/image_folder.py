"""A folder of image files as a source."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from mezzotint.data.decode import MAX_PIXELS, WHITE, BrokenImage
from mezzotint.data.images import ImageSource
from mezzotint.data.metadata import Entry, beside, read_metadata, words_in_name

__all__ = ["SUFFIXES", "ImageFolder", "read_bytes"]

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm", ".avif", ".jp2")


class ImageFolder(ImageSource):
    """The images under a folder, in the order of their paths, with captions and classes from what stands beside them.

    The caption of an image comes from the first of these that has one: its entry in a metadata file (any .jsonl, or
    metadata.csv: keys "file_name" and "text"; a list of texts is allowed), the .txt file of the same name (one caption
    a line), the words of its file name. Of several captions, training draws one a step.

    The class is the entry's "label", or else, where every image lies in a subfolder, the first folder's name. Files
    whose name starts with a dot are left out.

    Args:
        path: the folder; subfolders are searched.
        captions: "auto" as above; "metadata", "txt" or "name" for that alone; "none".
        labels: "auto" as above; "metadata" or "folder" for that alone; "none".
        background, max_pixels: see `ImageSource`.

    Raises:
        ValueError: for a folder that is missing or has no image, or metadata that cannot be read.
    """

    def __init__(
        self,
        path: str | Path,
        captions: Literal["auto", "metadata", "txt", "name", "none"] = "auto",
        labels: Literal["auto", "metadata", "folder", "none"] = "auto",
        background: Sequence[float] = WHITE,
        max_pixels: int = MAX_PIXELS,
    ) -> None:
        super().__init__(background, max_pixels)
        self.path = Path(path).absolute()
        if captions not in ("auto", "metadata", "txt", "name", "none"):
            raise ValueError(f"captions is {captions!r}; choose auto, metadata, txt, name or none")
        if labels not in ("auto", "metadata", "folder", "none"):
            raise ValueError(f"labels is {labels!r}; choose auto, metadata, folder or none")
        if not self.path.is_dir():
            raise ValueError(f"{self.path}: no such folder; give a folder of images")
        images, tables = _listed(self.path)
        use_tables = "metadata" in (captions, labels) or "auto" in (captions, labels)
        self._entries: dict[str, Entry] = read_metadata(self.path, tables) if use_tables else {}
        self.files = sorted({*images, *self._entries})
        self._captions = captions
        if not self.files:
            raise ValueError(f"{self.path}: holds no image ({', '.join(SUFFIXES)})")
        self.classes, self._labels = _classes(self.files, self._entries, labels)

    def __len__(self) -> int:
        return len(self.files)

    def name(self, index: int) -> str:
        return str(self.path / self.files[index])

    def encoded(self, index: int) -> bytes:
        return read_bytes(self.path / self.files[index])

    def captions(self, index: int) -> tuple[str, ...]:
        file, kind = self.files[index], self._captions
        if kind in ("auto", "metadata") and file in self._entries and self._entries[file].captions:
            return self._entries[file].captions
        if kind in ("auto", "txt") and (found := beside(self.path / file)):
            return found
        return (words_in_name(file),) if kind in ("auto", "name") else ()

    def label(self, index: int) -> int | None:
        return self._labels[index] if self._labels else None

    def identity(self) -> dict[str, Any]:
        """Names, sizes and times of change of the files, hashed."""
        digest = hashlib.sha256()
        for file in self.files:
            try:
                facts = (self.path / file).stat()
                digest.update(f"{file}\0{facts.st_size}\0{facts.st_mtime_ns}\n".encode("utf-8", "surrogateescape"))
            except OSError:
                digest.update(f"{file}\0missing\n".encode("utf-8", "surrogateescape"))
        return {"source": "ImageFolder", "images": len(self), "files": digest.hexdigest(), **_seen_through(self)}


def read_bytes(path: Path) -> bytes:
    """The bytes of an image's file; BrokenImage where it is not there or may not be read."""
    try:
        return path.read_bytes()
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError, PermissionError) as error:
        raise BrokenImage(f"cannot be read ({error.strerror})") from error


def _seen_through(source: ImageSource) -> dict[str, Any]:
    return {"background": list(source.background), "max_pixels": source.max_pixels}


def _listed(root: Path) -> tuple[list[str], list[str]]:
    """Paths of images and of metadata files under a folder; a folder that is linked into itself is entered once."""
    images, tables, seen = [], [], set()
    for folder, below, names in os.walk(root, followlinks=True):
        real = os.path.realpath(folder)
        if real in seen:
            below.clear()
            continue
        seen.add(real)
        below[:] = sorted(name for name in below if not name.startswith("."))
        at = Path(folder).relative_to(root).as_posix()
        for name in sorted(names):
            if name.startswith("."):
                continue
            lower, path = name.lower(), name if at == "." else f"{at}/{name}"
            if lower.endswith(SUFFIXES):
                images.append(path)
            elif lower.endswith(".jsonl") or lower == "metadata.csv":
                tables.append(path)
    return images, tables


def _classes(files: list[str], entries: dict[str, Entry], labels: str) -> tuple[tuple[str, ...], list[int | None]]:
    """Names of the classes, and the class of each file; none where there are no classes."""
    told = {file: entry.label for file, entry in entries.items() if entry.label is not None}
    found: list[int | str | None]
    if told and labels in ("auto", "metadata"):
        found = [told.get(file) for file in files]
        if all(_is_index(label) for label in told.values()):
            indices = [None if label is None else int(label) for label in found]
            return tuple(str(i) for i in range(1 + max(i for i in indices if i is not None))), indices
    elif labels in ("auto", "folder") and all("/" in file for file in files):
        found = [file.split("/", 1)[0] for file in files]
    elif labels == "folder":
        alone = next(file for file in files if "/" not in file)
        raise ValueError(f"labels='folder', but {alone} lies in no subfolder; put every image into its class's folder")
    else:
        return (), []
    names = sorted({str(label) for label in found if label is not None})
    places = {name: place for place, name in enumerate(names)}
    return tuple(names), [None if label is None else places[str(label)] for label in found]


def _is_index(label: int | str) -> bool:
    return (isinstance(label, int) and label >= 0) or (isinstance(label, str) and label.isascii() and label.isdigit())
