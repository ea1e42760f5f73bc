"""Captions and labels from files beside the images: metadata.jsonl, metadata.csv, other .jsonl, and .txt."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from mezzotint.data.images import words_of

__all__ = ["Entry", "beside", "read_metadata", "words_in_name"]

_FILE = ("file_name", "file", "image", "path")
_CAPTION = ("text", "caption", "captions", "prompt")
_LABEL = ("label", "class")


@dataclass(frozen=True)
class Entry:
    """What a metadata file says of one image."""

    captions: tuple[str, ...] = ()
    label: int | str | None = None


def read_metadata(root: Path, files: list[str]) -> dict[str, Entry]:
    """Entries of all .jsonl files and of every metadata.csv, keyed by the image's path under `root`.

    Args:
        root: the folder of images.
        files: paths of the metadata files under it; their image names are relative to the file's own folder.

    Raises:
        ValueError: naming file and line, for what is not JSON, lacks an image name, or names one outside `root`.
    """
    found: dict[str, Entry] = {}
    for name in files:
        for line, row in _rows(root / name):
            where = f"{root / name}, line {line}"
            image = next((row[key] for key in _FILE if isinstance(row.get(key), str) and row[key]), None)
            if image is None:
                raise ValueError(f"{where}: names no image; expected a key {' or '.join(map(repr, _FILE))}")
            caption = next((row[key] for key in _CAPTION if row.get(key) is not None), None)
            label = next((row[key] for key in _LABEL if row.get(key) not in (None, "")), None)
            if label is not None and (isinstance(label, bool) or not isinstance(label, (int, str))):
                raise ValueError(f"{where}: a label is an integer or a name, not {label!r}")
            found[_inside(PurePosixPath(name).parent, image, where)] = Entry(words_of(caption, where), label)
    return found


def beside(path: Path) -> tuple[str, ...]:
    """The captions in the .txt file of an image, one a line; none where there is no such file.

    Raises:
        ValueError: for a file that is not UTF-8.
    """
    text = path.with_suffix(".txt")
    try:
        lines = text.read_text(encoding="utf-8-sig").splitlines()
    except (FileNotFoundError, NotADirectoryError):
        return ()
    except UnicodeDecodeError as error:
        raise ValueError(f"{text}: not UTF-8 text ({error}); save it as UTF-8") from error
    return tuple(line.strip() for line in lines if line.strip())


def words_in_name(name: str) -> str:
    """The words of a file's name.

    >>> words_in_name("birds/red-crested_turaco.jpg")
    'red crested turaco'
    """
    return " ".join(PurePosixPath(name).stem.replace("_", " ").replace("-", " ").split())


def _rows(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            if path.suffix.lower() == ".csv":
                reader = csv.DictReader(file, restkey="")
                for row in reader:
                    yield reader.line_num, {str(key).strip(): value for key, value in row.items()}
                return
            for number, line in enumerate(file, 1):
                if line.strip():
                    row = json.loads(line)
                    if not isinstance(row, dict):
                        raise ValueError(f"{path}, line {number}: expected a JSON object, got {line.strip()[:40]!r}")
                    yield number, row
    except json.JSONDecodeError as error:
        raise ValueError(f"{path}, line {number}: not JSON ({error})") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not UTF-8 text ({error}); save it as UTF-8") from error
    except csv.Error as error:
        raise ValueError(f"{path}: not CSV ({error})") from error


def _inside(folder: PurePosixPath, image: str, where: str) -> str:
    parts: list[str] = []
    for part in (folder / image.replace("\\", "/")).parts:
        if part == "..":
            if not parts:
                raise ValueError(f"{where}: {image!r} is outside the folder of images")
            parts.pop()
        else:
            parts.append(part)
    if image.startswith("/"):
        raise ValueError(f"{where}: {image!r} is an absolute path; give it relative to the metadata file")
    return "/".join(parts)
