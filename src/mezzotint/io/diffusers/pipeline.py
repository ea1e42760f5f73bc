"""The entry: a pipeline folder or hub id to a Model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from mezzotint.io.diffusers.load import download, read_pipeline
from mezzotint.io.diffusers.place import offload_parts

if TYPE_CHECKING:
    from mezzotint.model import Model

__all__ = ["load_pipeline"]

_HUB = ("revision", "cache_dir", "token", "local_files_only")


def load_pipeline(
    source: str | Path, device: torch.device | str | None = None, *, offload: str | None = None, **options: Any
) -> Model:
    """A Model from a diffusers pipeline.

    Args:
        source: a folder, or a hub id.
        device, offload, options: see `mezzotint.load`.

    Raises:
        ValueError: see `mezzotint.load`.
    """
    from mezzotint.model import Model

    hub = {key: options.pop(key) for key in _HUB if key in options}
    path = Path(source)
    if not path.is_dir():
        kept = {key: options[key] for key in ("variant", "allow_pickle") if key in options}
        path = download(str(source), **kept, **hub)
    placed = options.get("device_map") is not None
    if placed and (device is not None or offload is not None):
        raise ValueError("device_map places the weights itself; leave out device and offload")
    pieces, origin = read_pipeline(path, **options)
    model = Model(
        pieces.denoiser,
        pieces.autoencoder,
        pieces.conditioner,
        size=pieces.size,
        defaults=pieces.defaults,
        name=path.resolve().name if path == Path(source) else str(source),
    ).eval()
    model.source = origin
    if offload is not None:
        offload_parts(origin.parts, offload, device)  # type: ignore[arg-type]
        return model
    return model if device is None or placed else model.to(device)
