"""The files that a command is about to write: found out before minutes of work that they cannot be, or must not."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

__all__ = ["check_outputs"]


def check_outputs(made: Iterable[Path | None], read: Iterable[Path | None] = ()) -> None:
    """Refuse results that cannot be written, that overwrite each other, or what the command reads.

    Args:
        made: the files to write; None for one that is not wanted.
        read: the files that are read.

    Raises:
        ValueError: naming the file.
    """
    taken = {path.resolve(): "is read by this very command" for path in read if path is not None}
    for path in made:
        if path is None:
            continue
        if path.is_dir() or not path.parent.is_dir():
            raise ValueError(
                f"cannot write {path}: {'it is a folder' if path.is_dir() else 'its folder does not exist'}"
            )
        if (own := path.resolve()) in taken:
            raise ValueError(f"cannot write {path}: it {taken[own]}; results need files of their own")
        taken[own] = "is another result of this command"
