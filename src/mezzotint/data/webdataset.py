"""Tar shards in the WebDataset layout as an index-addressable source, without any dependency."""

from __future__ import annotations

import bisect
import hashlib
import json
import re
import tarfile
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from mezzotint.data.decode import MAX_PIXELS, WHITE, BrokenImage
from mezzotint.data.image_folder import SUFFIXES
from mezzotint.data.images import ImageSource, words_of
from mezzotint.io.atomic import write_text

__all__ = ["WebDatasetSource"]

_BRACES = re.compile(r"\{(\d+)\.\.(\d+)\}")
_FORMAT = 1


class _Sample(NamedTuple):
    """One sample of a shard: where its image and its words start, and how many bytes they are."""

    key: str
    image: tuple[int, int]
    words: tuple[int, int] | None
    json: bool  # the words are JSON, not plain text
    label: int | None


class WebDatasetSource(ImageSource):
    """The samples of uncompressed .tar shards, in the order of the shards and of their members.

    Members of one sample share the path up to the first dot of the file name. A sample's image is its first member
    with an image's suffix; captions come from its .txt (one a line) or .json ("caption", "text" or "prompt"), the label
    from its .cls (an integer). Samples without an image are left out. Random access is a read at a known place: each
    shard is walked through once and its index written beside it (NAME.index.json), whole or not at all.

    Args:
        shards: a .tar file, a folder of them, a list, or a pattern such as "data/train-{000..009}.tar".
        background, max_pixels: see `ImageSource`.

    Raises:
        ValueError: for shards that are missing, compressed, truncated, or hold no image.
    """

    def __init__(
        self,
        shards: str | Path | Sequence[str | Path],
        background: Sequence[float] = WHITE,
        max_pixels: int = MAX_PIXELS,
    ) -> None:
        super().__init__(background, max_pixels)
        self.shards = _expand(shards)
        self._samples = [_index(shard) for shard in self.shards]
        self._starts = [0]
        for samples in self._samples:
            self._starts.append(self._starts[-1] + len(samples))
        if not self._starts[-1]:
            raise ValueError(f"{self.shards[0]}: holds no image ({', '.join(SUFFIXES)})")
        labels = (sample.label for samples in self._samples for sample in samples)
        highest = max((label for label in labels if label is not None), default=-1)
        self.classes = tuple(str(k) for k in range(highest + 1))

    def __len__(self) -> int:
        return self._starts[-1]

    def name(self, index: int) -> str:
        shard, sample = self._sample(index)
        return f"{shard}, sample {sample.key}"

    def encoded(self, index: int) -> bytes:
        shard, sample = self._sample(index)
        return _read(shard, sample.image)

    def captions(self, index: int) -> tuple[str, ...]:
        shard, sample = self._sample(index)
        if sample.words is None:
            return ()
        where = self.name(index)
        try:
            text = _read(shard, sample.words).decode("utf-8-sig")
            told = json.loads(text) if sample.json else None
        except (UnicodeDecodeError, json.JSONDecodeError, BrokenImage) as error:
            raise ValueError(f"{where}: its text cannot be read ({error})") from error
        if not sample.json:
            return tuple(line.strip() for line in text.splitlines() if line.strip())
        if not isinstance(told, dict):
            return ()
        return words_of(next((told[k] for k in ("caption", "text", "prompt") if told.get(k)), None), where)

    def label(self, index: int) -> int | None:
        return self._sample(index)[1].label

    def identity(self) -> dict[str, Any]:
        """Names, sizes and times of change of the shards, hashed."""
        digest = hashlib.sha256()
        for shard in self.shards:
            facts = shard.stat()
            digest.update(f"{shard.name}\0{facts.st_size}\0{facts.st_mtime_ns}\n".encode())
        seen = {"background": list(self.background), "max_pixels": self.max_pixels}
        return {"source": "WebDatasetSource", "images": len(self), "shards": digest.hexdigest(), **seen}

    def _sample(self, index: int) -> tuple[Path, _Sample]:
        place = bisect.bisect_right(self._starts, index) - 1
        return self.shards[place], self._samples[place][index - self._starts[place]]


