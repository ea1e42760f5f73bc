"""A source from a path alone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mezzotint.data.array_file import ArrayFile
from mezzotint.data.decode import WHITE
from mezzotint.data.image_folder import ImageFolder
from mezzotint.data.images import ImageSource
from mezzotint.data.parquet import ParquetSource
from mezzotint.data.webdataset import WebDatasetSource

__all__ = ["open_source"]


def open_source(path: str | Path, background: Sequence[float] = WHITE) -> ImageSource:
    """The images at a path: what kind of source it is follows from what is there.

    A .parquet file, .tar shard (or a pattern "x-{00..09}.tar") or .npy / .npz file by its name; a folder by what lies
    in it: Parquet files, else shards, else image files.

    Args:
        path: a file or a folder.
        background: red, green, blue in [0, 1] behind transparent pixels.

    Raises:
        ValueError: for a path that is none of these, and whatever the source says of it.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if path.is_dir():
        if any(path.rglob("*.parquet")):
            return ParquetSource(path, background=background)
        if any(path.glob("*.tar")):
            return WebDatasetSource(path, background=background)
        return ImageFolder(path, background=background)
    if suffix == ".parquet":
        return ParquetSource(path, background=background)
    if suffix == ".tar":
        return WebDatasetSource(path, background=background)
    if suffix in (".npy", ".npz"):
        return ArrayFile(path, background=background)
    if not path.exists():
        raise ValueError(f"{path}: no such file or folder; give a folder of images, or .parquet, .tar, .npy, .npz")
    raise ValueError(f"{path}: no source of images; give a folder of images, or .parquet, .tar, .npy, .npz")
