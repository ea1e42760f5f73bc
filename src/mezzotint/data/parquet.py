"""Parquet files as a source: row groups are read when one of their images is asked for."""

from __future__ import annotations

import bisect
import hashlib
import json
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mezzotint.data.decode import MAX_PIXELS, WHITE, BrokenImage
from mezzotint.data.image_folder import read_bytes
from mezzotint.data.images import ImageSource, words_of

__all__ = ["ParquetSource"]

_IMAGES = ("image", "img", "jpg", "png", "image_path", "path", "file_name")
_CAPTIONS = ("text", "caption", "captions", "prompt")
_LABELS = ("label", "labels", "class")


class ParquetSource(ImageSource):
    """Images in one or several Parquet files, in the order of the files' names and rows.

    The image column holds bytes, paths relative to the file, or the pair {bytes, path} of the HF format. Files are
    mapped into memory; whole row groups are decoded and the latest kept, up to `memory` bytes a process: shuffled
    reading wants small row groups (`pyarrow.parquet.write_table(..., row_group_size=64)`).

    Args:
        paths: a file, a folder (its .parquet files, subfolders too), or a list of files.
        image, caption, label: names of the columns; None looks for the usual names ("image", "text", "label", ...).
            A label column of text gives classes in order of their names.
        memory: bytes of decoded row groups kept.
        background, max_pixels: see `ImageSource`.

    Raises:
        ValueError: for files that are missing, unreadable or empty, or columns that are not there.
        ImportError: without pyarrow (extra "train").
    """

    def __init__(
        self,
        paths: str | Path | Sequence[str | Path],
        image: str | None = None,
        caption: str | None = None,
        label: str | None = None,
        memory: int = 256 << 20,
        background: Sequence[float] = WHITE,
        max_pixels: int = MAX_PIXELS,
    ) -> None:
        super().__init__(background, max_pixels)
        self.files, self.memory = _files(paths), memory
        self._groups: list[tuple[int, int]] = []  # (file, row group) of each row group
        self._starts: list[int] = []  # its first image
        self._count, self._digest = 0, hashlib.sha256()
        names: list[str] = []
        for place, file in enumerate(self.files):
            parquet = _open(file)
            names = names or parquet.schema_arrow.names
            if missing := [name for name in names if name not in parquet.schema_arrow.names]:
                raise ValueError(f"{file}: has no column {missing[0]!r}, which {self.files[0]} has")
            for group in range(parquet.metadata.num_row_groups):
                rows = parquet.metadata.row_group(group).num_rows
                if rows:
                    self._groups.append((place, group))
                    self._starts.append(self._count)
                    self._count += rows
            facts = file.stat()
            self._digest.update(f"{file.name}\0{facts.st_size}\0{facts.st_mtime_ns}\n".encode())
        self._identity = self._digest.hexdigest()
        del self._digest  # a hash cannot be sent to another process
        if not self._count:
            raise ValueError(f"{self.files[0]}: holds no row")
        self._image = _column(image, _IMAGES, names, self.files[0], "image")
        self._caption = _column(caption, _CAPTIONS, names, self.files[0], None)
        self._label = _column(label, _LABELS, names, self.files[0], None)
        self._kept: OrderedDict[tuple[int, str], tuple[list[Any], int]] = OrderedDict()
        self.classes, self._places = self._read_classes()

    def __len__(self) -> int:
        return self._count

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_kept": OrderedDict()}

    def name(self, index: int) -> str:
        file, _ = self._groups[self._place(index)[0]]
        first = next(self._starts[k] for k, (f, _) in enumerate(self._groups) if f == file)
        return f"{self.files[file]}, row {index - first}"

    def encoded(self, index: int) -> bytes:
        value = self._value(index, self._image)
        if isinstance(value, dict):
            value = value.get("bytes") or value.get("path")
        if isinstance(value, bytes):
            return value
        if not isinstance(value, str) or not value:
            raise BrokenImage(f"its image is {value!r}, neither bytes nor a path")
        folder = self.files[self._groups[self._place(index)[0]][0]].parent.resolve()
        path = (folder / value).resolve()
        if not path.is_relative_to(folder):
            raise BrokenImage(f"its path {value!r} leads out of {folder}")
        return read_bytes(path)

    def captions(self, index: int) -> tuple[str, ...]:
        return () if self._caption is None else words_of(self._value(index, self._caption), self.name(index))

    def label(self, index: int) -> int | None:
        value = None if self._label is None else self._value(index, self._label)
        if value is None:
            return None
        return self._places[value] if isinstance(value, str) else int(value)

    def identity(self) -> dict[str, Any]:
        """Names, sizes and times of change of the files, hashed, and the image column."""
        seen = {"background": list(self.background), "max_pixels": self.max_pixels}
        return {"source": "ParquetSource", "images": len(self), "files": self._identity, "column": self._image, **seen}

    def _place(self, index: int) -> tuple[int, int]:
        group = bisect.bisect_right(self._starts, index) - 1
        return group, index - self._starts[group]

    def _value(self, index: int, column: str) -> Any:
        group, row = self._place(self._row(index))
        return self._column(group, column)[row]

    def _column(self, group: int, column: str) -> list[Any]:
        """One column of one row group; the latest ones are kept."""
        key = (group, column)
        if key in self._kept:
            self._kept.move_to_end(key)
            return self._kept[key][0]
        file, number = self._groups[group]
        try:
            array = _open(self.files[file]).read_row_group(number, columns=[column], use_threads=False).column(0)
            values, size = array.to_pylist(), array.nbytes
        except (OSError, ValueError) as error:
            raise ValueError(f"{self.files[file]}, row group {number}: damaged ({error})") from error
        while self._kept and size + sum(kept for _, kept in self._kept.values()) > self.memory:
            self._kept.popitem(last=False)
        self._kept[key] = values, size
        return values

    def _read_classes(self) -> tuple[tuple[str, ...], dict[str, int]]:
        """Class names: the texts of the label column, the names in the HF header, or the numbers."""
        if self._label is None:
            return (), {}
        schema = _open(self.files[0]).schema_arrow
        header = json.loads((schema.metadata or {}).get(b"huggingface", b"{}") or b"{}")
        feature = header.get("info", {}).get("features", {}).get(self._label, {})
        if isinstance(feature, dict) and isinstance(feature.get("names"), list):
            return tuple(str(name) for name in feature["names"]), {}
        found = set()
        for file in self.files:
            parquet = _open(file)
            for group in range(parquet.metadata.num_row_groups):
                found |= set(
                    parquet.read_row_group(group, columns=[self._label], use_threads=False).column(0).to_pylist()
                )
        found.discard(None)
        if found and all(isinstance(label, str) for label in found):
            names = tuple(sorted(found))
            return names, {name: place for place, name in enumerate(names)}
        if not all(isinstance(label, int) and label >= 0 for label in found):
            raise ValueError(f"{self.files[0]}: column {self._label!r} holds neither class indices nor names alone")
        return tuple(str(place) for place in range(max(found, default=-1) + 1)), {}


