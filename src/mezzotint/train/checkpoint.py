"""The checkpoint folder: whole or absent, verified before it is trusted, the last few kept.

A checkpoint is a folder `step-00001000` written under a temporary name. Its files are flushed first, then
MANIFEST.json with the size and SHA-256 of each, then the folder; one rename gives it its name. What is inside
is the caller's matter (`mezzotint.train.state` for one process), so a sharded writer can use the same protocol.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path

from mezzotint.io.atomic import atomic_folder, clear_temporary, sync_file, write_text

MANIFEST = "MANIFEST.json"
_NAME = re.compile(r"step-(\d+)")


class CheckpointError(ValueError):
    """A checkpoint that is damaged, incomplete, or does not fit what it is loaded into."""


def write_checkpoint(root: str | Path, step: int, write: Callable[[Path], None], keep: int = 2) -> Path:
    """Write one checkpoint atomically, then remove all but the newest `keep`.

    Args:
        root: folder of checkpoints; made if absent.
        step: steps completed, >= 0; names the folder.
        write: fills the (temporary) folder it is given.
        keep: how many to keep, >= 1.

    Returns:
        The checkpoint's folder.
    Raises:
        OSError: where the disk is full or the folder cannot be written; earlier checkpoints are untouched.
    """
    if keep < 1:
        raise ValueError(f"keep must be at least 1 checkpoint, got {keep}")
    root = Path(root)
    path = root / f"step-{step:08d}"
    try:
        root.mkdir(parents=True, exist_ok=True)
        with atomic_folder(path) as folder:
            write(folder)
            files = sorted(p for p in folder.rglob("*") if p.is_file())
            for file in files:
                sync_file(file)
            entries = {f.relative_to(folder).as_posix(): {"bytes": f.stat().st_size, "sha256": _hash(f)} for f in files}
            write_text(folder / MANIFEST, json.dumps({"format": 1, "step": step, "files": entries}, indent=1))
    except OSError as error:
        raise OSError(
            error.errno,
            f"could not write checkpoint {path} ({error.strerror or error}); earlier ones are untouched",
        ) from error
    _prune(root, keep)
    return path


def verify(folder: str | Path) -> None:
    """Check a checkpoint against its manifest.

    Raises:
        CheckpointError: naming the file, where one is missing, of another size, or of another content.
    """
    folder = Path(folder)
    try:
        files = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))["files"]
        expected = {name: (entry["bytes"], entry["sha256"]) for name, entry in files.items()}
    except FileNotFoundError as error:
        raise CheckpointError(f"{folder / MANIFEST}: missing, so the checkpoint is incomplete") from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{folder / MANIFEST}: damaged ({error})") from error
    for name, (size, digest) in expected.items():
        file = folder / name
        if ".." in Path(name).parts or Path(name).is_absolute():
            raise CheckpointError(f"{folder / MANIFEST}: names a file outside its folder, {name!r}")
        if not file.is_file():
            raise CheckpointError(f"{file}: missing, but its manifest lists it")
        if file.stat().st_size != size:
            raise CheckpointError(f"{file}: {file.stat().st_size} bytes, but its manifest says {size}; truncated?")
        if _hash(file) != digest:
            raise CheckpointError(f"{file}: damaged; its SHA-256 is not the manifest's")
    present = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()} - {MANIFEST}
    if extra := sorted(present - set(expected)):
        raise CheckpointError(f"{folder / extra[0]}: not in the manifest")


def list_checkpoints(root: str | Path) -> list[Path]:
    """Return the checkpoint folders under `root`, oldest first, unverified."""
    root = Path(root)
    if not root.is_dir():
        return []
    return sorted((p for p in root.iterdir() if _NAME.fullmatch(p.name) and p.is_dir()), key=step_of)


def step_of(folder: str | Path) -> int:
    """Return the number of completed steps that a checkpoint's name tells."""
    match = _NAME.fullmatch(Path(folder).name)
    if match is None:
        raise ValueError(f"{folder}: not a checkpoint folder; expected a name like step-00001000")
    return int(match[1])


def newest_checkpoint(root: str | Path) -> Path | None:
    """Return the newest checkpoint whose manifest verifies, or None where there is none at all.

    A damaged one is passed over with a warning that names the file and the cause.

    Raises:
        CheckpointError: where there are checkpoints but every one is damaged: a run should not silently
            start again from nothing.
    """
    causes = []
    for folder in reversed(list_checkpoints(root)):
        try:
            verify(folder)
        except CheckpointError as error:
            causes.append(str(error))
            continue
        for cause in causes:
            warnings.warn(f"damaged checkpoint passed over: {cause}; using {folder.name}", stacklevel=2)
        return folder
    if causes:
        raise CheckpointError(
            f"no checkpoint under {root} is whole: {'; '.join(causes)}. Remove the folder to start again"
        )
    return None


def tidy(root: str | Path, step: int, keep: int) -> None:
    """Finish what killed writers left undone: temporary folders, removals, and what is damaged after `step`.

    Args:
        root: folder of checkpoints, if there is one.
        step: that of the newest whole checkpoint; later ones are damaged.
        keep: how many to keep.
    """
    root = Path(root)
    if not root.is_dir():
        return
    clear_temporary(root)
    for folder in list_checkpoints(root):
        if step_of(folder) > step:
            shutil.rmtree(folder, ignore_errors=True)
    _prune(root, keep)


def _prune(root: Path, keep: int) -> None:
    for old in list_checkpoints(root)[:-keep]:
        shutil.rmtree(old, ignore_errors=True)


def _hash(path: Path) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