def _is_image(suffix: str) -> bool:
    return f".{suffix.rsplit('.', 1)[-1]}" in SUFFIXES


def _read(shard: Path, span: tuple[int, int]) -> bytes:
    try:
        with shard.open("rb", buffering=0) as file:
            file.seek(span[0])
            data = file.read(span[1]) or b""
    except (FileNotFoundError, PermissionError) as error:
        raise BrokenImage(f"cannot be read ({error.strerror})") from error
    if len(data) < span[1]:
        raise BrokenImage(f"the shard ends after {len(data)} of its {span[1]} bytes")
    return data


def _expand(shards: str | Path | Sequence[str | Path]) -> list[Path]:
    given = [shards] if isinstance(shards, (str, Path)) else list(shards)
    found: list[Path] = []
    for text in map(str, given):
        if braces := _BRACES.search(text):
            first, last = braces.groups()
            numbers = range(int(first), int(last) + 1)
            found += [Path(f"{text[: braces.start()]}{n:0{len(first)}d}{text[braces.end() :]}") for n in numbers]
        elif Path(text).is_dir():
            found += sorted(p for p in Path(text).glob("*.tar") if not p.name.startswith("."))
        else:
            found.append(Path(text))
    if not found:
        raise ValueError(f"{shards}: holds no .tar shard")
    return [shard.absolute() for shard in found]


def _index(shard: Path) -> list[_Sample]:
    """The samples of a shard that have an image, from its index file where that is of this very shard."""
    try:
        facts = shard.stat()
    except OSError as error:
        raise ValueError(f"{shard}: no such shard ({error.strerror})") from error
    beside = shard.with_name(shard.name + ".index.json")
    owner = {"format": _FORMAT, "bytes": facts.st_size, "mtime_ns": facts.st_mtime_ns}
    try:
        told = json.loads(beside.read_text(encoding="utf-8"))
        if {key: told[key] for key in owner} == owner:
            return [_restored(*row) for row in told["samples"]]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        pass  # none yet, of another shard, or damaged: it is made anew
    samples = _walk(shard, facts.st_size)
    try:
        write_text(beside, json.dumps({**owner, "samples": samples}))
    except OSError as error:
        warnings.warn(f"{beside}: the index cannot be kept ({error.strerror}); it is made at each start", stacklevel=4)
    return samples


def _restored(key: str, image: list[int], words: list[int] | None, is_json: bool, label: int | None) -> _Sample:
    (start, size), span = image, None if words is None else (words[0], words[1])
    return _Sample(key, (start, size), span, is_json, label)


def _walk(shard: Path, size: int) -> list[_Sample]:
    found: dict[str, dict[str, tuple[int, int]]] = {}
    labels: dict[str, int] = {}
    try:
        with tarfile.open(shard, "r:") as archive:
            for member in archive:
                folder, _, file = member.name.rpartition("/")
                stem, dot, suffix = file.partition(".")
                if not member.isreg() or not stem or not dot:
                    continue
                if member.offset_data + member.size > size:
                    raise tarfile.ReadError(f"{member.name} is cut off")
                key, suffix = f"{folder}/{stem}" if folder else stem, suffix.lower()
                found.setdefault(key, {}).setdefault(suffix, (member.offset_data, member.size))
                if suffix == "cls":
                    labels[key] = _class(_read(shard, (member.offset_data, member.size)), f"{shard}, {member.name}")
            if archive.offset + 512 > size:
                warnings.warn(f"{shard}: has no end mark; was it cut off between two members?", stacklevel=5)
    except (tarfile.TarError, EOFError) as error:
        raise ValueError(
            f"{shard}: not a whole, uncompressed tar file ({error}); unpack a compressed one (gunzip), copy a "
            "truncated one again"
        ) from error
    samples = []
    for key, members in found.items():
        image = next((span for suffix, span in members.items() if _is_image(suffix)), None)
        if image is not None:
            is_json = "txt" not in members
            words = members.get("json" if is_json else "txt")
            samples.append(_Sample(key, image, words, is_json, labels.get(key)))
    return samples


def _class(data: bytes, where: str) -> int:
    text = data.strip()
    if not text.isdigit():
        raise ValueError(f"{where}: {text[:40]!r} is no class index")
    return int(text)
