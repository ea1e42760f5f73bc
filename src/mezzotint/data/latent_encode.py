"""Encoding a whole source into a `LatentCache`: resumable, and refused where it would be another's."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import torch
from jaxtyping import Int
from torch import Tensor

from mezzotint.data.broken import Broken
from mezzotint.data.framing import Framing
from mezzotint.data.images import ImageSource, as_images
from mezzotint.data.latent_cache import LatentCache, hash_of, shard_path
from mezzotint.data.loader import Loader, Samples
from mezzotint.data.source import Source
from mezzotint.io.atomic import clear_temporary, write_text
from mezzotint.io.safe import read_header, save_state
from mezzotint.latent.autoencoder import Autoencoder

__all__ = ["cache_latents"]

_ABOUT, _FORMAT = "cache.json", 1
_TYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


@torch.no_grad()
def cache_latents(
    source: Source | ImageSource,
    autoencoder: Autoencoder,
    framing: Framing,
    folder: str | Path,
    *,
    frames: tuple[Int[Tensor, "n"], Sequence[tuple[int, int]]] | None = None,
    mirror: bool = False,
    dtype: Literal["float32", "float16", "bfloat16"] = "float32",
    batch: int = 64,
    shard: int = 1024,
    workers: int = 0,
    share: float = 0.01,
) -> LatentCache:
    """Encode every image once, or go on with what the folder holds, or just open it where it is whole.

        mean, std = moments(framing(image));    later   raw = mean + std eps,   eps new at every step

    Shards are written one by one, each whole or not at all, so what a killed process has done is kept. The folder
    remembers the autoencoder's weights and statistics, the data and the framing; a cache of anything else is refused.
    Several processes may call this at once: one works, the others wait for it.

    Args:
        source: images.
        autoencoder: finished; it stays on its device, where the work is done.
        framing: without randomness, such as `Cover(256)`.
        folder: of the cache; made if absent.
        frames: (assignment, frames) of aspect buckets, as `Bucketed` takes them; None for the framing's own frame.
        mirror: also encode the mirrored images, for random flips.
        dtype: in which latents are stored.
        batch: images encoded together.
        shard: images a file.
        workers: processes that decode images.
        share: of the images that may be broken; each is replaced by the next good one.

    Raises:
        ValueError: for a cache of something else (what differs is named), random framing, frames that the
            autoencoder's factor does not divide, or too many broken images.
    """
    images, folder = as_images(source), Path(folder)
    if batch < 1 or shard < 1 or dtype not in _TYPES:
        raise ValueError(
            f"the cache got batch={batch}, shard={shard}, dtype={dtype!r}; expected 1 or more, {list(_TYPES)}"
        )
    if not getattr(framing, "fixed", True):
        raise ValueError(
            f"{framing} frames an image in another way at each step, but a cache holds one frame of it; take the "
            "centre crop, flip=0, and mirror=True for mirrored images"
        )
    shards, shapes = _plan(len(images), frames, shard)
    if bad := [f for f in shapes if f is not None and any(side % autoencoder.spec.factor for side in f)]:
        raise ValueError(f"the autoencoder's factor {autoencoder.spec.factor} does not divide the frame {bad[0]}")
    about = {
        "format": _FORMAT,
        "autoencoder": _weights(autoencoder),
        "spec": autoencoder.spec.to_dict(),
        "data": images.identity(),
        "framing": repr(framing)
        if dataclasses.is_dataclass(framing)
        else getattr(framing, "__qualname__", type(framing).__qualname__),
        "frames": None if frames is None else hash_of({"assignment": frames[0], "frames": torch.tensor(frames[1])}),
        "mirror": mirror,
        "dtype": dtype,
        "shard": shard,
    }
    about = json.loads(json.dumps(about))
    cache = LatentCache(folder, about, shards)
    folder.mkdir(parents=True, exist_ok=True)
    with _held(folder):
        clear_temporary(folder)
        _check_owner(folder, about)
        writer = _Writer(images, autoencoder, framing, batch, workers, share, mirror, _TYPES[dtype])
        mark = hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()
        for number, (rows, shape) in enumerate(zip(shards, shapes)):
            found = _found(shard_path(folder, number), mark, number, len(rows))
            if found is None:
                state, met = writer.encode(rows, shape)
                found = {"of": mark, "number": number, "broken": met, "sha256": hash_of(state)}
                # one text, since safetensors writes several in an order that changes from run to run
                save_state(state, shard_path(folder, number), metadata={"shard": json.dumps(found)})
            writer.broken.add({int(i): why for i, why in found["broken"].items()}, warn=False)
    cache.broken = writer.broken
    return cache


class _Writer:
    """Encodes rows of a source."""

    def __init__(
        self,
        images: ImageSource,
        autoencoder: Autoencoder,
        framing: Framing,
        batch: int,
        workers: int,
        share: float,
        mirror: bool,
        dtype: torch.dtype,
    ) -> None:
        self.images, self.autoencoder, self.framing, self.batch = images, autoencoder, framing, batch
        self.workers, self.mirror, self.dtype = workers, mirror, dtype
        self.broken = Broken(len(images), share)

    def encode(self, rows: Int[Tensor, "m"], shape: tuple[int, int] | None) -> tuple[dict[str, Tensor], dict[int, str]]:
        order = _InTurn(rows, shape, min(self.batch, len(rows)))
        loader = Loader(self.images, order, self.framing, make=_itself, workers=self.workers, share=self.broken.share)
        parts: dict[str, list[Tensor]] = {}
        try:
            for step in range(-(-len(rows) // order.batch)):
                count = min(order.batch, len(rows) - step * order.batch)
                samples = loader.samples(step, range(count))
                parts.setdefault("index", []).append(torch.tensor(samples.indices))
                for name, value in self._moments(samples):
                    parts.setdefault(name, []).append(value.cpu())
        finally:
            loader.close()
        return {name: torch.cat(values) for name, values in parts.items()}, loader.broken.found

    def _moments(self, samples: Samples) -> Iterator[tuple[str, Tensor]]:
        x = samples.images.to(self.autoencoder.latent_mean.device)
        for ending, view in (("", x), ("_mirrored", x.flip(3)))[: 1 + self.mirror]:
            mean, variance = self.autoencoder.moments(view)
            yield "mean" + ending, mean.to(self.dtype)
            if variance is not None:
                yield "std" + ending, variance.sqrt().to(self.dtype)


class _InTurn:
    """Some rows in their order, in batches; the last is filled up with the first rows, which nobody asks for."""

    def __init__(self, rows: Int[Tensor, "m"], shape: tuple[int, int] | None, batch: int) -> None:
        self.listed, self.shape, self.batch = rows, shape, batch

    def __call__(self, seed: int, step: int) -> tuple[Tensor, tuple[int, int] | None]:
        places = torch.arange(step * self.batch, (step + 1) * self.batch) % len(self.listed)
        return self.listed[places], self.shape


def _itself(samples: Samples) -> Samples:
    return samples


def _plan(
    total: int, frames: tuple[Tensor, Sequence[tuple[int, int]]] | None, shard: int
) -> tuple[list[Tensor], list[tuple[int, int] | None]]:
    """The rows of each shard, and their frame."""
    if frames is None:
        groups: list[tuple[Tensor, tuple[int, int] | None]] = [(torch.arange(total), None)]
    else:
        assignment, shapes = frames
        if len(assignment) != total:
            raise ValueError(f"{total} images came with an assignment of {len(assignment)}")
        groups = [((assignment == k).nonzero()[:, 0], (int(h), int(w))) for k, (h, w) in enumerate(shapes)]
    cut = [(rows, shape) for all_rows, shape in groups for rows in all_rows.split(shard) if len(rows)]
    return [rows for rows, _ in cut], [shape for _, shape in cut]


def _found(path: Path, mark: str, number: int, count: int) -> dict[str, Any] | None:
    """The header of a shard that is whole and in its place; None where it has to be made."""
    from safetensors import safe_open

    if not path.exists():
        return None
    try:
        header = read_header(path)
        with safe_open(path, framework="pt") as file:
            told = json.loads((file.metadata() or {})["shard"])
        if told["of"] == mark and told["number"] == number and header["mean"]["shape"][0] == count:
            return told
        cause = "is another shard's or another cache's"
    except (ValueError, KeyError) as error:
        cause = str(error)
    warnings.warn(f"{path}: made again ({cause})", stacklevel=4)
    return None


def _check_owner(folder: Path, about: Mapping[str, Any]) -> None:
    file = folder / _ABOUT
    try:
        told = json.loads(file.read_text(encoding="utf-8"))
        there, now = _flat(told), _flat(about)
    except FileNotFoundError:
        if others := [p.name for p in folder.iterdir() if not p.name.startswith(".")]:
            raise ValueError(f"{folder}: is no latent cache and not empty ({others[0]}); give another folder") from None
        write_text(file, json.dumps(about, indent=1))
        return
    except (OSError, ValueError, AttributeError) as error:
        raise ValueError(f"{file}: damaged ({error}); remove the folder to encode the images again") from error
    differ = [key for key in {**there, **now} if there.get(key) != now.get(key)]
    if differ:
        named = "; ".join(f"{k}: {_short(there.get(k))} there, {_short(now.get(k))} now" for k in differ[:6])
        raise ValueError(
            f"{folder}: these latents are of something else ({named}); give another folder, or remove it to encode the "
            "images again"
        )


def _flat(value: Any, name: str = "") -> dict[str, Any]:
    if isinstance(value, Mapping):
        return {k: v for key, inner in value.items() for k, v in _flat(inner, f"{name}.{key}" if name else key).items()}
    return {name: value}


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _weights(autoencoder: Autoencoder) -> dict[str, str]:
    """What an autoencoder's latents depend on, but for the statistics, which its spec tells."""
    state = {k: v for k, v in autoencoder.state_dict().items() if k not in ("latent_mean", "latent_std")}
    config = json.dumps(getattr(autoencoder, "config", None), sort_keys=True, default=str)
    return {"class": type(autoencoder).__qualname__, "config": config, "weights": hash_of(state)}


@contextmanager
def _held(folder: Path) -> Iterator[None]:
    """Only one process at a time; the lock dies with it."""
    with (folder / ".lock").open("w") as lock:
        try:
            import fcntl

            fcntl.lockf(lock, fcntl.LOCK_EX)
        except (ImportError, OSError):  # Windows, or a file system without locks: the same files, twice
            pass
        yield
