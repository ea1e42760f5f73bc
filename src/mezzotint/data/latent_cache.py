"""Latents made once: mean and standard deviation of every image's posterior, on disk, read row by row."""

from __future__ import annotations

import hashlib
import json
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from mezzotint.data.broken import Broken

__all__ = ["LatentCache", "hash_of", "shard_path"]

_OPEN = 128  # shards mapped at a time


class LatentCache:
    """The cached posteriors of a source's images, read row by row; made by `cache_latents`.

    Args:
        folder: of the cache.
        about: what it was made of, as its cache.json says.
        shards: the rows in each shard.

    Attributes:
        broken: the images that could not be read, and were replaced by the next good one.
    """

    def __init__(self, folder: Path, about: dict[str, Any], shards: Sequence[Tensor]) -> None:
        self.folder, self.about, self.mirrored = folder, about, bool(about["mirror"])
        total = sum(map(len, shards))
        self._shard, self._place = torch.zeros(total, dtype=torch.int32), torch.zeros(total, dtype=torch.int32)
        for number, rows in enumerate(shards):
            self._shard[rows] = number
            self._place[rows] = torch.arange(len(rows), dtype=torch.int32)
        self._files: OrderedDict[int, Any] = OrderedDict()
        spec = about["spec"]
        self._mean, self._std = (torch.tensor(spec[key], dtype=torch.float32)[:, None, None] for key in ("mean", "std"))
        self.broken = Broken(total, 1.0)

    def __len__(self) -> int:
        return len(self._shard)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_files": OrderedDict()}

    def read(
        self, rows: Sequence[int] | Int[Tensor, "b"], mirrored: Sequence[bool] | None = None
    ) -> tuple[Tensor, Tensor | None, list[int]]:
        """Mean and standard deviation of raw latents, and which images they are of.

        Args:
            rows: indices of images, all of one frame.
            mirrored: which of them to take as in a mirror; None for none.

        Returns:
            (b, k, h, w) float32 twice, the second None where the posterior has no width; the image behind each row.

        Raises:
            ValueError: for mirrored latents of a cache made without; a shard that has gone.
        """
        means, stds, used = [], [], []
        for place, row in enumerate(int(r) for r in rows):
            turned = mirrored is not None and bool(mirrored[place])
            if turned and not self.mirrored:
                raise ValueError(f"{self.folder}: was made without mirrored images; make it with mirror=True")
            file, at, ending = self._file(int(self._shard[row])), int(self._place[row]), "_mirrored" if turned else ""
            means.append(file.get_slice("mean" + ending)[at : at + 1].float())
            if "std" in file.keys():
                stds.append(file.get_slice("std" + ending)[at : at + 1].float())
            used.append(int(file.get_slice("index")[at : at + 1]))
        return torch.cat(means), torch.cat(stds) if stds else None, used

    def normalise(self, raw: Tensor) -> Tensor:
        """(raw - mean) / std, channel by channel, as the autoencoder does it."""
        return (raw - self._mean) / self._std

    def verify(self) -> None:
        """Read every shard and compare its content with the SHA-256 it was written with.

        Raises:
            ValueError: naming the first shard that is damaged.
        """
        for number in range(int(self._shard.max()) + 1):
            file = self._file(number)
            if (
                hash_of({name: file.get_tensor(name) for name in file.keys()})
                != json.loads(file.metadata()["shard"])["sha256"]
            ):
                raise ValueError(f"{shard_path(self.folder, number)}: damaged; remove it, and it is made again")

    def _file(self, number: int) -> Any:
        from safetensors import SafetensorError, safe_open

        if number not in self._files:
            while len(self._files) >= _OPEN:
                self._files.popitem(last=False)
            try:
                self._files[number] = safe_open(shard_path(self.folder, number), framework="pt")
            except (OSError, SafetensorError) as error:
                raise ValueError(f"{shard_path(self.folder, number)}: cannot be read ({error})") from error
        self._files.move_to_end(number)
        return self._files[number]


def shard_path(folder: Path, number: int) -> Path:
    """The file of one shard."""
    return folder / f"latents-{number:05d}.safetensors"


def hash_of(state: Mapping[str, Tensor]) -> str:
    """SHA-256 over names, types, shapes and content of some tensors."""
    digest = hashlib.sha256()
    for name in sorted(state):
        value = state[name].detach().cpu().contiguous()
        digest.update(f"{name}\0{value.dtype}\0{tuple(value.shape)}\n".encode())
        digest.update(value.flatten().view(torch.uint8).numpy().data if value.numel() else b"")
    return digest.hexdigest()