def _files(paths: str | Path | Sequence[str | Path]) -> list[Path]:
    given = [paths] if isinstance(paths, (str, Path)) else list(paths)
    found: list[Path] = []
    for path in map(Path, given):
        below = sorted(p for p in path.rglob("*.parquet") if not p.name.startswith(".")) if path.is_dir() else [path]
        found += [file.absolute() for file in below]
    if not found:
        raise ValueError(f"{paths}: holds no .parquet file")
    return found


def _open(file: Path) -> Any:
    try:
        import pyarrow.parquet as pq
    except ImportError as error:
        raise ImportError("Parquet files need pyarrow: pip install 'mezzotint[train]'") from error
    try:
        return pq.ParquetFile(file, memory_map=True)
    except FileNotFoundError as error:
        raise ValueError(f"{file}: no such file") from error
    except (OSError, ValueError) as error:
        raise ValueError(f"{file}: not a readable Parquet file ({error})") from error


def _column(given: str | None, usual: tuple[str, ...], names: list[str], file: Path, needed: str | None) -> Any:
    if given is not None:
        if given not in names:
            raise ValueError(f"{file}: has no column {given!r}; its columns are {', '.join(names)}")
        return given
    found = next((name for name in usual if name in names), None)
    if found is None and needed is not None:
        raise ValueError(f"{file}: which column is the {needed}? Its columns are {', '.join(names)}; say {needed}=...")
    return found
