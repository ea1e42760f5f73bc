"""Files and folders that are either whole or not there.

Everything is written to a temporary sibling, flushed to the disk, and given its name by one rename, so a
process that is killed at any moment leaves the earlier content or none, never half of the new one.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_MARK = ".mztmp"
_AT_FDCWD, _RENAME_EXCHANGE = -100, 2


@contextmanager
def atomic_file(path: str | Path) -> Iterator[Path]:
    """Give a temporary sibling to write; on leaving without an error it becomes `path` in one rename.

    Args:
        path: the file to make or replace; its folder must exist. The sibling keeps the suffix, so writers
            that choose a format by it (Pillow) work.

    >>> import tempfile
    >>> target = Path(tempfile.mkdtemp()) / "a.txt"
    >>> with atomic_file(target) as temporary:
    ...     _ = temporary.write_text("whole")
    >>> target.read_text(), len(list(target.parent.iterdir()))
    ('whole', 1)
    """
    path = Path(path)
    temporary = _sibling(path)
    try:
        temporary.touch(exist_ok=False)
        mode = temporary.stat().st_mode  # what the user's umask gives; some writers make files private
        yield temporary
        temporary.chmod(mode)
        sync_file(temporary)
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


@contextmanager
def atomic_folder(path: str | Path) -> Iterator[Path]:
    """Give a temporary sibling folder to fill; on leaving without an error it becomes `path` in one rename.

    An existing folder of that name is exchanged with the new one in one system call where Linux offers it
    (`renameat2`), elsewhere by two renames, and then removed.

    Args:
        path: the folder to make or replace; its parent must exist.
    """
    path = Path(path)
    temporary = _sibling(path)
    temporary.mkdir()
    try:
        yield temporary
        _sync_tree(temporary)
        _take_name(temporary, path)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    sync_folder(path.parent)


def write_text(path: str | Path, text: str) -> None:
    """Write `text` (UTF-8) to `path` atomically."""
    with atomic_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def clear_temporary(folder: str | Path) -> None:
    """Remove what killed writers left in `folder`. Only for a folder that nobody else writes to."""
    for entry in Path(folder).iterdir():
        if entry.name.startswith(".") and _MARK in entry.name:
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry, ignore_errors=True)
            else:
                entry.unlink(missing_ok=True)


def sync_file(path: str | Path) -> None:
    """Flush a file's content to the disk."""
    _sync(path, os.O_RDONLY)


def sync_folder(path: str | Path) -> None:
    """Flush a folder's entries to the disk, where the system lets a folder be opened."""
    if hasattr(os, "O_DIRECTORY"):
        _sync(path, os.O_RDONLY | os.O_DIRECTORY)


def _sync(path: str | Path, flags: int) -> None:
    handle = os.open(path, flags)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _sync_tree(folder: Path) -> None:
    for root, _, files in os.walk(folder):
        for name in files:
            sync_file(Path(root) / name)
        sync_folder(root)


def _sibling(path: Path) -> Path:
    return path.with_name(f".{path.stem}.{os.getpid()}-{time.monotonic_ns()}{_MARK}{path.suffix}")


def _take_name(temporary: Path, path: Path) -> None:
    if not path.exists():
        os.rename(temporary, path)
        return
    if not _exchange(temporary, path):
        aside = _sibling(path)
        os.rename(path, aside)
        os.rename(temporary, path)
        temporary = aside
    shutil.rmtree(temporary, ignore_errors=True)


def _exchange(a: Path, b: Path) -> bool:
    try:
        rename = ctypes.CDLL(None, use_errno=True).renameat2
    except (OSError, AttributeError, TypeError):  # not Linux, or a C library without it
        return False
    return rename(_AT_FDCWD, os.fsencode(a), _AT_FDCWD, os.fsencode(b), _RENAME_EXCHANGE) == 0
